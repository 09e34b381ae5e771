//! From a snapshot to what KEDA gets. Pure, but for the recorder's file: state in, state out.

pub mod answer;
pub mod memories;
mod observation;
pub mod record;
pub(crate) mod replay;

pub use self::observation::observe;
