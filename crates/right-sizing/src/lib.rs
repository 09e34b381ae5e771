//! The right number of replicas for a Kinesis application, from the lag that is seen.
//!
//! [`State::decide`] is a pure function: no I/O, no clock, no randomness. It takes what was
//! observed of the shards that an application can read now, and says how many replicas keep every
//! record younger than the threshold, and why. Observations are JSON, so a recorded hour can be
//! decided again: [`replay`].
//!
//! It works on *progress in event time*. A shard's position is the arrival time of its oldest
//! unread record. A saturated pod's shards gain less than a second of position in a second, and
//! that ratio, times the pod's shards, is how many shards the pod can carry at the present rate: no
//! record is counted. While all shards are caught up a position says nothing, so fewer replicas are
//! *tried*, and a trial that makes records late is taken back and remembered. Where pods publish
//! how busy they are, that is used instead of trials.
//!
//! Times are milliseconds, of the epoch where a field says "when". Fractions that decisions are
//! made from are thousandths in integers, so that the same observations give the same decisions on
//! every machine.
//!
//! ```
//! use right_sizing::{Observation, Settings, ShardObservation, State};
//!
//! let settings = Settings::new(30_000, 1);
//! let mut state = State::default();
//! let shard = ShardObservation {
//!     id: "shardId-000000000000".into(),
//!     unread_since_ms: Some(999_000),
//!     ..ShardObservation::default()
//! };
//! let observation = Observation {
//!     at_ms: 1_000_000,
//!     shards: vec![shard],
//!     ..Observation::default()
//! };
//! let decision = state.decide(&observation, &settings);
//! assert_eq!((decision.replicas, decision.active), (1, true));
//! assert_eq!(decision.reason.to_string(), "first look: nothing runs, so 1 pod");
//! ```

mod decision;
mod observation;
mod pod;
mod reason;
mod replay;
mod sentences;
mod shard;
mod state;
mod words;

pub use decision::{Decision, Outage, ShardView, Step};
pub use observation::{Certainty, Observation, Settings, ShardObservation, Unknown};
pub use reason::{Note, Reason, Remedy};
pub use replay::{Recorded, ReplayError, replay};
pub use state::State;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
