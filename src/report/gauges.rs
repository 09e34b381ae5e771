//! An application as a scrape shows it.

use std::time::Duration;

use jiff::Timestamp;
use right_sizing::Decision;
use tokio::time::Instant;

use crate::{
    decision::memories::Decisions,
    metrics::{ApplicationGauges, Unread},
    source::snapshot::{ApplicationSnapshot, Lag, ShardSnapshot},
    trigger::ApplicationSource,
};

/// The gauges of an application at `now`; `by_shard`: the age of each shard, too.
/// Verdicts older than `max_stale` at the last look are none.
pub fn gauges(
    source: &ApplicationSource,
    application: &ApplicationSnapshot,
    decisions: &Decisions,
    now: Instant,
    max_stale: Duration,
    by_shard: bool,
) -> ApplicationGauges {
    let now = application.time_at(now);
    let unread = application
        .known_lag()
        .map(|lag| unread(application, lag, decisions, now, max_stale, by_shard));
    ApplicationGauges {
        stream: source.stream.stream.to_string(),
        region: source.stream.region.clone(),
        lease_table: source.table.label(&source.stream),
        role: source
            .stream
            .role
            .as_ref()
            .map(|role| role.arn.clone())
            .unwrap_or_default(),
        readable: application.readable().count(),
        unread,
    }
}

fn unread(
    application: &ApplicationSnapshot,
    lag: &Lag,
    decisions: &Decisions,
    now: Timestamp,
    max_stale: Duration,
    by_shard: bool,
) -> Unread {
    let is_old = |as_of| lag.time.duration_since(as_of).unsigned_abs() > max_stale;
    let known = |shard: &&ShardSnapshot| {
        let probe = shard.probe.as_ref();
        shard.verdict().is_some() && !probe.and_then(|it| it.as_of).is_some_and(is_old)
    };
    let undecided = application.readable().filter(|it| !known(it)).count();
    let ages = || {
        let unread = |shard: &'_ ShardSnapshot| Some((shard.id.clone(), shard.unread_since()?));
        let unread = application.readable().filter(known).filter_map(unread);
        unread.map(|(id, since)| (id, application.age(since, now)))
    };
    let oldest = ages().map(|(_, age)| age).max();
    Unread {
        // Of all shards or none: a lower bound would be taken for the number.
        shards: (undecided == 0).then(|| ages().count()),
        // What is not known may be unread: no zero.
        oldest: oldest.or((undecided == 0).then_some(Duration::ZERO)),
        undecided,
        oldest_verdict: oldest_verdict(application, now),
        standing: most(decisions, |it| {
            it.outage.as_ref().map_or(0, |outage| outage.standing)
        }),
        orphans: most(decisions, |it| it.orphans),
        probes: lag.probes.by_outcome(),
        by_shard: ages()
            .filter(|_| by_shard)
            .map(|(id, age)| (id.to_string(), age))
            .collect(),
    }
}

/// How old the oldest verdict is that stands in because probes fail.
fn oldest_verdict(application: &ApplicationSnapshot, now: Timestamp) -> Duration {
    let probes = application.readable().filter_map(|it| it.probe.as_ref());
    let oldest = probes.filter_map(|probe| probe.as_of).min();
    let age = oldest.map(|as_of| now.duration_since(as_of));
    age.and_then(|age| age.try_into().ok()).unwrap_or_default()
}

/// Of settings that differ, the worst.
fn most(decisions: &Decisions, shards: impl Fn(&Decision) -> u32) -> usize {
    decisions.all().map(shards).max().unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::source::{
        probe::Verdict,
        snapshot::examples::{caught_up, source},
    };

    /// Of two shards: unread ones and the age of the oldest in seconds, and undecided ones.
    fn shown(application: &ApplicationSnapshot) -> (Option<usize>, Option<u64>, usize) {
        let now = application.at + Duration::from_secs(1);
        let max_stale = Duration::from_secs(60);
        let decisions = Decisions::default();
        let all = gauges(&source(), application, &decisions, now, max_stale, false);
        let unread = all.unread.unwrap();
        let oldest = unread.oldest.map(|age| age.as_secs());
        (unread.shards, oldest, unread.undecided)
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        assert_eq!(shown(&caught_up(2, &[])), (Some(0), Some(0), 0));

        let mut undecided = caught_up(2, &[]);
        undecided.shards[0].probe.as_mut().unwrap().verdict = None;
        assert_eq!(shown(&undecided), (None, None, 1));

        let mut old = caught_up(2, &[]);
        let as_of = |old: i64| Some(Timestamp::now() - SignedDuration::from_secs(old));
        old.shards[0].probe.as_mut().unwrap().as_of = as_of(30);
        assert_eq!(shown(&old), (Some(0), Some(0), 0), "it still stands in");
        old.shards[0].probe.as_mut().unwrap().as_of = as_of(359);
        assert_eq!(shown(&old), (None, None, 1));

        old.shards[1].probe.as_mut().unwrap().verdict = Some(Verdict::Unread {
            since: old.time,
            expired: false,
        });
        assert_eq!(shown(&old), (None, Some(1), 1), "at least so old");
    }
}
