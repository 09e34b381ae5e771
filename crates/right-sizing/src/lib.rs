//! The right number of replicas for a Kinesis application, from the lag that is seen.
//!
//! [`State::decide`] is a pure function: no I/O, no clock, no chance. It takes what was observed of the shards that an application can read now
//! and says how many replicas keep every record younger than the threshold, and why, in a sentence. Observations are JSON, so a recorded hour can be
//! decided again: [`replay`].
//!
//! It works on *progress in event time*. A shard's position is the arrival time of its oldest unread record. A saturated pod's shards gain less
//! than a second of position in a second, and that ratio, times the pod's shards, is how many shards the pod can carry at the present rate: nobody
//! counts records. While all are caught up a position says nothing, so fewer replicas are *tried*, and a trial that makes records late is taken
//! back and remembered. Where pods publish how busy they are, that is used instead of trials.
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
//! let decision = state.decide(&Observation { at_ms: 1_000_000, shards: vec![shard] }, &settings);
//! assert_eq!((decision.replicas, decision.active), (1, true));
//! ```

mod decision;
mod memory;
mod observation;
mod pods;
mod replay;
mod state;
mod words;

pub use decision::{Decision, ShardView, Step};
pub use observation::{Observation, Settings, ShardObservation};
pub use replay::{Recorded, ReplayError, replay};
pub use state::State;
