//! What is known of an application, in the words of `right_sizing`.

use std::time::Duration;

use jiff::Timestamp;
use right_sizing::{Certainty, Observation, ShardObservation, Unknown};

use crate::source::{
    probe::Verdict,
    snapshot::{ApplicationSnapshot, ShardSnapshot},
};

/// What can be decided from: the readable shards with what is known of them. `None`: nobody asked
/// for lag, there are no leases, or who holds them was not looked at twice. Verdicts older than
/// `max_stale` no longer stand in.
pub fn observe(
    application: &ApplicationSnapshot,
    max_stale: Duration,
) -> Option<Result<Observation, Unknown>> {
    let lag = application.known_lag()?;
    let ahead = application.aws_ahead;
    let aws_time = ahead.and_then(|ahead| lag.time.checked_add(ahead).ok());
    let mut observation = Observation {
        at_ms: millis(lag.time),
        aws_ms: aws_time.map(millis),
        rhythm_ms: application.rhythm.map(in_millis),
        shards: application.readable().map(observe_shard).collect(),
    };
    let max_stale_ms = in_millis(max_stale);
    let certainty = observation.certainty(max_stale_ms);
    if let Certainty::Unknown(unknown) = certainty {
        return Some(Err(unknown));
    }
    // What nobody could look at for long is not known to be read, nor unread.
    let at_ms = observation.at_ms;
    let is_old = |as_of_ms: u64| at_ms.saturating_sub(as_of_ms) > max_stale_ms;
    for shard in &mut observation.shards {
        shard.undecided |= shard.as_of_ms.is_some_and(is_old);
    }
    match observation.certainty(max_stale_ms) {
        Certainty::Unknown(unknown) => Some(Err(unknown)),
        _ => Some(Ok(observation)),
    }
}

fn observe_shard(shard: &ShardSnapshot) -> ShardObservation {
    let live = shard.lease.as_ref().filter(|lease| lease.live);
    let probe = shard.probe.as_ref();
    let checkpoint = probe.and_then(|probe| probe.about.as_ref());
    ShardObservation {
        id: shard.id.to_string(),
        owner: live.and_then(|lease| lease.owner.clone()),
        checkpoint: checkpoint.map_or_else(String::new, ToString::to_string),
        unread_since_ms: shard.unread_since().map(millis),
        as_of_ms: probe.and_then(|probe| probe.as_of).map(millis),
        busy: live.and_then(|lease| lease.busy),
        drained: shard.verdict() == Some(&Verdict::Drained),
        undecided: shard.verdict().is_none(),
        unconfirmed: live.is_some_and(|lease| !lease.confirmed),
        malformed: shard.malformed,
    }
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
