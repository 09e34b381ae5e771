//! The admin port: `/metrics`, `/livez`, `/readyz` over HTTP.
//!
//! Ready means: KEDA gets answers, errors included. So readiness does not depend on AWS.

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, watch::Watchers};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/metrics`.
    pub watchers: Arc<Watchers>,
    /// For `/metrics`: ages shard by shard, too.
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
        .with_state(admin);
    axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let now = Timestamp::now();
    let applications = admin.watchers.applications();
    let gauges = applications
        .iter()
        .map(|(source, application)| application.gauges(source, now, admin.per_shard));
    let text = admin
        .metrics
        .encode(admin.watchers.counts(), gauges.collect());
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}
