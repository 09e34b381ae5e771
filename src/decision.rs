//! From a snapshot to what KEDA gets: the answer, right-sizing's memories, recordings and their replay.

pub mod answer;
pub mod memories;
pub(crate) mod replay;
