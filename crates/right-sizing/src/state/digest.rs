//! What of an observation matters to the control law.

use std::collections::BTreeSet;

use super::{DRAIN_MS, MINUTE, SECOND, State, doubt::Doubts};
use crate::{
    observation::Settings,
    pod::{FALLING_BACK_MILLI, Measured, Pod},
    reason::Reason,
    shard::ShardMemory,
};

/// Progress is watched for the threshold, but not longer than this unless checkpoints are rare.
const SPAN_MOST_MS: u64 = 120 * SECOND;

/// The same for the first pods of an application that was found at zero: nothing says how many it
/// needs, so what the first refreshes show is believed.
const FIRST_SPAN_MS: u64 = 5 * SECOND;

/// However old records may become, a checkpoint stands after this, or after three times the usual
/// interval: an hour's threshold does not make an outage an hour's secret.
const STANDS_MOST_MS: u64 = 5 * MINUTE;

/// One refresh, digested.
pub(super) struct Digest {
    /// The time of the refresh.
    pub(super) at: u64,
    /// Readable shards.
    pub(super) shards: u32,
    /// The most replicas: readable shards / `shardCount`, rounded up.
    pub(super) cap: u32,
    /// Pods that hold a lease.
    pub(super) running: u32,
    /// Of them, those that renewed a lease since the table is watched.
    pub(super) confirmed: u32,
    /// Shards of the pod that has most.
    pub(super) fullest: u32,
    /// Shards of which nothing is known yet.
    pub(super) undecided: u32,
    /// The checkpoint interval, in ms; 0: not longer than a refresh.
    pub(super) interval_ms: u64,
    /// The threshold in effect, at least twice the checkpoint interval.
    pub(super) threshold_ms: u64,
    /// Further behind than this is late: the threshold without the checkpoint interval.
    pub(super) late_ms: u64,
    /// The shard that is furthest behind of those that have an owner and are not left out, and how
    /// far, in ms.
    pub(super) worst: Option<(String, u64)>,
    /// The same of the shards without owner.
    pub(super) worst_free: Option<(String, u64)>,
    /// A checkpoint stands when it does so for longer than this, in ms.
    pub(super) stands_ms: u64,
    /// Shards whose checkpoint does not move although something is unread.
    pub(super) left_out: BTreeSet<String>,
    /// Those of them that surely do not stand by habit.
    pub(super) standing: BTreeSet<String>,
    /// How many checkpoints do not move as usual.
    pub(super) doubts: Doubts,
    /// At least a third of the unread shards is behind by more than a backlog that is gone in five
    /// minutes.
    pub(super) broad_backlog: bool,
    /// Pods whose shards are behind.
    pub(super) measured: Vec<Measured>,
    /// The busiest pod with more than one shard: its shards, and how busy it is, in thousandths,
    /// lately and over minutes.
    pub(super) busiest: Option<(u32, u64, u64)>,
    /// How busy all pods are together, where leases are not dealt by number.
    pub(super) busy_by_load: Option<(u64, u64)>,
    /// Whether there is anything to do.
    pub(super) unread: bool,
}

impl Digest {
    /// How far the worst shard is behind, in ms, of those with an owner.
    pub(super) fn lag_ms(&self) -> u64 {
        self.worst.as_ref().map_or(0, |(_, lag)| *lag)
    }

    /// Whether no shard is far behind.
    pub(super) fn is_calm(&self) -> bool {
        let free_lag_ms = self.worst_free.as_ref().map_or(0, |(_, lag)| *lag);
        self.lag_ms().max(free_lag_ms) <= self.uneasy_ms()
    }

    /// More than this is not calm. Half a threshold of it is the saw-tooth of checkpoints.
    pub(super) fn uneasy_ms(&self) -> u64 {
        self.late_ms * 2 / 3
    }

    /// The wish within what the shards allow; and while some are undecided, what runs as well.
    pub(super) fn at_least(&self, wish: u32) -> u32 {
        let wish = if self.undecided > 0 {
            wish.max(self.running)
        } else {
            wish
        };
        wish.min(self.cap)
    }

    pub(super) fn undecided_reason(&self, wish: u32) -> Reason {
        Reason::Undecided {
            undecided: self.undecided,
            shards: self.shards,
            pods: self.at_least(wish),
        }
    }

