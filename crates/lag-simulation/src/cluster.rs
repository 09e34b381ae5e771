//! A stream, the pods that read it and the leases between them, as fluids in steps of a second.
//!
//! A pod's capacity is shared fairly by the shards it reads. A lease that moves is read by nobody
//! for a while. Pods need time to start. Everything else about a consumer is left out.

pub mod faults;
mod leases;
mod shard;

use std::collections::BTreeMap;

use fastrand::Rng;

pub use self::shard::Shard;
use self::{
    faults::{Faults, Plan},
    shard::first_after,
};

/// Records that count as none: rounding.
const NOTHING: f64 = 1e-6;

/// How leases move.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Consumer {
    /// Hands over: 3 s, all at once, nothing is read twice.
    Own,
    /// Takes over: 20 to 40 s, one lease per 20 s and pod unless its holder is gone, from the last
    /// checkpoint.
    Java,
}

/// By what leases are dealt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// All pods have as many.
    Number,
    /// All pods are as busy: of our library alone.
    Load,
}

/// A pod, since when it runs.
#[derive(Clone, Debug)]
struct Pod {
    ready: u64,
    stole: u64,
    used: f64,
    busy: f64,
    /// What it carries, beside the usual.
    strength: f64,
}

/// What a scaler sees of a shard.
#[derive(Clone, Debug)]
pub struct Look {
    /// The shard's id.
    pub id: String,
    /// The pod that holds its lease.
    pub owner: Option<String>,
    /// The position, as text.
    pub checkpoint: String,
    /// The second in which its oldest record without checkpoint arrived.
    pub unread_since: Option<u64>,
    /// How busy its pod is.
    pub busy: Option<f64>,
    /// Closed, read to its end, not finished.
    pub drained: bool,
    /// Nobody may look at its records.
    pub denied: bool,
}

/// All of it, at one second.
#[derive(Debug)]
pub struct Cluster {
    consumer: Consumer,
    placement: Placement,
    capacity: f64,
    checkpoint_every: u64,
    rng: Rng,
    now: u64,
    /// All shards ever, in order of creation.
    pub shards: Vec<Shard>,
    pods: BTreeMap<u32, Pod>,
    next_pod: u32,
    /// Leases that went from one pod to another while both ran.
    pub moves: u64,
    faults: Faults,
}

impl Cluster {
    /// `shards` even shards, nothing arrived, `pods` pods that run and share them.
    pub fn new(
        consumer: Consumer,
        shards: u32,
        pods: u32,
        checkpoint_every: u64,
        seed: u64,
    ) -> Self {
        let mut cluster = Self {
            consumer,
            placement: Placement::Number,
            capacity: 1000.0,
            checkpoint_every,
            rng: Rng::with_seed(seed),
            now: 0,
            shards: Vec::new(),
            pods: BTreeMap::new(),
            next_pod: 0,
            moves: 0,
            faults: Faults::default(),
        };
        for i in 0..shards {
            let width = 1.0 / f64::from(shards);
            let from = f64::from(i) * width;
            cluster.create((from, from + width), Vec::new());
        }
        cluster.scale(pods);
        for pod in cluster.pods.values_mut() {
            pod.ready = 0;
        }
        cluster.balance();
        for shard in &mut cluster.shards {
            shard.paused_until = 0;
        }
        cluster
    }

    /// From now on leases are dealt so.
    pub fn deal_by(&mut self, placement: Placement) {
        self.placement = placement;
    }

    /// The most leases that a pod takes.
    pub fn lease_limit(&self) -> Option<u32> {
        self.faults.plan.lease_limit
    }

    /// Whether a readable shard with something to read has no living owner.
    pub fn has_orphan(&self) -> bool {
        self.shards.iter().any(|shard| {
            let unread = shard.checkpoint_second < shard.arrived.len();
            unread
                && self.readable(shard)
                && !shard
                    .owner
                    .is_some_and(|name| self.pods.contains_key(&name))
        })
    }

