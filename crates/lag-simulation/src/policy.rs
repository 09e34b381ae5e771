//! What could be told to KEDA instead, and the oracle.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use right_sizing::{Certainty, Observation, Settings, ShardObservation, State};

use crate::{cluster::Cluster, workload::Load};

/// Ways to say how many.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Policy {
    /// Knows every shard's load for four minutes ahead, and what a pod carries.
    Oracle,
    /// Knows every shard's load of the last half minute, and what a pod carries; takes pods away
    /// when fewer would have done for ten minutes.
    NoForesight,
    /// Right-sizing by progress.
    Lag,
    /// Right-sizing with the pods' busy fractions.
    Busy,
    /// One replica per open shard.
    OpenShards,
    /// One replica per shard older than the threshold.
    LateShards,
    /// CloudWatch's IteratorAge, two minutes late, over the threshold.
    IteratorAge,
}

impl Policy {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::NoForesight => "the oracle, without foresight",
            Self::Lag => "`lag`",
            Self::Busy => "`lag`, pods say how busy they are",
            Self::OpenShards => "`openShards`, 1 a pod",
            Self::LateShards => "late shards, counted",
            Self::IteratorAge => "CloudWatch IteratorAge",
        }
    }
}

/// What KEDA is told.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The metric.
    pub value: f64,
    /// Its target.
    pub target: f64,
    /// Whether there is work.
    pub active: bool,
}

/// How well a scaler sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eyes {
    /// Looks come up to so many seconds late.
    pub jitter: u64,
    /// This part of looks at a shard fails.
    pub throttled: f64,
    /// AWS's clock is so many seconds ahead.
    pub skew: i64,
    /// AWS's time is known, in whole seconds.
    pub knows_time: bool,
    /// The longest time between two renewals, in seconds, where it is known.
    pub rhythm: Option<u64>,
    /// Nobody scales while all stands, from one second to another. For the oracle, which would.
    pub patience: Option<(u64, u64)>,
}

/// One scaler: its settings and its memory.
#[derive(Debug)]
pub struct Scaler {
    policy: Policy,
    settings: Settings,
    eyes: Eyes,
    state: State,
    /// The last look at each shard that did not fail.
    seen: BTreeMap<String, ShardObservation>,
    ages: VecDeque<u64>,
    rng: fastrand::Rng,
    oracle: u32,
    /// The pods needed in the last ten minutes, and when.
    needed: VecDeque<(u64, u32)>,
    /// The last decision, of the policies that are right-sizing's.
    pub decision: Option<right_sizing::Decision>,
}

/// The epoch in which a simulation begins, in ms, so that a skew does not go below it.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// For so long a look stands in for those that fail.
const MAX_STALE_MS: u64 = 300_000;