    /// Nothing with an owner is late, and still nothing can be tried.
    pub(super) fn uneasy_reason(&self, wish: u32) -> Reason {
        let owned = self.worst.clone().unwrap_or_default();
        match self.worst_free.clone() {
            Some((shard, lag_ms)) if lag_ms > self.late_ms => Reason::LateWithoutOwner {
                shard,
                lag_ms,
                pods: wish,
            },
            free => {
                let (lag_ms, shard) = free
                    .map_or((0, String::new()), |(shard, lag_ms)| (lag_ms, shard))
                    .max((owned.1, owned.0));
                Reason::Uneasy { shard, lag_ms }
            }
        }
    }

    /// Whether something is late, or will be before a new pod could help.
    pub(super) fn is_late(&self) -> bool {
        self.lag_ms() > self.late_ms
            || self
                .measured
                .iter()
                .any(|pod| pod.will_be_ms() > self.late_ms)
    }

    /// The shards that a pod may have so that it also catches up, once other pods have come, in
    /// thousandths.
    pub(super) fn allowed_milli(&self, pod: &Measured) -> u64 {
        // Until other pods come the backlog grows.
        let excess = if pod.lag_ms > self.late_ms {
            pod.will_be_ms() - self.late_ms
        } else {
            0
        };
        // Of one shard's backlog half a pod's shards are enough to be rid of.
        let excess = if self.broad_backlog {
            excess
        } else {
            excess.min(DRAIN_MS)
        };
        pod.carry_milli * DRAIN_MS / (DRAIN_MS + excess)
    }

    /// Of the pods with more than one shard that are late, or will be: the one that may have
    /// fewest.
    pub(super) fn tightest(&self) -> Option<&Measured> {
        self.too_full().min_by_key(|pod| self.allowed_milli(pod))
    }

    fn too_full(&self) -> impl Iterator<Item = &Measured> {
        let measured = self.measured.iter();
        measured.filter(|pod| pod.holds > 1 && pod.will_be_ms() > self.late_ms)
    }

    /// What those have to do beyond all of their time, so that they also catch up, in thousandths
    /// of a pod.
    pub(super) fn excess_milli(&self) -> u64 {
        let excess = self.too_full().map(|pod| {
            let allowed_milli = self.allowed_milli(pod).max(1);
            (u64::from(pod.holds) * 1_000_000 / allowed_milli).saturating_sub(1000)
        });
        excess.sum()
    }

    /// One more than was wished, once those have come.
    pub(super) fn more(&self, wish: u32) -> u32 {
        wish + u32::from(self.running >= wish)
    }
}

