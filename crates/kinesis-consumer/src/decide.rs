//! Decisions: pure functions of what was seen.

pub(crate) mod aggregation;
pub(crate) mod assignment;
pub(crate) mod fleet;
pub(crate) mod kcl3;
pub(crate) mod placement;
pub(crate) mod shard_sync;
