//! What happens in a worker, as one stream that logs, metrics and the demo read.

use std::{sync::Arc, time::Duration};

use crate::model::{sequence::Checkpoint, shard::ShardId};

/// Something that happened. `shard` is the lease's key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The worker takes leases from now on: the lease table is there, and no KCL 3 leader lives.
    Admitted,
    /// The lease is ours; `from` held it before.
    LeaseAcquired {
        /// Which.
        shard: ShardId,
        /// Who held it before.
        from: Option<String>,
    },
    /// The lease went to somebody else.
    LeaseLost {
        /// Which.
        shard: ShardId,
    },
    /// We asked its native holder for the lease.
    HandoverAsked {
        /// Which.
        shard: ShardId,
        /// Of whom.
        holder: String,
    },
    /// We stopped at a checkpoint and gave the lease to a native worker that asked.
    HandedOver {
        /// Which.
        shard: ShardId,
        /// To whom.
        to: String,
    },
    /// We gave the lease up at shutdown.
    LeaseReleased {
        /// Which.
        shard: ShardId,
    },
    /// The processor starts.
    ShardStarted {
        /// Which.
        shard: ShardId,
        /// Where.
        checkpoint: Checkpoint,
    },
    /// The shard is closed and processed to its end.
    ShardEnded {
        /// Which.
        shard: ShardId,
        /// Who goes on.
        children: Vec<ShardId>,
    },
    /// A batch was processed.
    Processed {
        /// Which shard.
        shard: ShardId,
        /// How many records.
        records: usize,
        /// How many bytes of data.
        bytes: usize,
        /// How far behind the tip, in milliseconds.
        millis_behind_latest: i64,
        /// How long the processor took.
        took: Duration,
    },
    /// A page without records was read.
    Polled {
        /// Which shard.
        shard: ShardId,
        /// How far behind the tip, in milliseconds.
        millis_behind_latest: i64,
    },
    /// A checkpoint was written.
    Checkpointed {
        /// Which shard.
        shard: ShardId,
        /// Up to where.
        checkpoint: Checkpoint,
    },
    /// The processor failed or panicked; the same records come again after `retry_in`.
    ProcessorFailed {
        /// Which shard.
        shard: ShardId,
        /// The how many-th failure in a row, from 1.
        attempt: u32,
        /// The error's text.
        error: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// AWS said slower.
    Throttled {
        /// Which shard; `None`: the lease table or the whole stream.
        shard: Option<ShardId>,
        /// The operation.
        operation: &'static str,
    },
    /// A call failed and is tried again.
    Retrying {
        /// Which shard, if one.
        shard: Option<ShardId>,
        /// The operation.
        operation: &'static str,
        /// The error's text.
        error: String,
    },
    /// The checkpoint is older than what Kinesis keeps: records were lost to retention; reading resumes at the oldest one.
    CheckpointExpired {
        /// Which shard.
        shard: ShardId,
        /// What the checkpoint was.
        checkpoint: Checkpoint,
    },
    /// Leases were created.
    LeasesCreated {
        /// Which.
        shards: Vec<ShardId>,
    },
    /// The lease of a finished shard was deleted.
    LeaseDeleted {
        /// Which.
        shard: ShardId,
    },
}

/// Takes events, at once and in order. Must not block.
pub type EventSink = Arc<dyn Fn(&Event) + Send + Sync>;
