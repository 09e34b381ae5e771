//! The admin port: `/metrics`, `/livez`, `/readyz` and `/explain` over HTTP.
//!
//! Ready means: KEDA gets answers, errors included. So readiness does not depend on AWS.

use std::{future::Future, io, net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, Path, RawQuery, Request, State, connect_info::Connected},
    http::{
        StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
    serve::IncomingStream,
};
use serde::Serialize;
use tokio::{runtime::Handle, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{accept::Listener, connection::is_loopback, live::Live};
use crate::{
    config::Explain,
    metrics::{FailingObject, Metrics, Scrape},
    report::{
        explain,
        gauges::gauges,
        journal::{Asker, Journal},
    },
    watch::Watchers,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// ScaledObjects that fail, by name: each is a time series. All are counted.
const MOST_LISTED: usize = 100;

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/metrics` and `/explain`.
    pub watchers: Arc<Watchers>,
    /// For `/explain`.
    pub journal: Arc<Journal>,
    /// Who may see what.
    pub live: watch::Receiver<Arc<Live>>,
    /// When cancelled, no longer ready.
    pub draining: CancellationToken,
}

/// Serves until `end`.
///
/// # Errors
/// The listener fails.
pub(super) async fn serve(
    listener: Listener,
    admin: Admin,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let explain = Router::new()
        .route("/explain", get(all_explained))
        .route("/explain/{namespace}/{name}", get(explained))
        .route_layer(middleware::from_fn_with_state(admin.clone(), may_see));
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .merge(explain)
        .with_state(admin)
        .into_make_service_with_connect_info::<Client>();
    axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
struct Client(IpAddr);

impl Connected<IncomingStream<'_, Listener>> for Client {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(stream.remote_addr().ip())
    }
}

/// Answers for `/explain` to those who may see it, and says to others which setting decides.
async fn may_see(
    State(admin): State<Admin>,
    ConnectInfo(Client(address)): ConnectInfo<Client>,
    request: Request,
    next: Next,
) -> Response {
    let explain = admin.live.borrow().explain;
    let refused = match explain {
        Explain::All => None,
        Explain::Loopback if is_loopback(address) => None,
        Explain::Loopback => Some(
            "/explain is for the scaler's own address only (explain: loopback): use kubectl port-forward\n",
        ),
        Explain::None => Some("/explain is off (explain: none)\n"),
    };
    // A page of somebody else's, whose name was made to mean this machine, has its own name here.
    let host = request.headers().get(HOST).and_then(|it| it.to_str().ok());
    let refused = refused.or_else(|| {
        let is_foreign = is_loopback(address) && !host.is_none_or(is_local);
        is_foreign.then_some("from this machine /explain is asked by an address, or as localhost\n")
    });
    match refused {
        None => next.run(request).await,
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
    }
}

/// Is a host, with or without a port, an address, or a name that nobody can register?
fn is_local(host: &str) -> bool {
    let url = url::Url::parse(&format!("http://{host}/"));
    match url.as_ref().map(url::Url::host) {
        Ok(Some(url::Host::Domain(name))) => !name.contains('.'),
        Ok(Some(_)) => true,
        _ => false,
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let now = Instant::now();
    let per_shard = admin.live.borrow().per_shard;
    let max_stale = admin.watchers.pace().max_stale;
    let applications = admin.watchers.applications();
    let all = applications.iter().map(|(source, application, decisions)| {
        gauges(source, application, decisions, now, max_stale, per_shard)
    });
    let (failing, listed) = admin.journal.failing(MOST_LISTED);
    let text = admin.metrics.encode(Scrape {
        watchers: admin.watchers.counts(),
        applications: all.collect(),
        failing,
        failing_objects: listed
            .into_iter()
            .map(|(Asker { namespace, name }, code)| FailingObject {
                namespace,
                name,
                code,
            })
            .collect(),
        tasks: Handle::current().metrics().num_alive_tasks(),
    });
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn all_explained(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let after = query.as_deref().and_then(Asker::of_query);
    let index = explain::index(&admin.journal, after.as_ref());
    shown(query.as_deref(), &index, explain::page::index)
}

async fn explained(
    State(admin): State<Admin>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let asker = Asker { namespace, name };
    match explain::object(&admin.journal, &admin.watchers, &asker) {
        Some(object) => shown(query.as_deref(), &object, explain::page::object),
        None => {
            let text = match admin.journal.forgot_lately() {
                false => {
                    "this ScaledObject did not ask within the last hour; /explain has those that did\n"
                }
                true => {
                    "nothing is known of this ScaledObject: either it did not ask within the last hour, or its answers \
                     made room for others (limits.journal); /explain has those that are known\n"
                }
            };
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

/// With `?format=json` a value for tools, else a page.
fn shown<T: Serialize>(query: Option<&str>, view: &T, page: fn(&T) -> String) -> Response {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let json = pairs
        .into_iter()
        .any(|pair| pair == ("format".into(), "json".into()));
    let body = if json {
        match serde_json::to_vec(view) {
            Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    } else {
        Html(page(view)).into_response()
    };
    let headers = [
        (CONTENT_SECURITY_POLICY, explain::CONTENT_SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}
