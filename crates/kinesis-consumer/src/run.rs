//! The loops that act.

mod admission;
mod audit;
pub(crate) mod auditor;
pub(crate) mod budget;
pub(crate) mod context;
pub(crate) mod coordinator;
pub(crate) mod fleet;
pub(crate) mod following;
mod health;
pub(crate) mod held_lease;
pub(crate) mod known;
pub(crate) mod leadership;
pub(crate) mod load;
mod lookout;
pub(crate) mod ownership;
mod proof;
mod reads;
pub(crate) mod registration;
pub(crate) mod reports;
pub(crate) mod retrieval;
pub(crate) mod shard_consumer;
pub(crate) mod standing;
pub(crate) mod stream;
pub(crate) mod streams;
pub(crate) mod worker;
