//! Decisions: pure functions of what was seen.

pub mod aggregation;
pub mod assignment;
pub(crate) mod kcl3;
pub mod shard_sync;
