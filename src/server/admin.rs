//! The admin port: `/metrics`, `/livez`, `/readyz` and `/explain` over HTTP.
//!
//! Ready means: KEDA gets answers, errors included. So readiness does not depend on AWS.

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{
        StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{Html, IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    report::{
        explain,
        gauges::gauges,
        journal::{Asker, Journal},
    },
    watch::Watchers,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/metrics` and `/explain`.
    pub watchers: Arc<Watchers>,
    /// For `/explain`.
    pub journal: Arc<Journal>,
    /// Shows the age of each shard's oldest unread record in `/metrics`, too.
    pub per_shard: bool,
    /// When cancelled, no longer ready.
    pub draining: CancellationToken,
}

/// Serves until `end`.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/explain", get(all_explained))
        .route("/explain/{namespace}/{name}", get(explained))
        .with_state(admin);
    axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let now = Timestamp::now();
    let applications = admin.watchers.applications();
    let all = applications.iter().map(|(source, application, decisions)| {
        gauges(source, application, decisions, now, admin.per_shard)
    });
    let text = admin.metrics.encode(admin.watchers.counts(), all.collect());
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
    let index = explain::index(&admin.journal);
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
            let text =
                "this ScaledObject did not ask within the last hour; /explain has those that did\n";
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
