//! Events as lines of `tracing`.

use tracing::{debug, error, info, trace, warn};

use super::Event;
use crate::model::{keys::LeaseKey, sequence::Checkpoint};

/// From so many failures in a row on, a processor does not get over it by itself.
const STUCK: u32 = 5;

impl Event {
    /// Writes the event as a line of `tracing`: what a worker does with each one that has no sink
    /// of its own ([`Worker::on_event`](crate::Worker::on_event)). Never a record's data.
    ///
    /// Failures, throttling, lost leases, rejected and lost records are warnings, a processor that
    /// fails again and again an error; leases and shards that come and go are `info`, batches and
    /// checkpoints `debug`, empty pages and calls of the
    /// lease table `trace`.
    pub fn log(&self) {
        match self {
            Self::Admitted => info!("consuming"),
            Self::Led { leader } => info!(leader, "a KCL 3 leader assigns the leases"),
            Self::Unled => info!("no KCL 3 leader assigns the leases: they are taken"),
            Self::LeaseAcquired { shard, from } => info!(%shard, from, "lease acquired"),
            Self::LeaseLost { shard } => warn!(%shard, "lease lost"),
            Self::HandoverAsked { shard, holder } => info!(%shard, holder, "asked for a lease"),
            Self::HandedOver { shard, to } => info!(%shard, to, "lease handed over"),
            Self::LeaseReleased { shard } => info!(%shard, "lease given up"),
            Self::ShardStarted { shard, checkpoint } => info!(%shard, %checkpoint, "shard started"),
            Self::ShardEnded { shard, children } => info!(%shard, ?children, "shard ended"),
            Self::ShardEndWaits {
                shard,
                acknowledged,
                delivered,
                retry_in,
            } => warn!(
                %shard, %acknowledged, %delivered, ?retry_in,
                "the shard is read to its end, but not acknowledged: its children wait"
            ),
            Self::Fetched {
                shard,
                records,
                covered,
            } => trace!(%shard, records, covered, "records read"),
            Self::GivenBack { shard, records } => debug!(%shard, records, "records given back"),
            Self::Processed {
                shard,
                records,
                rejected,
                bytes,
                millis_behind_latest,
                took,
            } => debug!(
                %shard, records, rejected, bytes, millis_behind_latest, ?took, "batch processed"
            ),
            Self::ConsumerRegistered { consumer } => info!(
                consumer,
                "a consumer for enhanced fan-out is registered; it costs until it is deregistered"
            ),
            Self::Subscribed { shard, consumer } => debug!(%shard, consumer, "subscribed"),
            Self::FellBackToPolling { consumer, error } => {
                warn!(
                    consumer,
                    error, "no consumer can be registered: the worker polls"
                );
            }
            Self::Polled {
                shard,
                millis_behind_latest,
            } => trace!(%shard, millis_behind_latest, "no records"),
            Self::Checkpointed { shard, checkpoint } => debug!(%shard, %checkpoint, "checkpoint"),
            Self::TableUsed {
                operation,
                read_units,
                write_units,
            } => trace!(operation, read_units, write_units, "lease table used"),
            Self::Rejected {
                shard,
                position,
                reason,
            } => warn!(%shard, %position, reason, "record rejected"),
            Self::AggregateRejected {
                shard,
                position,
                records,
                bytes,
                reason,
            } => warn!(%shard, %position, records, bytes, %reason, "aggregate rejected"),
            Self::ProcessorFailed {
                shard,
                attempt,
                error,
                retry_in,
            } if *attempt >= STUCK => {
                error!(%shard, attempt, error, ?retry_in, "batch fails again and again");
            }
            Self::ProcessorFailed {
                shard,
                attempt,
                error,
                retry_in,
            } => {
                warn!(%shard, attempt, error, ?retry_in, "batch failed; it is tried again");
            }
            Self::Throttled { shard, operation } => {
                warn!(
                    shard = name(shard),
                    operation, "throttled; it is tried again"
                );
            }
            Self::Retrying {
                shard,
                operation,
                error,
            } => {
                warn!(
                    shard = name(shard),
                    operation, error, "call failed; it is tried again"
                );
            }
            Self::CheckpointExpired {
                shard,
                checkpoint: Checkpoint::ShardEnd,
                ..
            } => warn!(
                %shard,
                "records may be lost: the lease said SHARD_END while the shard was open, and the shard \
                 was resharded before anybody read it"
            ),
            Self::CheckpointExpired {
                shard,
                checkpoint: Checkpoint::Latest,
                oldest: None,
                ..
            } => warn!(
                %shard,
                "records may be lost: the lease stands at LATEST since a time that is to come, as AWS's \
                 Date was wrong; reading begins now"
            ),
            Self::CheckpointExpired {
                shard,
                checkpoint,
                oldest,
                age,
            } => warn!(
                %shard, from = %checkpoint, to = oldest.as_ref().map(tracing::field::display),
                ?age, "records after the checkpoint may be lost to the stream's retention; reading goes on at the oldest one"
            ),
            Self::StartedAnew { position, .. } if *position == Checkpoint::TrimHorizon => {
                info!(%position, "the lease table held no leases: the application starts");
            }
            Self::StartedAnew {
                position,
                since,
                stream,
            } => warn!(
                %position, since = since.map(tracing::field::display),
                stream = stream.as_ref().map(tracing::field::display),
                "the lease table held no leases: the application starts, and what arrived before is \
                 not read"
            ),
            Self::LeasesCreated { shards } => info!(shards = %list(shards), "leases created"),
            Self::LeaseDeleted { shard } => info!(%shard, "lease deleted"),
            Self::StreamAdded { stream } => info!(%stream, "the stream is read from now on"),
            Self::StreamRemoved { stream } => info!(%stream, "the stream is not read any more"),
            Self::NoStreams {
                entries,
                reads_none,
            } => warn!(
                ?entries,
                reads_none,
                "no stream is found by these entries; one that comes is read from then on"
            ),
            Self::StreamFailing { stream, error } => {
                warn!(stream, error, "the stream cannot be read; the others go on")
            }
            Self::StreamRecovered { stream } => info!(stream, "the stream is read again"),
            Self::LeasesPutBack { shards } => warn!(
                shards = %list(shards),
                "leases were deleted by somebody else; they are put back where they stood"
            ),
            Self::CheckpointPutBack {
                shard,
                found,
                checkpoint,
            } => warn!(
                %shard, found, %checkpoint,
                "somebody else wrote into this lease, which is held; its checkpoint is put back"
            ),
            Self::Failing {
                operation,
                error,
                gives_up_in,
            } => error!(
                operation,
                error,
                ?gives_up_in,
                "waiting does not mend it; the worker ends unless it is mended by then"
            ),
            Self::LeaderUnknown { error } => warn!(
                error,
                "cannot ask whether a KCL 3 leader lives; the lease table shows none"
            ),
            Self::Unreadable { leases } if leases.is_empty() => {
                info!("every lease can be read again")
            }
            Self::Unreadable { leases } => {
                for (lease, reason) in leases {
                    warn!(
                        lease,
                        reason, "nobody can read this lease: its shard stands still"
                    );
                }
            }
            Self::Recovered { operation } => info!(operation, "works again"),
        }
    }
}

fn name(shard: &Option<LeaseKey>) -> Option<String> {
    shard.as_ref().map(LeaseKey::to_string)
}

fn list(shards: &[LeaseKey]) -> String {
    shards
        .iter()
        .map(LeaseKey::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
