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

pub mod aggregation;
pub mod assignment;
mod auditor;
pub mod checkpointer;
pub mod config;
mod context;
mod coordinator;
pub mod error;
pub mod event;
mod held_lease;
mod kcl3;
pub mod kinesis;
pub mod lease;
pub mod lease_table;
mod load;
pub mod processor;
pub mod record;
mod retrieval;
pub mod sequence;
pub mod shard;
mod shard_consumer;
pub mod shard_sync;
pub mod worker;
