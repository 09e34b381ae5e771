//! What the user sees while it happens: a live view on a terminal, plain lines everywhere else.

pub mod plain;
pub mod summary;
pub mod tui;