impl Scaler {
    /// One that has just started.
    pub fn new(policy: Policy, settings: Settings, eyes: Eyes, seed: u64) -> Self {
        Self {
            policy,
            settings,
            eyes,
            state: State::default(),
            seen: BTreeMap::new(),
            ages: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed ^ 0x5ca1e),
            oracle: 1,
            needed: VecDeque::new(),
            decision: None,
        }
    }

    /// A refresh at `second`.
    pub fn refresh(&mut self, second: u64, cluster: &Cluster, load: &Load) -> Answer {
        let looks = cluster.look(self.policy == Policy::Busy);
        let target = f64::from(self.settings.shard_count);
        let unread = |since: u64| second.saturating_sub(since);
        let active = looks
            .iter()
            .any(|look| look.unread_since.is_some() || look.drained);
        match self.policy {
            Policy::Lag | Policy::Busy => {
                // Who gets no answer leaves the pods as they are.
                let as_it_is = Answer {
                    value: target * f64::from(cluster.replicas()),
                    target,
                    active,
                };
                self.right_size(second, looks).unwrap_or(as_it_is)
            }
            Policy::Oracle => {
                let waits = |(from, to): (u64, u64)| (from..to).contains(&second);
                if !self.eyes.patience.is_some_and(waits) {
                    self.oracle = oracle(
                        [second..second + 120, second + 120..second + 240],
                        cluster,
                        load,
                    );
                }
                Answer {
                    value: target * f64::from(self.oracle),
                    target,
                    active,
                }
            }
            Policy::NoForesight => {
                let lately = second.saturating_sub(30)..second;
                self.needed
                    .push_back((second, oracle([lately], cluster, load)));
                while self.needed.front().is_some_and(|(at, _)| at + 600 < second) {
                    self.needed.pop_front();
                }
                let most = self.needed.iter().map(|(_, pods)| *pods).max();
                Answer {
                    value: target * f64::from(most.unwrap_or(1)),
                    target,
                    active,
                }
            }
            Policy::OpenShards => Answer {
                value: cluster
                    .shards
                    .iter()
                    .filter(|shard| shard.is_open())
                    .count() as f64,
                target,
                active: true,
            },
            Policy::LateShards => {
                let late = |since: u64| unread(since) * 1000 > self.settings.lag_threshold_ms;
                Answer {
                    value: looks
                        .iter()
                        .filter(|look| look.unread_since.is_some_and(late))
                        .count() as f64,
                    target,
                    active,
                }
            }
            Policy::IteratorAge => {
                let oldest = looks
                    .iter()
                    .filter_map(|look| look.unread_since.map(unread))
                    .max();
                self.ages.push_back(oldest.unwrap_or(0));
                let late = if self.ages.len() > 8 {
                    self.ages.pop_front()
                } else {
                    None
                };
                Answer {
                    value: late.unwrap_or(0) as f64,
                    target: self.settings.lag_threshold_ms as f64 / 1000.0,
                    active: true,
                }
            }
        }
    }

    /// None: nothing can be said.
    fn right_size(&mut self, second: u64, looks: Vec<crate::cluster::Look>) -> Option<Answer> {
        let ms = |second: u64| EPOCH_MS + second * 1000;
        let mut shards = Vec::new();
        for look in looks {
            let fresh = ShardObservation {
                id: look.id.clone(),
                owner: look.owner.clone(),
                checkpoint: look.checkpoint,
                unread_since_ms: look
                    .unread_since
                    .map(|since| ms(since).saturating_add_signed(self.eyes.skew * 1000)),
                as_of_ms: None,
                busy: look.busy,
                drained: look.drained,
                ..ShardObservation::default()
            };
            let failed = self.rng.f64() < self.eyes.throttled || look.denied;
            let mut seen = match self.seen.get(&look.id) {
                // Leases are still seen, records are not.
                Some(old) if failed => ShardObservation {
                    owner: look.owner,
                    busy: look.busy,
                    ..old.clone()
                },
                None if failed => ShardObservation {
                    undecided: true,
                    ..fresh
                },
                _ => fresh,
            };
            let kept = ShardObservation {
                as_of_ms: seen.as_of_ms.or(Some(ms(second))),
                ..seen.clone()
            };
            if !seen.undecided {
                self.seen.insert(look.id, kept);
            }
            let is_old = |as_of: u64| as_of + MAX_STALE_MS < ms(second);
            seen.undecided |= seen.as_of_ms.is_some_and(is_old);
            shards.push(seen);
        }
        let seen = Observation {
            at_ms: ms(second),
            aws_ms: self
                .eyes
                .knows_time
                .then(|| ms(second).saturating_add_signed(self.eyes.skew * 1000)),
            rhythm_ms: self.eyes.rhythm.map(|rhythm| rhythm * 1000),
            shards,
        };
        if let Certainty::Unknown(_) = seen.certainty(MAX_STALE_MS) {
            return None;
        }
        let decision = self.state.decide(&seen, &self.settings);
        let answer = Answer {
            value: decision.value,
            target: f64::from(self.settings.shard_count),
            active: decision.active,
        };
        self.decision = Some(decision);
        Some(answer)
    }

    /// When the next refresh is due.
    pub fn next_refresh(&mut self, second: u64) -> u64 {
        second + 15 + self.rng.u64(0..=self.eyes.jitter)
    }

    /// Whether it looks again ten seconds before that.
    pub fn looks_soon(&self) -> bool {
        self.decision.as_ref().is_some_and(|it| it.look_soon)
    }
}

/// The fewest pods that carry what each of these spans brings, and what is left over in five
/// minutes; shards dealt by count. A shard too big for any pod is nobody's fault.
fn oracle<const N: usize>(spans: [Range<u64>; N], cluster: &Cluster, load: &Load) -> u32 {
    let needs: Vec<[f64; N]> = cluster
        .readable_shards()
        .iter()
        .map(|index| {
            let shard = &cluster.shards[*index];
            spans.clone().map(|span| {
                let seconds = span.step_by(10);
                let count = seconds.clone().count().max(1) as f64;
                let coming = if shard.is_open() {
                    seconds
                        .map(|at| load.at(at, *index, shard.keys))
                        .sum::<f64>()
                        / count
                } else {
                    0.0
                };
                coming + (shard.backlog() - coming).max(0.0) / 300.0
            })
        })
        .collect();
    let all = needs.len();
    let capacity = cluster.capacity();
    let carried = |pods: usize| {
        (0..pods).all(|pod| {
            let mine = || needs.iter().skip(pod).step_by(pods);
            mine().count() == 1
                || (0..N).all(|part| mine().map(|need| need[part]).sum::<f64>() <= capacity)
        })
    };
    let least = all.div_ceil(cluster.lease_limit().unwrap_or(u32::MAX) as usize);
    (least.max(1)..all)
        .find(|pods| carried(*pods))
        .unwrap_or(all)
        .max(1) as u32
}
