#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! ```text
//! model   values: positions, shards, leases, records
//! edge    what is asked of AWS, as seams: Kinesis, the account, the lease table
//! face    what a user holds: configuration, processor, checkpointer, events, errors
//! decide  pure functions: which leases must exist, which are mine, what an aggregate holds
//! run     the loops that act
//!
//! stream → which leases must exist → lease table → which are mine → renew, take, hand over
//!        → one task per lease: await parents → initialize → process → shut down
//!        → polling or fan-out, KPL de-aggregation → record processor → checkpointer → lease table
//! ```
//! Lease expiry is each observer's own, monotonic observation.

#![cfg_attr(
    not(feature = "test-util"),
    allow(unreachable_pub, reason = "public by way of test_util")
)]

mod decide;
mod edge;
mod face;
mod model;
mod run;

pub use edge::{failure::CallError, kinesis::KinesisError, lease_table::TableError};
pub use face::{
    checkpointer::{CheckpointError, Checkpointer},
    config::{Config, FanOut, InitialPosition, Retrieval},
    error::Error,
    event::Event,
    pace::{Pace, Times},
    placement::Placement,
    processor::{EachBatch, Lasting, ProcessorError, RecordProcessor, Unusable, each_batch},
    streams::Streams,
};
pub use model::{
    keys::{LeaseKey, ShardId, StreamIdentifier},
    record::{Batch, Record, UnfitAggregate},
    sequence::{Checkpoint, Position, SequenceNumber},
};
pub use run::worker::Worker;

/// Leases as KCL's lease table has them, for whoever looks at an application without being part of
/// it.
pub mod lease {
    pub use crate::{
        edge::lease_table::dynamodb::item::{Item, PROJECTION, Parsed, key, parse},
        model::{
            keys::{InvalidStreamIdentifier, LeaseKey, StreamIdentifier},
            lease::Lease,
            sequence::{Checkpoint, InvalidSequenceNumber, Position, SequenceNumber},
        },
    };
}

/// Shards as Kinesis lists them, and which of them an application can read.
pub mod shards {
    pub use crate::{
        decide::{
            aggregation::last_sub_sequence_number,
            shard_sync::{
                OpenChildOfOpenParent, Readability, open_but_finished, readability, recreated,
            },
        },
        edge::kinesis::{StartFrom, sdk::to_shard},
        model::{
            keys::ShardId,
            shard::{HashRange, Shard},
        },
    };
}

#[cfg(feature = "test-util")]
pub mod test_util;
