//! What people and tools read: the journal, `/explain`, and `check`.

pub(crate) mod check;
pub mod explain;
pub mod journal;
