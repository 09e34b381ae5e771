//! Values: positions, shards, keys, leases, records.

pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod record;
pub(crate) mod sequence;
pub(crate) mod shard;
