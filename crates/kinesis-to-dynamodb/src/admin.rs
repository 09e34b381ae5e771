//! The admin port: `/metrics`, `/livez`, `/readyz`, and `/state` as JSON.

use std::{future::Future, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Serves until `shutdown` resolves.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "admin port");
    }
    let app = Router::new()
        .route(
            "/metrics",
            get(async |State(metrics): State<Arc<Metrics>>| {
                (
                    [(
                        CONTENT_TYPE,
                        "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    )],
                    metrics.text(),
                )
            }),
        )
        // Answers while the runtime turns: the worker ends by itself where a restart may help. A
        // shard that stands still is for an alert on its lag: a restart would not help it.
        .route(
            "/livez",
            get(async |State(metrics): State<Arc<Metrics>>| metrics.state.liveness()),
        )
        .route(
            "/readyz",
            get(
                async |State(metrics): State<Arc<Metrics>>| match metrics.state.readiness() {
                    Some(text) => (StatusCode::OK, text),
                    None => (StatusCode::SERVICE_UNAVAILABLE, "not consuming".to_owned()),
                },
            ),
        )
        .route(
            "/state",
            get(async |State(metrics): State<Arc<Metrics>>| {
                (
                    [(CONTENT_TYPE, "application/json")],
                    metrics.state().to_string(),
                )
            }),
        )
        .with_state(metrics);
    if let Err(error) = axum::serve(listener, app)
        .with_graceful_shutdown(shutdown)
        .await
    {
        tracing::warn!(%error, "the admin port failed");
    }
}
