//! What is remembered of the pods: which shards each holds since when, and how busy it said it is.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{observation::Observation, shard::ShardMemory};

/// Busy fractions are averaged over this before pods are added.
const BUSY_OUT_MS: u64 = 120_000;
/// Busy fractions are averaged over this before pods are taken away.
const BUSY_IN_MS: u64 = 300_000;

/// Shards that are behind and gain less than this fall back, in thousandths of a second per second.
pub(crate) const FALLING_BACK_MILLI: u64 = 950;
/// Shards that gain more than this clearly catch up.
const CATCHING_UP_MILLI: u64 = 1500;

/// A new pod starts and gets its shards in about this time, in ms.
const AHEAD_MS: u64 = 60_000;

/// A pod is an owner of leases: pods that hold none are not known.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    /// The ids of its shards, in order.
    pub(crate) shards: Vec<String>,
    /// When its shards became these.
    changed_ms: u64,
    /// Whether it renewed a lease since the table is watched.
    pub(crate) confirmed: bool,
    /// When it said how busy it is, and how busy, in thousandths.
    busy: VecDeque<(u64, u64)>,
}

/// A pod whose shards are behind, and what it can carry.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The worst of its shards that are behind.
    pub(crate) worst: String,
    /// How far that one is behind, in ms.
    pub(crate) lag_ms: u64,
    /// Position that it gained, in thousandths of a second per second.
    pub(crate) progress_milli: u64,
    /// Whether that one fell back no further in the last refresh: a pause is over, then.
    pub(crate) recovers: bool,
    /// Whether that one has fallen back for longer than a pause.
    pub(crate) falls_back: bool,
    /// Shards that the pod has.
    pub(crate) holds: u32,
    /// Shards that it can carry, in thousandths.
    pub(crate) carry_milli: u64,
}

impl Measured {
    /// How far behind it will be, in ms, when pods that are wished now have taken shards from it.
    pub(crate) fn will_be_ms(&self) -> u64 {
        if self.recovers || !self.falls_back {
            return self.lag_ms;
        }
        self.lag_ms + AHEAD_MS * 1000_u64.saturating_sub(self.progress_milli) / 1000
    }
}

/// Brings the pods up to date.
pub(crate) fn update(pods: &mut BTreeMap<String, Pod>, seen: &Observation, at: u64) {
    let mut held: BTreeMap<&str, (Vec<String>, Option<f64>)> = BTreeMap::new();
    for shard in &seen.shards {
        if let Some(owner) = &shard.owner {
            let (shards, busy) = held.entry(owner).or_default();
            shards.push(shard.id.clone());
            // NaN and nonsense are no statement.
            let said = shard.busy.filter(|busy| (0.0..=1.0).contains(busy));
            *busy = match (*busy, said) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
    }
    let confirmed: HashSet<&str> = seen
        .shards
        .iter()
        .filter(|shard| !shard.unconfirmed)
        .filter_map(|shard| shard.owner.as_deref())
        .collect();
    pods.retain(|name, _| held.contains_key(name.as_str()));
    for (name, (mut shards, busy)) in held {
        shards.sort_unstable();
        let pod = pods.entry(name.to_owned()).or_default();
        pod.confirmed |= confirmed.contains(name);
        if pod.shards != shards {
            pod.shards = shards;
            pod.changed_ms = at;
            // How busy it was with other shards says nothing.
            pod.busy.clear();
        }
        match busy {
            Some(busy) => pod.busy.push_back((at, (busy * 1000.0).round() as u64)),
            None => pod.busy.clear(),
        }
        while pod
            .busy
            .front()
            .is_some_and(|(then, _)| at.saturating_sub(*then) > BUSY_IN_MS)
        {
            pod.busy.pop_front();
        }
    }
}

impl Pod {
    /// Since when its shards are its own and all of them move.
    fn settled_ms(&self, shards: &BTreeMap<String, ShardMemory>) -> Option<u64> {
        self.shards.iter().try_fold(self.changed_ms, |latest, id| {
            Some(latest.max(shards.get(id)?.measured_from_ms?))
        })
    }

    /// What it can carry, from its shards that are behind; none while none is, or while none of
    /// them was watched for long enough. Those that were not are taken to be as fast as those that
    /// were.
    ///
    /// While they fall back, all shards of a pod get the same share of it: those behind speak for
    /// all. While they gain, they take what the others leave, which keep up at 1. The smaller of
    /// both estimates is right in either case, and careful with unequal shards.
    pub(crate) fn measure(
        &self,
        shards: &BTreeMap<String, ShardMemory>,
        says_nothing: impl Fn(&str, &ShardMemory) -> bool,
        lag_ms: impl Fn(&ShardMemory) -> u64,
        behind_ms: u64,
        span_ms: u64,
    ) -> Option<Measured> {
        let from = self.settled_ms(shards)?;
        let counted: Vec<(&String, &ShardMemory)> = self
            .shards
            .iter()
            .filter_map(|id| Some((id, shards.get(id)?)))
            .filter(|(id, shard)| !says_nothing(id, shard))
            .collect();
        let mut behind = Vec::new();
        let mut unmeasured = 0;
        for &(id, shard) in &counted {
            let lag = lag_ms(shard);
            if lag > behind_ms {
                match shard.samples.progress_milli(from, span_ms) {
                    Some(progress) => behind.push((lag, progress, id)),
                    None => unmeasured += 1,
                }
            }
        }
        // A shard that reads a backlog of its own fast does not speak for one that falls back.
        if behind
            .iter()
            .any(|(_, progress, _)| *progress < FALLING_BACK_MILLI)
        {
            behind.retain(|(_, progress, _)| *progress < CATCHING_UP_MILLI);
        }
        let n = counted.len() as u64;
        let slow = behind.len() as u64;
        let sum: u64 = behind.iter().map(|(_, progress, _)| progress).sum();
        let &(lag_ms, progress_milli, worst) = behind.iter().max()?;
        let by_the_slow = (n * sum / slow).max(n * 250);
        let alike = sum * unmeasured / slow;
        let by_all = sum + alike + (n - slow - unmeasured) * 1000;
        let of_worst = shards.get(worst);
        Some(Measured {
            worst: worst.clone(),
            recovers: of_worst.is_some_and(|it| it.samples.recovers()),
            falls_back: of_worst.is_some_and(|it| it.samples.falls_back()),
            lag_ms,
            progress_milli,
            holds: self.shards.len() as u32,
            carry_milli: by_the_slow.min(by_all.max(n * 250)),
        })
    }

    /// How busy it is, in thousandths: over two minutes, and the larger of that and the mean over
    /// five. None while it does not say.
    pub(crate) fn busy_milli(&self, at: u64) -> Option<(u64, u64)> {
        let mean = |from: u64, to: u64| {
            let window = self
                .busy
                .iter()
                .filter(|(then, _)| *then > from && *then <= to);
            let (sum, count) =
                window.fold((0, 0), |(sum, count), (_, busy)| (sum + busy, count + 1));
            (count > 0).then(|| sum / count)
        };
        let lately = mean(at.saturating_sub(BUSY_OUT_MS), at)?;
        let first = self.busy.front()?.0;
        if at.saturating_sub(first) < BUSY_OUT_MS / 2 {
            return None;
        }
        let long = mean(0, at)?;
        Some((lately, lately.max(long)))
    }
}
