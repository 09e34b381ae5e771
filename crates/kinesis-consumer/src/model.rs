//! Values: positions, shards, leases, records.

pub mod lease;
pub mod record;
pub mod sequence;
pub mod shard;
