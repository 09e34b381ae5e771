//! Log lines: how they look, and the library's events as lines. Never a record's data.

use kinesis_consumer::event::Event;
use tracing::{debug, info, warn};
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
        .with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Tells an event.
pub(crate) fn event(event: &Event) {
    match event {
        Event::Admitted => info!("consuming"),
        Event::LeaseAcquired { shard, from } => info!(shard, from, "lease acquired"),
        Event::LeaseLost { shard } => warn!(shard, "lease lost"),
        Event::HandoverAsked { shard, holder } => info!(shard, holder, "asked for a lease"),
        Event::HandedOver { shard, to } => info!(shard, to, "lease handed over"),
        Event::LeaseReleased { shard } => info!(shard, "lease given up"),
        Event::ShardStarted { shard, checkpoint } => info!(shard, %checkpoint, "shard started"),
        Event::ShardEnded { shard, children } => info!(shard, ?children, "shard ended"),
        Event::Processed {
            shard,
            records,
            bytes,
            millis_behind_latest,
            took,
        } => {
            debug!(
                shard,
                records,
                bytes,
                millis_behind_latest,
                ?took,
                "batch stored"
            );
        }
        Event::Polled {
            shard,
            millis_behind_latest,
        } => tracing::trace!(shard, millis_behind_latest, "no records"),
        Event::Checkpointed { shard, checkpoint } => debug!(shard, %checkpoint, "checkpoint"),
        Event::ProcessorFailed {
            shard,
            attempt,
            error,
            retry_in,
        } => {
            warn!(
                shard,
                attempt,
                error,
                ?retry_in,
                "batch failed; it is tried again"
            );
        }
        Event::Throttled { shard, operation } => debug!(shard, operation, "throttled"),
        Event::Retrying {
            shard,
            operation,
            error,
        } => warn!(shard, operation, error, "call failed; it is tried again"),
        Event::CheckpointExpired { shard, checkpoint } => {
            warn!(shard, %checkpoint, "records were lost to the stream's retention; reading goes on at the oldest one");
        }
        Event::LeasesCreated { shards } => info!(?shards, "leases created"),
        Event::LeaseDeleted { shard } => info!(shard, "lease of a finished shard deleted"),
        other => debug!(event = ?other, "event"),
    }
}
