#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! ```text
//! stream → shard_sync (which leases must exist) → lease table → assignment (which are mine) → coordinator (renew, take)
//!        → one shard consumer per lease: await parents → initialize → process → shut down
//!        → retrieval (polling, KPL de-aggregation) → record processor → checkpointer → lease table
//! ```
//! `shard`, `sequence`, `lease` are values; `shard_sync` and `assignment` are pure functions of them; the loops in
//! `coordinator`, `shard_consumer` and `worker` only act. Lease expiry is each observer's own, monotonic observation.

mod decide;
mod edge;
mod face;
mod model;
mod run;

pub use decide::{aggregation, assignment, shard_sync};
pub use edge::{kinesis, lease_table};
pub use face::{checkpointer, config, error, event, processor};
pub use model::{lease, record, sequence, shard};
pub use run::worker;