impl State {
    pub(super) fn digest(&self, settings: &Settings, at: u64) -> Digest {
        let interval = self.checkpoint_interval_ms();
        let interval_ms = interval.unwrap_or(0);
        let threshold_ms = threshold_ms_for(settings, interval_ms);
        let late_ms = threshold_ms - interval_ms;
        let by_chance_ms = self.by_chance_ms(interval_ms);
        let stands = |shard: &ShardMemory| {
            let own_ms = shard.interval_ms(interval_ms);
            let stands_ms = stands_ms_for(settings, own_ms, by_chance_ms);
            shard.is_standing(stands_ms, settings.lag_threshold_ms)
        };
        let left_out: BTreeSet<String> = self
            .shards
            .iter()
            .filter(|(_, shard)| stands(shard))
            .map(|(id, _)| id.clone())
            .collect();
        let surely = |id: &&String| {
            let shard = self.shards.get(*id);
            let threshold_ms = settings.lag_threshold_ms;
            shard.is_some_and(|it| it.stands_surely(interval.is_some(), threshold_ms))
        };
        let is_left_out = |id: &str| left_out.contains(id);
        let lag = |shard: &ShardMemory| {
            // For whom the threshold is too short it is longer.
            let own_ms = shard.interval_ms(interval_ms);
            let more_ms = threshold_ms_for(settings, own_ms) - threshold_ms;
            // And who checkpoints by chance shows how far behind it is when it does.
            shard.lag_ms(own_ms.min(interval_ms + more_ms).max(by_chance_ms))
        };
        let behind = |has_owner: bool| {
            self.shards.iter().filter(move |(_, shard)| {
                shard.age_ms.is_some() && shard.owner.is_some() == has_owner && !shard.malformed
            })
        };
        let counted = || behind(true).filter(|(id, _)| !is_left_out(id));
        let free = behind(false).filter(|(id, _)| !self.orphans.are_given_up(id));
        let far = counted().filter(|(_, shard)| lag(shard) > late_ms + DRAIN_MS);
        let span = if self.woke_unknown {
            FIRST_SPAN_MS
        } else {
            SPAN_MOST_MS
        };
        let span = settings.lag_threshold_ms.min(span).max(2 * interval_ms);
        let says_nothing = |id: &str, shard: &ShardMemory| {
            is_left_out(id) || shard.is_overdue(threshold_ms, interval_ms)
        };
        let measured = self
            .pods
            .values()
            .filter_map(|pod| pod.measure(&self.shards, says_nothing, lag, late_ms / 2, span))
            .map(|mut pod| {
                // The first pod after zero that is late and falls back does not just pause.
                let is_behind = pod.lag_ms > late_ms && pod.progress_milli < FALLING_BACK_MILLI;
                pod.falls_back |= self.woke_unknown && is_behind;
                pod
            })
            .collect();
        let pods = || self.pods.values();
        let held = |pod: &Pod| pod.shards.len() as u32;
        let shards = self.shards.len() as u32;
        Digest {
            at,
            shards,
            cap: shards.div_ceil(settings.shard_count.max(1)),
            running: self.pods.len() as u32,
            confirmed: pods().filter(|pod| pod.confirmed).count() as u32,
            fullest: pods().map(held).max().unwrap_or(0),
            undecided: self.shards.values().filter(|it| it.undecided).count() as u32,
            interval_ms,
            threshold_ms,
            late_ms,
            worst: worst(counted(), lag),
            worst_free: worst(free, lag),
            broad_backlog: far.count() * 3 >= behind(true).count().max(1),
            measured,
            busiest: pods()
                .filter(|pod| held(pod) > 1)
                .filter_map(|pod| Some((held(pod), pod.busy_milli(at)?)))
                .max_by_key(|(_, busy)| *busy)
                .map(|(shards, (lately, long))| (shards, lately, long)),
            busy_by_load: self.busy_by_load(at),
            unread: self
                .shards
                .values()
                .any(|shard| shard.age_ms.is_some() || shard.drained),
            stands_ms: stands_ms_for(settings, interval_ms, by_chance_ms),
            standing: left_out.iter().filter(surely).cloned().collect(),
            doubts: self.doubts(at, &left_out, settings.lag_threshold_ms),
            left_out,
        }
    }

    /// The median of the shards' intervals, in ms; none where none is known.
    fn checkpoint_interval_ms(&self) -> Option<u64> {
        let intervals = self.shards.values();
        let mut intervals: Vec<u64> = intervals
            .filter_map(ShardMemory::checkpoint_interval_ms)
            .collect();
        intervals.sort_unstable();
        intervals.get(intervals.len() / 2).copied()
    }

    /// Where intervals differ much, as where records or chance say when to checkpoint: for how long
    /// one may stand, in ms; else 0.
    fn by_chance_ms(&self, interval_ms: u64) -> u64 {
        let longest = self
            .shards
            .values()
            .filter_map(ShardMemory::longest_hold_ms);
        let mut longest: Vec<u64> = longest.collect();
        longest.sort_unstable();
        let longest = longest.get(longest.len() / 2).copied();
        let longest = longest.filter(|longest| longest * 2 > interval_ms * 3);
        longest.map_or(0, |longest| 2 * longest)
    }
}

/// The threshold in effect for whoever checkpoints this often.
fn threshold_ms_for(settings: &Settings, interval_ms: u64) -> u64 {
    settings.lag_threshold_ms.max(1).max(2 * interval_ms)
}

/// After which time a checkpoint stands that moves this often, in ms.
fn stands_ms_for(settings: &Settings, interval_ms: u64, by_chance_ms: u64) -> u64 {
    let usual_ms = STANDS_MOST_MS.max(3 * interval_ms);
    let threshold_ms = threshold_ms_for(settings, interval_ms);
    threshold_ms.min(usual_ms).max(by_chance_ms)
}

/// The shard that is furthest behind, and how far.
fn worst<'a>(
    shards: impl Iterator<Item = (&'a String, &'a ShardMemory)>,
    lag: impl Fn(&ShardMemory) -> u64,
) -> Option<(String, u64)> {
    let worst = shards.map(|(id, shard)| (lag(shard), id)).max();
    worst.map(|(lag, id)| (id.clone(), lag))
}
