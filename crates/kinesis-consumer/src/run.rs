//! The loops that act.

mod admission;
pub(crate) mod auditor;
pub(crate) mod budget;
pub(crate) mod context;
pub(crate) mod coordinator;
pub(crate) mod held_lease;
pub(crate) mod known;
pub(crate) mod leadership;
pub(crate) mod load;
pub(crate) mod ownership;
mod proof;
pub(crate) mod registration;
pub(crate) mod retrieval;
pub(crate) mod shard_consumer;
pub(crate) mod standing;
pub(crate) mod worker;
