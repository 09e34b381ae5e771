//! What is known of an application, in the words of `right_sizing`.

use jiff::Timestamp;
use right_sizing::{Observation, ShardObservation};

use crate::source::{
    probe::Verdict,
    snapshot::{ApplicationSnapshot, ShardSnapshot},
};

/// The readable shards, each with its verdict; `None` while one has none, or there are no leases.
pub fn observe(application: &ApplicationSnapshot) -> Option<Observation> {
    let lag = application.decided_lag()?;
    Some(Observation {
        at_ms: millis(lag.time),
        shards: application.readable().map(observe_shard).collect(),
        ..Observation::default()
    })
}

fn observe_shard(shard: &ShardSnapshot) -> ShardObservation {
    let live = shard.lease.as_ref().filter(|lease| lease.live);
    let probe = shard.probe.as_ref();
    let stale = probe.filter(|probe| probe.stale);
    let checkpoint = probe.and_then(|probe| probe.about.as_ref());
    ShardObservation {
        id: shard.id.to_string(),
        owner: live.and_then(|lease| lease.owner.clone()),
        checkpoint: checkpoint.map_or_else(String::new, ToString::to_string),
        unread_since_ms: shard.unread_since().map(millis),
        as_of_ms: stale.and_then(|probe| probe.asked).map(millis),
        busy: live.and_then(|lease| lease.busy),
        drained: shard.verdict() == Some(&Verdict::Drained),
        ..ShardObservation::default()
    }
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
