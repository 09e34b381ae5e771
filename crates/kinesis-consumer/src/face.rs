//! What a user of the library holds.

pub mod checkpointer;
pub mod config;
pub mod error;
pub mod event;
pub mod processor;
