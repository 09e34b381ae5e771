//! What goes in: the shards as the scaler saw them at one refresh, and what the user set.

use serde::{Deserialize, Serialize};

/// What a user set, the same for every refresh.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Records shall be younger than this, in ms. Should be at least twice the application's
    /// checkpoint interval.
    pub lag_threshold_ms: u64,
    /// The fewest shards a replica may get, at least 1; also KEDA's target. Bounds the replicas.
    pub shard_count: u32,
    /// From zero replicas: active when a record has been unread for this long, in ms.
    #[serde(default)]
    pub activation_lag_threshold_ms: u64,
}

impl Settings {
    /// Active on the first unread record.
    pub fn new(lag_threshold_ms: u64, shard_count: u32) -> Self {
        Self {
            lag_threshold_ms,
            shard_count,
            activation_lag_threshold_ms: 0,
        }
    }
}

/// The shards of one application at one refresh. Optional fields will be added: make it with
/// `..Observation::default()`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observation {
    /// When, in ms of the epoch. Should never be before the one before; if it is, it counts as the
    /// same moment, and time goes on from there. So it does from where AWS's time says that this
    /// was set ahead.
    pub at_ms: u64,
    /// AWS's own time at `at_ms`, in ms of the epoch, to a second or two: ages are taken against
    /// it. None: the clocks are taken to agree, or to differ as they did when both were last known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_ms: Option<u64>,
    /// The longest time between two renewals of a lease in this table, in ms; none while that is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rhythm_ms: Option<u64>,
    /// Every shard that the application can read now: not at SHARD_END, all parents finished or
    /// gone. In any order.
    pub shards: Vec<ShardObservation>,
}

/// One shard, as the lease table and a probe of the record after the checkpoint show it. Optional
/// fields will be added: make it with `..ShardObservation::default()`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShardObservation {
    /// The shard's id.
    pub id: String,
    /// The live holder of its lease; none when nobody live holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The application's position: any text, of which only changes count. Empty for a shard without
    /// lease.
    #[serde(default)]
    pub checkpoint: String,
    /// Arrival time of the oldest record after `checkpoint`, in ms of the epoch; none when there is
    /// none. AWS's clock: seconds of skew are expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_since_ms: Option<u64>,
    /// When `checkpoint` and `unread_since_ms` were last known to belong together, in ms of the
    /// epoch; none: at `at_ms`. An earlier time says that probes failed since (throttled), and that
    /// both are of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_ms: Option<u64>,
    /// How busy the owner says it is, 0 to 1; none when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<f64>,
    /// Closed, all read, and not yet at SHARD_END: work for somebody, without an age.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// Whether something is unread is not known yet: no probe has succeeded. `unread_since_ms`,
    /// `as_of_ms` and `drained` then say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// The owner has not renewed the lease since this table is watched, and not been silent for
    /// long enough to be dead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// The shard's row in the lease table cannot be read. It has no `owner` here, but it is not
    /// free to be taken either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub malformed: bool,
}

/// What an observation is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Certainty {
    /// Every shard has a verdict: [`State::decide`](crate::State::decide) tells all.
    Whole,
    /// Something is unread, and so many shards are undecided: the replicas of
    /// [`State::decide`](crate::State::decide) are a lower bound that holds what runs.
    LowerBound {
        /// Shards without a verdict.
        undecided: usize,
    },
    /// Nothing can be said yet: no number, and not a zero.
    Unknown(Unknown),
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Unknown {
    /// No readable shard is known. Every stream has one: it was not read yet, or not whole.
    NoShards,
    /// No shard has a verdict.
    NoneDecided {
        /// Readable shards.
        shards: usize,
    },
    /// Nothing is known to be unread, and an undecided shard may be.
    NothingUnread {
        /// Shards without a verdict.
        undecided: usize,
        /// Readable shards.
        shards: usize,
    },
    /// Most verdicts are too old.
    Stale {
        /// Shards whose verdict is too old.
        stale: usize,
        /// Shards with a verdict.
        decided: usize,
    },
}

impl Observation {
    /// The same by a clock that is ahead by so much. AWS's own times stay.
    pub(crate) fn shifted(mut self, by_ms: i64) -> Self {
        self.at_ms = self.at_ms.saturating_add_signed(by_ms);
        for as_of_ms in self.shards.iter_mut().filter_map(|it| it.as_of_ms.as_mut()) {
            *as_of_ms = as_of_ms.saturating_add_signed(by_ms);
        }
        self
    }

    /// Whether a decision can be made of it. Verdicts older than `max_stale_ms` are too old, and
    /// may be at most half of all.
    pub fn certainty(&self, max_stale_ms: u64) -> Certainty {
        let shards = self.shards.len();
        if shards == 0 {
            return Certainty::Unknown(Unknown::NoShards);
        }
        let decided = || self.shards.iter().filter(|shard| !shard.undecided);
        let undecided = shards - decided().count();
        if undecided == shards {
            return Certainty::Unknown(Unknown::NoneDecided { shards });
        }
        let is_stale = |shard: &&ShardObservation| {
            let as_of_ms = shard.as_of_ms.unwrap_or(self.at_ms);
            self.at_ms.saturating_sub(as_of_ms) > max_stale_ms
        };
        let stale = decided().filter(is_stale).count();
        let decided_count = shards - undecided;
        if stale * 2 > decided_count {
            let decided = decided_count;
            return Certainty::Unknown(Unknown::Stale { stale, decided });
        }
        if undecided == 0 {
            return Certainty::Whole;
        }
        let has_work = |shard: &ShardObservation| shard.unread_since_ms.is_some() || shard.drained;
        if decided().any(has_work) {
            Certainty::LowerBound { undecided }
        } else {
            Certainty::Unknown(Unknown::NothingUnread { undecided, shards })
        }
    }
}
