//! What a user of the library holds.

pub(crate) mod checkpointer;
pub(crate) mod config;
mod connections;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod pace;
pub(crate) mod placement;
pub(crate) mod processor;
pub(crate) mod streams;