    /// From now on this goes wrong.
    pub fn break_by(&mut self, plan: Plan, seed: u64) {
        self.faults = Faults::new(plan, seed);
        for (name, pod) in &mut self.pods {
            pod.strength = self.faults.strength(*name);
        }
    }

    fn create(&mut self, keys: (f64, f64), parents: Vec<usize>) {
        let phase = self.rng.u64(0..self.checkpoint_every.max(1));
        self.shards.push(Shard {
            id: format!("shardId-{:012}", self.shards.len()),
            keys,
            parents,
            arrived: vec![0.0; self.now as usize],
            open: true,
            finished: false,
            read: 0.0,
            checkpoint: 0.0,
            owner: None,
            paused_until: 0,
            read_second: 0,
            checkpoint_second: 0,
            phase,
            stuck: None,
            share: 0.0,
            rate: 0.0,
            seen: (0.0, 0.0, 0.0),
            moved: None,
        });
    }

    /// Splits every open shard in two.
    pub fn split_all(&mut self) {
        for index in 0..self.shards.len() {
            if self.shards[index].open {
                let (from, to) = self.shards[index].keys;
                self.shards[index].open = false;
                self.create((from, f64::midpoint(from, to)), vec![index]);
                self.create((f64::midpoint(from, to), to), vec![index]);
            }
        }
    }

    /// Merges every two neighbours.
    pub fn merge_all(&mut self) {
        let open: Vec<usize> = (0..self.shards.len())
            .filter(|i| self.shards[*i].open)
            .collect();
        for pair in open.chunks_exact(2) {
            let keys = (self.shards[pair[0]].keys.0, self.shards[pair[1]].keys.1);
            self.shards[pair[0]].open = false;
            self.shards[pair[1]].open = false;
            self.create(keys, pair.to_vec());
        }
    }

    /// Pods there are, running or starting.
    pub fn replicas(&self) -> u32 {
        self.pods.len() as u32
    }

    /// The deployment's replicas. New pods run after half a minute or so; the youngest go first, at
    /// once.
    pub fn scale(&mut self, replicas: u32) {
        while self.replicas() < replicas {
            self.add_pod();
        }
        while self.replicas() > replicas {
            self.pods.pop_last();
        }
    }

    fn add_pod(&mut self) {
        let slow = if self.consumer == Consumer::Java {
            10
        } else {
            0
        };
        let pod = Pod {
            ready: self.now + self.rng.u64(20..=40) + slow + self.faults.plan.late_start,
            stole: 0,
            used: 0.0,
            busy: 0.0,
            strength: self.faults.strength(self.next_pod),
        };
        self.pods.insert(self.next_pod, pod);
        self.next_pod += 1;
    }

    fn readable(&self, shard: &Shard) -> bool {
        !shard.finished
            && shard
                .parents
                .iter()
                .all(|parent| self.shards[*parent].finished)
    }

    /// Indices of what the application can read.
    pub fn readable_shards(&self) -> Vec<usize> {
        (0..self.shards.len())
            .filter(|i| self.readable(&self.shards[*i]))
            .collect()
    }

    /// A second passes, in which `load` records a second arrive at each open shard.
    pub fn step(&mut self, mut load: impl FnMut(&Shard) -> f64) {
        for shard in &mut self.shards {
            let before = shard.arrived.last().copied().unwrap_or(0.0);
            if !shard.finished {
                let more = if shard.open { load(shard) } else { 0.0 };
                shard.arrived.push(before + more);
            }
        }
        self.fail();
        self.balance();
        self.read();
        self.now += 1;
        self.write_checkpoints();
    }

    /// What a pod of usual strength carries now, in records a second.
    pub fn capacity(&self) -> f64 {
        self.capacity * self.faults.throughput(self.now)
    }

