//! How seldom the application checkpoints, as far as looks at its leases show, beside
//! `lagThreshold`: with one below it records are late by habit.

use std::{collections::BTreeMap, time::Duration};

use kinesis_consumer::Checkpoint;

use crate::{
    report::text,
    source::snapshot::{ApplicationSnapshot, ShardSnapshot},
};

/// Nobody waits longer for `check`.
const WATCH_MOST: Duration = Duration::from_secs(60);

/// What was seen of checkpoints that living owners write.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    shards: BTreeMap<String, Stands>,
    /// The longest that one stood before it moved.
    moved: Option<Stood>,
}

/// A checkpoint with something unread after it, at the last look.
#[derive(Debug)]
struct Stands {
    checkpoint: Checkpoint,
    owner: String,
    age: Duration,
}

#[derive(Debug)]
struct Stood {
    shard: String,
    age: Duration,
}

impl Checkpoints {
    /// Takes in a look.
    pub(super) fn look(&mut self, snapshot: &ApplicationSnapshot) {
        let before = std::mem::take(&mut self.shards);
        let Some(lag) = snapshot.known_lag() else {
            return;
        };
        for shard in snapshot.readable() {
            let id = shard.id.to_string();
            let checkpoint = shard.probe.as_ref().and_then(|probe| probe.about.as_ref());
            if let (Some(before), Some(checkpoint)) = (before.get(&id), checkpoint)
                && before.checkpoint != *checkpoint
            {
                let age = before.age;
                if self.moved.as_ref().is_none_or(|it| it.age < age) {
                    let shard = id.clone();
                    self.moved = Some(Stood { shard, age });
                }
            }
            if let Some(stands) = stands(shard, |since| snapshot.age(since, lag.time)) {
                self.shards.insert(id, stands);
            }
        }
    }

    /// Whether a longer look could tell more: none of them moved, and none has stood for longer
    /// than the threshold.
    pub(super) fn are_worth_a_look(&self, threshold: Duration, watched: Duration) -> bool {
        self.moved.is_none()
            && self.oldest().is_some_and(|(_, it)| it.age <= threshold)
            && watched < WATCH_MOST.min(threshold)
    }

    fn oldest(&self) -> Option<(&String, &Stands)> {
        self.shards.iter().max_by_key(|(_, stands)| stands.age)
    }

    /// What is wrong with the threshold, and what would be right.
    pub(super) fn warning(&self, threshold: Duration) -> Option<String> {
        let in_words = |time: Duration| text::time(time.as_millis() as u64);
        let key = format!("lagThreshold: {}", in_words(threshold));
        let twice = |age: Duration| format!("{}s", 2 * age.as_secs_f64().ceil() as u64);
        if let Some(Stood { shard, age }) = &self.moved {
            return (threshold < *age * 2).then(|| {
                format!(
                    "{key} is less than twice the interval at which the application checkpoints: that of {shard} stood for \
                     {} with a record unread, then moved; want at least {}, or checkpoints more often",
                    in_words(*age),
                    twice(*age)
                )
            });
        }
        let (shard, Stands { owner, age, .. }) = self.oldest()?;
        (threshold < *age).then(|| {
            format!(
                "{key} is less than the {} for which the checkpoint of {shard} stands, although {owner} renews its lease: if \
                 the application checkpoints that seldom, want at least {}; if not, see that pod",
                in_words(*age),
                twice(*age)
            )
        })
    }
}

fn stands(shard: &ShardSnapshot, age: impl Fn(jiff::Timestamp) -> Duration) -> Option<Stands> {
    let lease = shard.lease.as_ref().filter(|lease| lease.confirmed)?;
    let probe = shard.probe.as_ref().filter(|it| it.as_of.is_none())?;
    Some(Stands {
        checkpoint: probe.about.clone()?,
        owner: lease.owner.clone()?,
        age: age(shard.unread_since()?),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kinesis_consumer::{Checkpoint, Position};

    use super::*;
    use crate::source::{
        probe::Verdict,
        snapshot::{LeaseSnapshot, examples::caught_up},
    };

    /// Looks each 5 s; of each the checkpoint, and how many seconds it is behind.
    fn looked(looks: &[(u64, u64)]) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        for (checkpoint, behind_s) in looks {
            let mut snapshot = caught_up(1, &[]);
            let lag = snapshot.lag.as_mut().expect("it has lag");
            lag.time = Timestamp::from_second(1_764_100_000).expect("a time");
            let since = lag.time - Duration::from_secs(*behind_s);
            let checkpoint = Checkpoint::At(Position {
                sequence_number: checkpoint.to_string().parse().expect("a number"),
                sub_sequence_number: 0,
            });
            let shard = &mut snapshot.shards[0];
            shard.lease = Some(LeaseSnapshot {
                owner: Some("pod-0".to_owned()),
                live: true,
                confirmed: true,
                checkpoint: checkpoint.clone(),
                busy: None,
            });
            let probe = shard.probe.as_mut().expect("it is probed");
            probe.verdict = Some(Verdict::Unread {
                since,
                expired: false,
            });
            probe.about = Some(checkpoint);
            checkpoints.look(&snapshot);
        }
        checkpoints
    }

    fn warning(threshold_s: u64, looks: &[(u64, u64)]) -> Option<String> {
        looked(looks).warning(Duration::from_secs(threshold_s))
    }

    #[test]
    fn a_threshold_below_twice_the_interval_is_warned_of() {
        let moved = &[(1, 50), (1, 55), (2, 3)];
        let says = warning(30, moved).expect("a warning");
        assert_eq!(
            says,
            "lagThreshold: 30 s is less than twice the interval at which the application checkpoints: that of \
             shardId-000000000000 stood for 55 s with a record unread, then moved; want at least 110s, or checkpoints more \
             often"
        );
        assert_eq!(warning(110, moved), None);
        assert_eq!(warning(30, &[(1, 3), (2, 4), (3, 2)]), None);
    }

    #[test]
    fn one_that_stands_is_warned_of_with_both_causes() {
        let says = warning(30, &[(1, 30), (1, 35)]).expect("a warning");
        assert_eq!(
            says,
            "lagThreshold: 30 s is less than the 35 s for which the checkpoint of shardId-000000000000 stands, although pod-0 \
             renews its lease: if the application checkpoints that seldom, want at least 70s; if not, see that pod"
        );
        assert_eq!(warning(60, &[(1, 30), (1, 35)]), None);
    }

    #[test]
    fn it_looks_on_while_that_may_tell_more() {
        let threshold = Duration::from_secs(30);
        let worth = |looks, watched_s| {
            looked(looks).are_worth_a_look(threshold, Duration::from_secs(watched_s))
        };
        assert!(worth(&[(1, 5), (1, 10)], 5));
        assert!(!worth(&[(1, 5), (2, 1)], 5), "it moved");
        assert!(!worth(&[(1, 30), (1, 35)], 5), "it stands for too long");
        assert!(!worth(&[(1, 5), (1, 10)], 30), "it has looked for long");
    }
}
