//! What comes out: the replicas wished, why, and what a page would plot.

use serde::Serialize;

use crate::{
    observation::Unknown,
    reason::{Note, Reason},
};

/// The decision of one refresh.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Decision {
    /// The time of the observation, in ms of the epoch.
    pub at_ms: u64,
    /// The replicas wished: from 1 to readable shards / `shardCount`, rounded up.
    pub replicas: u32,
    /// What KEDA is told: `shardCount` × replicas, against a target of `shardCount`.
    pub value: f64,
    /// Whether there is work: something unread or, while pods run, something read since the refresh
    /// before. While that is unknown, as before.
    pub active: bool,
    /// Why nothing can be said, if so: the replicas then hold what was wished and what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Unknown>,
    /// Whether a look in a few seconds is worth more than one at the usual pace: the first pods of
    /// an application that was found at zero show how many it needs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub look_soon: bool,
    /// What kind of decision it was.
    pub step: Step,
    /// Why it is that many replicas. In JSON, the sentence.
    pub reason: Reason,
    /// What a user should know besides: shards left out, shards too big, a threshold that is too
    /// short. In JSON, the sentences.
    pub notes: Vec<Note>,
    /// Shards per replica that the wish comes to.
    pub shards_per_replica: u32,
    /// Pods that hold a lease.
    pub running: u32,
    /// The most shards that a pod was last seen to carry, while that is remembered.
    pub carry: Option<f64>,
    /// How often the application seems to checkpoint, in ms; 0 when at least at every refresh.
    pub checkpoint_interval_ms: u64,
    /// An outage, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
    /// Shards with work that nobody takes although pods run, for longer than leases take to be
    /// taken.
    #[serde(skip_serializing_if = "is_zero")]
    pub orphans: u32,
    /// Shards of which nothing is known yet. Where there are any, the replicas are a lower bound.
    #[serde(skip_serializing_if = "is_zero")]
    pub undecided: u32,
    /// The shards, by id.
    pub shards: Vec<ShardView>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Checkpoints stand with something unread after them: of whole pods, or of a third of the shards.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Outage {
    /// When the first of the checkpoints was last seen to move, in ms of the epoch; or when it was
    /// first seen, if it never moved.
    pub since_ms: u64,
    /// Shards whose checkpoint stands, and those with something unread that nobody has held for as
    /// long.
    pub standing: u32,
    /// Shards with something unread, or read since the last of those stopped.
    pub unread: u32,
    /// Shards of which nothing is known now. Those that stood before count as standing.
    #[serde(skip_serializing_if = "is_zero")]
    pub undecided: u32,
    /// The pods of which nothing moves, by name, first those that live.
    pub pods: Vec<String>,
}

/// Kinds of decisions.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Step {
    /// The first refresh: what runs is taken as right.
    First,
    /// Nothing changes.
    Hold,
    /// More replicas: records are late, or the pods too busy.
    Out,
    /// Fewer replicas: to see whether they suffice, or because more did not help.
    In,
    /// Fewer were too few, or a trial of fewer is broken off.
    Back,
}

/// One shard as the decision saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ShardView {
    /// The shard's id.
    pub id: String,
    /// Who holds its lease; none when nobody living does.
    pub owner: Option<String>,
    /// Age of its oldest unread record, in ms; none when nothing is unread.
    pub age_ms: Option<u64>,
    /// Position gained, in seconds per second; none when it is not behind or was not watched for
    /// long enough.
    pub progress: Option<f64>,
    /// Whether it was left out because its checkpoint does not move, or because its lease
    /// cannot be read.
    pub left_out: bool,
}
