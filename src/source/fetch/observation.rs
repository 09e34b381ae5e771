//! What was seen, in the words of `right_sizing`.

use jiff::Timestamp;
use right_sizing::{Observation, ShardObservation};

use crate::source::{
    probe::Verdict,
    snapshot::{LeaseSnapshot, ShardSnapshot},
};

/// The readable shards. Every one of them has a verdict.
pub(super) fn observe(now: Timestamp, shards: &[ShardSnapshot]) -> Observation {
    let readable = shards.iter().filter(|shard| shard.is_readable());
    Observation {
        at_ms: millis(now),
        shards: readable.map(observed).collect(),
        ..Observation::default()
    }
}

fn observed(shard: &ShardSnapshot) -> ShardObservation {
    let lease = shard.lease.as_ref();
    let live = lease.filter(|lease| lease.live);
    let probe = shard.probe.as_ref();
    let verdict = probe.and_then(|probe| probe.verdict.as_ref());
    let unread_since = match verdict {
        Some(Verdict::Unread { since, .. }) => Some(millis(*since)),
        _ => None,
    };
    let stale = probe.filter(|probe| probe.stale);
    let checkpoint = probe.and_then(|probe| probe.about.as_ref());
    ShardObservation {
        id: shard.id.clone(),
        owner: live.and_then(|lease: &LeaseSnapshot| lease.owner.clone()),
        checkpoint: checkpoint.map_or_else(String::new, ToString::to_string),
        unread_since_ms: unread_since,
        as_of_ms: stale.and_then(|probe| probe.asked).map(millis),
        busy: live.and_then(|lease| lease.busy),
        drained: verdict == Some(&Verdict::Drained),
        ..ShardObservation::default()
    }
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
