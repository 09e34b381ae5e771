//! Log lines on standard output, as the Java daemon has them there; children's standard error is
//! passed on beside it.

use clap::ValueEnum;
use kinesis_consumer::Event;
use kinesis_consumer_metrics::Metrics;
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging.
///
/// # Errors
/// The level is none, or something in this process logs already.
pub fn start(format: Format, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on standard error, which panics where that is gone.
        .log_internal_errors(false);
    let started = match format {
        Format::Text => lines.with_ansi(false).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Writes an event of the library's as a line.
pub(crate) fn event(event: &Event, metrics: &Metrics) {
    match event {
        // What test tools wait for in the Java daemon's log.
        Event::Admitted => info!("Initialization complete. Starting worker loop."),
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
        Event::ProcessorFailed {
            shard,
            attempt,
            error,
            retry_in,
            ..
        } if !retry_in.is_zero() => {
            warn!(%shard, attempt, error, ?retry_in, "child failed; its shard goes on anew");
        }
        Event::ProcessorFailed { shard, error, .. } => {
            warn!(%shard, error, "child failed as its shard was given up");
        }
        event => event.log(),
    }
}
