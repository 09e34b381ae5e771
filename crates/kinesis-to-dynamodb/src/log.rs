//! Log lines: how they look, and the library's events as lines. Never a record's data.

use kinesis_consumer::Event;
use kinesis_consumer_metrics::Metrics;
use tracing::{debug, info};
use tracing_subscriber::EnvFilter;

use crate::{Settings, settings::LogFormat};

/// Starts logging to standard error.
///
/// # Errors
/// Something in this process logs already.
pub fn start(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on standard error, which panics where that is gone.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Writes an event as a line.
pub(crate) fn event(event: &Event, metrics: &Metrics) {
    match event {
        // Routine where other applications read the stream too, and counted in any case; but
        // whoever is throttled for hours is to see it.
        Event::Throttled {
            shard, operation, ..
        } => {
            let shard = shard.as_ref().map(ToString::to_string);
            debug!(shard, operation, "throttled");
            if let Some(times) = metrics.seldom(operation) {
                info!(operation, times, "throttled; it is tried again");
            }
        }
        // Whoever keeps rejects says so, with where.
        Event::Rejected { .. } | Event::AggregateRejected { .. } => {}
        event => event.log(),
    }
}
