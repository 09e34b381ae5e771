//! What people and tools read: `/explain`, its journal, `check`, and what a scrape shows of
//! applications.

pub(crate) mod check;
pub mod explain;
pub mod gauges;
pub mod journal;
mod text;

#[doc(hidden)]
pub use self::check::read_manifests;
