//! What goes wrong: pods stand, are killed, replaced, unequal, cold, paused, slow or late to start,
//! leases are limited, reads denied, checkpoints restored from a backup or never written.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::Cluster;

/// Which pods stand in an outage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// All of them: a database behind them is gone.
    Total,
    /// Every second one: a zone is gone.
    Half,
    /// Every fourth one.
    Quarter,
    /// The key is denied to all who read, also to whoever looks: of all shards.
    Denied,
    /// The same of every second shard.
    HalfDenied,
}

impl Outage {
    /// Whether a scaler can see that nothing moves: who is denied as well sees nothing.
    pub fn is_seen(self) -> bool {
        !matches!(self, Self::Denied | Self::HalfDenied)
    }
}

/// What goes wrong, in seconds. The default: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Pods renew leases and do not read, from one second to another.
    pub outage: Option<(Outage, u64, u64)>,
    /// A pod takes at most so many leases.
    pub lease_limit: Option<u32>,
    /// All pods are replaced this often, one after the other.
    pub rollout_every: Option<u64>,
    /// A pod is killed this often on average, and another comes instead.
    pub kill_every: Option<u64>,
    /// The lease of a killed pod can be taken after this; 0: at once.
    pub failover: u64,
    /// Pods carry between 0.6 and 1.4 of the usual.
    pub unequal: bool,
    /// A pod carries two fifths of what it will for so long after its start.
    pub cold: u64,
    /// Each pod reads nothing for 20 s this often on average.
    pub pause_every: Option<u64>,
    /// Pods start so many seconds later than usual.
    pub late_start: u64,
    /// Pods carry half of the usual, from one second to another.
    pub halved: Option<(u64, u64)>,
    /// Pods carry a quarter of the usual.
    pub weak: bool,
    /// At a second the checkpoints become those of so many seconds before.
    pub restored: Option<(u64, u64)>,
    /// No checkpoint is ever written.
    pub no_checkpoints: bool,
}

/// A plan, and how far it has come.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) plan: Plan,
    rng: Rng,
    seed: u64,
    /// When pods were killed that still seem to hold leases.
    killed: BTreeMap<u32, u64>,
    /// Pods that a rollout is yet to replace.
    to_replace: Vec<u32>,
    /// Until when pods are paused.
    paused: BTreeMap<u32, u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self::new(Plan::default(), 0)
    }
}

impl Faults {
    pub(super) fn new(plan: Plan, seed: u64) -> Self {
        Self {
            plan,
            rng: Rng::with_seed(seed ^ 0xfa17),
            seed,
            killed: BTreeMap::new(),
            to_replace: Vec::new(),
            paused: BTreeMap::new(),
        }
    }

    /// Whether the lease of a pod that is gone has not expired yet.
    pub(super) fn holds_yet(&self, pod: u32, now: u64) -> bool {
        let killed = self.killed.get(&pod);
        killed.is_some_and(|at| now < at + self.plan.failover)
    }

    /// What a pod carries, beside the usual.
    pub(super) fn strength(&self, pod: u32) -> f64 {
        if self.plan.unequal {
            0.6 + 0.8 * Rng::with_seed(self.seed * 1000 + u64::from(pod)).f64()
        } else {
            1.0
        }
    }

    /// What a pod that has just started carries, beside what it will.
    pub(super) fn warmth(&self, ready: u64, now: u64) -> f64 {
        if ready > 0 && now < ready + self.plan.cold {
            0.4
        } else {
            1.0
        }
    }

    fn outage(&self, now: u64) -> Option<Outage> {
        let (outage, from, to) = self.plan.outage?;
        (from..to).contains(&now).then_some(outage)
    }

    /// Whether nobody may read a shard now.
    pub(super) fn denies(&self, shard: usize, now: u64) -> bool {
        self.outage(now).is_some_and(|outage| match outage {
            Outage::Denied => true,
            Outage::HalfDenied => shard.is_multiple_of(2),
            Outage::Total | Outage::Half | Outage::Quarter => false,
        })
    }

    /// What every pod carries now, beside the usual.
    pub(super) fn throughput(&self, now: u64) -> f64 {
        let span = self.plan.halved;
        let halved = span.is_some_and(|(from, to)| (from..to).contains(&now));
        (if halved { 0.5 } else { 1.0 }) * (if self.plan.weak { 0.25 } else { 1.0 })
    }

    /// Whether a pod reads nothing now.
    pub(super) fn stands(&self, pod: u32, now: u64) -> bool {
        let in_outage = self.outage(now).is_some_and(|outage| match outage {
            Outage::Total => true,
            Outage::Half => pod.is_multiple_of(2),
            Outage::Quarter => pod.is_multiple_of(4),
            Outage::Denied | Outage::HalfDenied => false,
        });
        in_outage || self.paused.get(&pod).is_some_and(|until| now < *until)
    }
}

impl Cluster {
    /// What goes wrong in this second.
    pub(super) fn fail(&mut self) {
        let now = self.now;
        let plan = self.faults.plan;
        if let Some((at, back)) = plan.restored
            && at == now
        {
            for shard in &mut self.shards {
                shard.set_back(now.saturating_sub(back));
            }
        }
        if let Some(every) = plan.rollout_every {
            if now > 0 && now.is_multiple_of(every) {
                self.faults.to_replace = self.pods.keys().copied().collect();
            }
            if now.is_multiple_of(45)
                && let Some(name) = self.faults.to_replace.pop()
                && self.pods.remove(&name).is_some()
            {
                self.add_pod();
            }
        }
        if let Some(every) = plan.kill_every
            && self.faults.rng.u64(0..every) == 0
        {
            let names: Vec<u32> = self.pods.keys().copied().collect();
            if let Some(name) = self.faults.rng.choice(names) {
                self.pods.remove(&name);
                self.faults.killed.insert(name, now);
                self.add_pod();
            }
        }
        if let Some(every) = plan.pause_every {
            for name in self.pods.keys() {
                if self.faults.rng.u64(0..every) == 0 {
                    self.faults.paused.insert(*name, now + 20);
                }
            }
        }
    }
}