    /// Max-min fair: shards with less to read than their share leave the rest to the others.
    fn read(&mut self) {
        let now = self.now;
        let capacity = self.capacity();
        let mut unread_of: BTreeMap<u32, Vec<(f64, &mut Shard)>> = BTreeMap::new();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let stuck = shard
                .stuck
                .is_some_and(|(from, to)| (from..to).contains(&now));
            let reads = !shard.finished && shard.paused_until <= now && !stuck;
            // What arrived in this second is read in the next.
            let unread = shard.arrived_by(now) - shard.read;
            if reads && unread <= NOTHING {
                shard.weigh(0.0, capacity);
            }
            if let Some(owner) = shard.owner
                && reads
                && unread > NOTHING
                && !self.faults.denies(index, now)
            {
                unread_of.entry(owner).or_default().push((unread, shard));
            }
        }
        for (name, pod) in &mut self.pods {
            if self.faults.stands(*name, now) {
                pod.used = 0.0;
                continue;
            }
            let capacity = capacity * pod.strength * self.faults.warmth(pod.ready, now);
            let mut wanting = unread_of.remove(name).unwrap_or_default();
            wanting.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut left = capacity;
            let mut sharing = wanting.len();
            for (unread, shard) in wanting {
                let part = unread.min(left / sharing as f64);
                shard.read += part;
                shard.weigh(part, capacity);
                left -= part;
                sharing -= 1;
            }
            pod.used = 1.0 - left / capacity;
            // As a consumer publishes it: over about ten seconds.
            pod.busy += (pod.used - pod.busy) / 10.0;
        }
    }

    fn write_checkpoints(&mut self) {
        for index in 0..self.shards.len() {
            let shard = &mut self.shards[index];
            let lives = |name: u32| self.pods.contains_key(&name);
            if shard.finished
                || !shard.owner.is_some_and(lives)
                || shard.paused_until >= self.now
                || self.faults.plan.no_checkpoints
            {
                continue;
            }
            if (self.now + shard.phase).is_multiple_of(self.checkpoint_every) {
                // At the end of a closed shard the same step writes SHARD_END.
                let end = !shard.open && shard.checkpoint >= shard.arrived_by(self.now) - NOTHING;
                shard.checkpoint = shard.read;
                shard.finished = end;
            }
        }
        for shard in &mut self.shards {
            if !shard.finished {
                shard.read_second = first_after(&shard.arrived, shard.read, shard.read_second);
                shard.checkpoint_second =
                    first_after(&shard.arrived, shard.checkpoint, shard.checkpoint_second);
            }
        }
    }

    /// How long the oldest record that nobody has read waits, in seconds; a stuck shard's and its
    /// children's left out.
    pub fn oldest_unread(&self) -> u64 {
        self.shards
            .iter()
            .filter(|shard| !shard.finished && shard.stuck.is_none())
            .filter(|shard| {
                !shard
                    .parents
                    .iter()
                    .any(|parent| self.shards[*parent].stuck.is_some())
            })
            .map(|shard| self.now - (shard.read_second as u64).min(self.now))
            .max()
            .unwrap_or(0)
    }

    /// What a scaler sees of the readable shards.
    pub fn look(&self, busy: bool) -> Vec<Look> {
        self.readable_shards()
            .into_iter()
            .map(|index| {
                let shard = &self.shards[index];
                let since = shard.checkpoint_second;
                let unread = since < shard.arrived.len();
                let owner = shard.owner.filter(|name| {
                    self.pods.contains_key(name) || self.faults.holds_yet(*name, self.now)
                });
                Look {
                    id: shard.id.clone(),
                    owner: owner.map(|name| format!("pod-{name}")),
                    checkpoint: format!("{:.3}", shard.checkpoint),
                    unread_since: unread.then_some(since as u64),
                    busy: owner
                        .filter(|_| busy)
                        .and_then(|name| self.pods.get(&name))
                        .map(|pod| pod.busy.clamp(0.0, 1.0)),
                    drained: !shard.open && !unread,
                    denied: self.faults.denies(index, self.now),
                }
            })
            .collect()
    }
}
