//! What daemon and child say to each other: one JSON object a line, both ways. Pure.

pub mod answers;
pub mod lines;
pub mod messages;
