//! An application as a scrape shows it.

use std::time::Duration;

use jiff::Timestamp;
use right_sizing::Decision;
use tokio::time::Instant;

use crate::{
    decision::memories::Decisions,
    metrics::{ApplicationGauges, Unread},
    source::snapshot::{ApplicationSnapshot, ShardSnapshot},
    trigger::ApplicationSource,
};

/// The gauges of an application; `by_shard`: the age of each shard, too.
pub fn gauges(
    source: &ApplicationSource,
    application: &ApplicationSnapshot,
    decisions: &Decisions,
    now: Instant,
    by_shard: bool,
) -> ApplicationGauges {
    let now = application.time_at(now);
    let ages = || {
        let unread = |shard: &'_ ShardSnapshot| Some((shard.id.clone(), shard.unread_since()?));
        let unread = application.readable().filter_map(unread);
        unread.map(|(id, since)| (id, application.age(since, now)))
    };
    let unread = application.known_lag().map(|lag| Unread {
        // Of all shards or none: a lower bound would be taken for the number.
        shards: (lag.undecided == 0).then(|| ages().count()),
        // An undecided shard may have older ones: a zero would be made up.
        oldest: match ages().map(|(_, age)| age).max() {
            None if lag.undecided == 0 => Some(Duration::ZERO),
            oldest => oldest,
        },
        undecided: lag.undecided,
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
    });
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
    use super::*;
    use crate::source::snapshot::examples::{caught_up, source};

    #[test]
    fn while_a_shard_is_undecided_there_is_no_zero() {
        let oldest = |undecided: usize| {
            let mut application = caught_up(4, &[]);
            for shard in &mut application.shards[..undecided] {
                shard.probe.as_mut().unwrap().verdict = None;
            }
            application.lag.as_mut().unwrap().undecided = undecided;
            let none = Decisions::default();
            let gauges = gauges(&source(), &application, &none, Instant::now(), false);
            gauges.unread.unwrap().oldest
        };
        assert_eq!(oldest(0), Some(Duration::ZERO));
        assert_eq!((oldest(1), oldest(4)), (None, None));
    }
}
