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
    /// When, in ms of the epoch. Never before the one before; if it is, it counts as the same
    /// moment.
    pub at_ms: u64,
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
}
