//! The admin port: `/metrics`, `/livez`, `/readyz`, and `/state` as JSON.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "admin port");
    }
    type Of = State<Arc<Metrics>>;
    let text = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let app = Router::new()
        .route(
            "/metrics",
            get(async move |State(metrics): Of| ([(CONTENT_TYPE, text)], metrics.text())),
        )
        // Answers while the runtime turns: a child that stands still is for an alert on its lag.
        .route("/livez", get(async || "alive"))
        .route(
            "/readyz",
            get(async |State(metrics): Of| match metrics.is_ready() {
                true => (StatusCode::OK, "consuming"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "not consuming"),
            }),
        )
        .route(
            "/state",
            get(async |State(metrics): Of| {
                (
                    [(CONTENT_TYPE, "application/json")],
                    metrics.state().to_string(),
                )
            }),
        )
        .with_state(metrics);
    if let Err(error) = axum::serve(listener, app).await {
        tracing::warn!(%error, "the admin port failed");
    }
}
