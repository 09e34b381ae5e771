//! One fetch of one source: what AWS says of a stream and an application's leases, as a snapshot.

pub mod aws;
mod clock;
pub mod failure;
pub mod fetch;
pub mod probe;
pub mod shards;
pub mod snapshot;
