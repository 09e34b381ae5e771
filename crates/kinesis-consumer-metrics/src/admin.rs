//! The admin port: `/metrics`, `/livez`, `/readyz`, and `/state` as JSON.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::Metrics;

/// Serves until it is dropped. `state` is the program's own answer to `/state`.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    state: impl Fn() -> Value + Clone + Send + Sync + 'static,
) {
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
        // Answers while the runtime turns: the worker ends by itself where a restart may help. A
        // shard that stands still is for an alert on its lag: a restart would not help it.
        .route(
            "/livez",
            get(async |State(metrics): Of| metrics.state.liveness()),
        )
        .route(
            "/readyz",
            get(async |State(metrics): Of| match metrics.state.readiness() {
                Some(text) => (StatusCode::OK, text),
                None => (StatusCode::SERVICE_UNAVAILABLE, "not consuming".to_owned()),
            }),
        )
        .route(
            "/state",
            get(async move || ([(CONTENT_TYPE, "application/json")], state().to_string())),
        )
        .with_state(metrics);
    if let Err(error) = axum::serve(listener, app).await {
        tracing::warn!(%error, "the admin port failed");
    }
}
