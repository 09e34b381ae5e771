//! The rules: from what was seen and what is remembered to the replicas wished.
//!
//! Longer than other files, so that the whole decision can be read from top to bottom in one place.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::{
    decision::{Decision, ShardView, Step},
    memory::ShardMemory,
    observation::{Observation, Settings},
    pods::{self, Measured, Pod},
    words,
};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// A backlog is to be gone after this: more pods than the load alone needs.
const DRAIN_MS: u64 = 300 * SECOND;
/// After a wish for more, pods start and leases move before the next.
const PAUSE_MS: u64 = 2 * MINUTE;
/// Fewer pods are tried after so long without a lease moved or a wish changed.
const QUIET_MS: u64 = 10 * MINUTE;
/// Nothing to do for so long is idle; less is between two records.
const IDLE_MS: u64 = 2 * MINUTE;
/// How long a pod's limit is remembered.
const REMEMBER_MS: u64 = 20 * MINUTE;
/// And after trial upon trial that failed.
const REMEMBER_MOST_MS: u64 = 240 * MINUTE;
/// Of what a pod can carry, so much is asked of it in a trial, in thousandths.
const TRIAL_MILLI: u64 = 850;
/// A trial fails when shards behind gain less than this, in thousandths.
const FAILING_MILLI: u64 = 950;
/// Progress is watched for the threshold, but not longer than this unless checkpoints are rare.
const SPAN_MOST_MS: u64 = 120 * SECOND;
/// Shards named in notes; the others are counted.
const NAMED: usize = 5;

/// Busier pods than this are too few; fewer are wished when that keeps them below the other.
const BUSY_MILLI: u64 = 950;
const BUSY_AFTER_MILLI: u64 = 850;
const BUSY_QUIET_MS: u64 = 5 * MINUTE;

/// What is remembered from refresh to refresh. The default knows nothing: the first refresh takes what runs as right.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    last_ms: u64,
    /// The replicas wished; none before the first refresh.
    wish: Option<u32>,
    wished_ms: u64,
    /// When a lease last changed hands, and since when all is on time.
    handed_over_ms: u64,
    calm_since_ms: Option<u64>,
    /// Since when nothing is unread and nothing read.
    idle_since_ms: Option<u64>,
    /// Fewer replicas are being tried; so many were enough before.
    trial_from: Option<u32>,
    /// The least that a pod was seen to carry, in thousandths of a shard, until when.
    carry: Option<(u64, u64)>,
    /// How long a limit is remembered now.
    remember_ms: Option<u64>,
    shards: BTreeMap<String, ShardMemory>,
    pods: BTreeMap<String, Pod>,
}

/// One refresh, digested.
struct Picture {
    at: u64,
    /// Readable shards, the most a replica may not have fewer of, and the replicas that comes to.
    shards: u32,
    cap: u32,
    running: u32,
    fullest: u32,
    /// The threshold in effect, and how far behind is late, calm, and behind at all.
    threshold_ms: u64,
    interval_ms: u64,
    late_ms: u64,
    /// The shard that is furthest behind of those that count.
    worst: Option<(String, u64)>,
    left_out: BTreeSet<String>,
    measured: Vec<Measured>,
    /// The busiest pod with more than one shard: its shards, and how busy lately and over minutes.
    busiest: Option<(u32, u64, u64)>,
    unread: bool,
}

impl Picture {
    /// What a pod must not have more of, so that it also catches up, in thousandths of a shard.
    fn need_of(&self, pod: &Measured) -> u64 {
        let excess = pod.lag_ms.saturating_sub(self.late_ms).min(DRAIN_MS);
        pod.carry_milli * DRAIN_MS / (DRAIN_MS + excess)
    }

    /// The pod that is late, or will be, and must have the fewest shards.
    fn tightest(&self) -> Option<&Measured> {
        self.measured
            .iter()
            .filter(|pod| pod.holds > 1 && pod.will_be_ms() > self.late_ms)
            .min_by_key(|pod| self.need_of(pod))
    }

    /// Up to this, all is calm. Half a threshold of it is the saw-tooth of checkpoints.
    fn uneasy_ms(&self) -> u64 {
        self.late_ms * 2 / 3
    }
}

impl State {
    /// One refresh. Depends on nothing but its arguments.
    pub fn decide(&mut self, seen: &Observation, settings: &Settings) -> Decision {
        let at = seen.at_ms.max(self.last_ms);
        let picture = self.look(seen, settings, at);
        let (step, reason) = self.judge(&picture, settings);
        let wish = self.wish.unwrap_or(1).max(1);
        let replicas = wish.min(picture.cap);
        self.last_ms = at;
        Decision {
            at_ms: seen.at_ms,
            replicas,
            value: f64::from(settings.shard_count.max(1)) * f64::from(replicas),
            active: self.active(&picture, settings),
            step,
            reason,
            notes: self.notes(&picture, settings),
            shards_per_replica: per_replica(picture.shards, replicas),
            running: picture.running,
            carry: self.carry.map(|(milli, _)| milli as f64 / 1000.0),
            checkpoint_interval_ms: picture.interval_ms,
            shards: self.views(&picture),
        }
    }

    fn look(&mut self, seen: &Observation, settings: &Settings, at: u64) -> Picture {
        let before = self.shards.len();
        let ids: HashSet<_> = seen.shards.iter().map(|shard| shard.id.as_str()).collect();
        self.shards.retain(|id, _| ids.contains(id.as_str()));
        let mut resharded = self.shards.len() != before;
        for shard in &seen.shards {
            if let Some(memory) = self.shards.get_mut(&shard.id) {
                if memory.update(shard, at) {
                    self.handed_over_ms = at;
                }
            } else {
                self.shards.insert(
                    shard.id.clone(),
                    ShardMemory::new(shard, at, self.wish.is_none()),
                );
                resharded = true;
            }
        }
        pods::update(&mut self.pods, seen, at);
        if resharded {
            // The replicas stay what they are; what a pod carried was counted in other shards.
            self.carry = None;
            self.trial_from = None;
            self.handed_over_ms = at;
        }

        let interval_ms = self.checkpoint_interval_ms();
        let threshold_ms = settings.lag_threshold_ms.max(1).max(2 * interval_ms);
        let late_ms = threshold_ms - interval_ms;
        let left_out: BTreeSet<String> = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.stands_ms(at) > threshold_ms)
            .map(|(id, _)| id.clone())
            .collect();
        let counts = |id: &str| !left_out.contains(id);
        let lag = |shard: &ShardMemory| shard.lag_ms(interval_ms);
        let worst = self
            .shards
            .iter()
            .filter(|(id, shard)| counts(id) && shard.age_ms.is_some())
            .map(|(id, shard)| (lag(shard), id))
            .max()
            .map(|(lag, id)| (id.clone(), lag));
        let span = settings
            .lag_threshold_ms
            .min(SPAN_MOST_MS)
            .max(2 * interval_ms);
        let measured = self
            .pods
            .values()
            .filter_map(|pod| pod.measure(&self.shards, |id| !counts(id), lag, late_ms / 2, span))
            .collect();
        let busiest = self
            .pods
            .values()
            .filter(|pod| pod.shards.len() > 1)
            .filter_map(|pod| {
                pod.busy_milli(at)
                    .map(|busy| (pod.shards.len() as u32, busy))
            })
            .max_by_key(|(_, busy)| *busy)
            .map(|(shards, (lately, long))| (shards, lately, long));
        let shards = self.shards.len() as u32;
        Picture {
            at,
            shards,
            cap: shards.div_ceil(settings.shard_count.max(1)),
            running: self.pods.len() as u32,
            fullest: self
                .pods
                .values()
                .map(|pod| pod.shards.len() as u32)
                .max()
                .unwrap_or(0),
            threshold_ms,
            interval_ms,
            late_ms,
            worst,
            left_out,
            measured,
            busiest,
            unread: self
                .shards
                .values()
                .any(|shard| shard.age_ms.is_some() || shard.drained),
        }
    }

    /// The median of what the shards say.
    fn checkpoint_interval_ms(&self) -> u64 {
        let mut intervals: Vec<u64> = self
            .shards
            .values()
            .filter_map(ShardMemory::checkpoint_interval_ms)
            .collect();
        intervals.sort_unstable();
        intervals.get(intervals.len() / 2).copied().unwrap_or(0)
    }

    fn judge(&mut self, picture: &Picture, settings: &Settings) -> (Step, String) {
        let at = picture.at;
        let Some(wish) = self.wish else {
            return self.first(picture);
        };
        // A lasting wish is for what can be had.
        let wish = wish.min(picture.cap).max(1);
        let lag = picture.worst.as_ref().map_or(0, |(_, lag)| *lag);
        let late = lag > picture.late_ms
            || picture
                .measured
                .iter()
                .any(|pod| pod.will_be_ms() > picture.late_ms);
        let calm = lag <= picture.uneasy_ms();
        self.calm_since_ms = match (calm, self.calm_since_ms) {
            (true, None) => Some(at),
            (true, since) => since,
            (false, _) => None,
        };
        if self.carry.is_some_and(|(_, until)| until < at) {
            self.carry = None;
        }
        self.remember(picture);

        self.mind_idleness(picture, wish);
        if let Some(decided) = self.back(picture, settings, wish) {
            return decided;
        }
        if late {
            return self.late(picture, settings, wish);
        }
        if let Some(decided) = self.too_busy(picture, settings, wish) {
            return decided;
        }
        if calm {
            return self.calm(picture, settings, wish);
        }
        let (id, lag) = picture.worst.clone().unwrap_or_default();
        let words = format!(
            "{} is {} behind: neither late nor calm",
            words::shard(&id),
            words::time(lag)
        );
        (Step::Hold, words)
    }

    /// The first refresh: what runs is the memory.
    fn first(&mut self, picture: &Picture) -> (Step, String) {
        let wish = picture.running.max(1);
        self.wish = Some(wish);
        if picture.running > 0 {
            // They may have come a moment ago. Where nothing runs, nothing has to settle.
            self.wished_ms = picture.at;
        }
        self.handed_over_ms = picture.at;
        let words = match picture.running {
            0 => "first look: nothing runs, so 1 pod".into(),
            1 => "first look: 1 pod holds leases".into(),
            n => format!("first look: {n} pods hold leases"),
        };
        (Step::First, words)
    }

    /// Time without work is no evidence that the pods suffice: it does not count as quiet, and a trial under way is off.
    fn mind_idleness(&mut self, picture: &Picture, wish: u32) {
        let at = picture.at;
        if picture.unread || self.shards.values().any(|shard| shard.read) {
            self.idle_since_ms = None;
            return;
        }
        let since = *self.idle_since_ms.get_or_insert(at);
        if at - since >= IDLE_MS {
            let gap = at - self.last_ms;
            self.handed_over_ms += gap;
            if let Some(from) = self.trial_from.take() {
                self.wish = Some(from.max(wish));
            }
        }
    }

    /// Keeps the least that a pod with more than one shard was seen to carry.
    fn remember(&mut self, picture: &Picture) {
        let least = picture
            .measured
            .iter()
            .filter(|pod| pod.holds > 1 && pod.lag_ms > picture.uneasy_ms())
            .map(|pod| pod.carry_milli)
            .min();
        if let Some(least) = least
            && self.carry.is_none_or(|(carry, _)| least <= carry)
        {
            let until = picture.at + self.remember_ms.unwrap_or(REMEMBER_MS);
            self.carry = Some((least, until));
        }
    }

    fn wish_for(&mut self, replicas: u32, at: u64) {
        self.wish = Some(replicas);
        self.wished_ms = at;
        self.calm_since_ms = None;
    }

    /// A trial that makes records late ends at once.
    fn back(
        &mut self,
        picture: &Picture,
        settings: &Settings,
        wish: u32,
    ) -> Option<(Step, String)> {
        let from = self.trial_from.filter(|from| *from > wish)?;
        let failing = picture.measured.iter().find(|pod| {
            let uneasy = pod.lag_ms > picture.uneasy_ms() && pod.progress_milli < FAILING_MILLI;
            uneasy || pod.will_be_ms() > picture.late_ms
        })?;
        let remember = (self.remember_ms.unwrap_or(REMEMBER_MS) * 4).min(REMEMBER_MOST_MS);
        self.remember_ms = Some(remember);
        let carry = self.carry.map_or(failing.carry_milli, |(carry, _)| {
            carry.min(failing.carry_milli)
        });
        self.carry = Some((carry, picture.at + remember));
        self.trial_from = None;
        // Records may be late because there are more of them, clearly: then more pods are needed than before.
        let enough = picture.tightest().map_or(from, |pod| {
            let k = (picture.need_of(pod) * 6 / 5000) as u32;
            from.max(picture.shards.div_ceil(k.max(settings.shard_count).max(1)))
        });
        self.wish_for(enough, picture.at);
        let words = format!(
            "{} too few: {} is {} behind and gains {} s a second; so {}",
            if wish == 1 {
                "1 pod was".into()
            } else {
                format!("{wish} pods were")
            },
            words::shard(&failing.worst),
            words::time(failing.lag_ms),
            decimal(failing.progress_milli),
            words::count(enough, "pod"),
        );
        Some((Step::Back, words))
    }

    fn late(&mut self, picture: &Picture, settings: &Settings, wish: u32) -> (Step, String) {
        let (id, lag) = picture.worst.clone().unwrap_or_default();
        let late = format!("late: {} is {} old", words::shard(&id), words::time(lag));
        if self
            .shards
            .get(&id)
            .is_some_and(|shard| shard.owner.is_none())
        {
            let words = format!(
                "{late} and nobody holds it: {} wished",
                words::count(wish, "pod")
            );
            return (Step::Hold, words);
        }
        let tightest = picture.tightest();
        let Some(pod) = tightest else {
            return (Step::Hold, self.waiting(picture, &late, wish));
        };
        let late = format!(
            "late: {} is {} old and gains {} s a second",
            words::shard(&pod.worst),
            words::time(pod.lag_ms),
            decimal(pod.progress_milli),
        );
        if picture.need_of(pod) >= u64::from(picture.fullest) * 1000 {
            return (
                Step::Hold,
                format!("{late}: {} will do", words::count(wish, "pod")),
            );
        }
        let k = per_replica(picture.shards, wish)
            .min((picture.need_of(pod) / 1000) as u32)
            .min(picture.fullest.saturating_sub(1))
            .max(settings.shard_count)
            .max(1);
        let replicas = picture.shards.div_ceil(k);
        let late = format!(
            "{late}; its pod carries {} of {} shards; so {} a pod",
            decimal(pod.carry_milli),
            pod.holds,
            words::count(k, "shard"),
        );
        if replicas <= wish {
            let words = if wish >= picture.cap {
                format!("{late}, the fewest that shardCount allows")
            } else {
                format!(
                    "{late}: {} wished, {} run",
                    words::count(wish, "pod"),
                    picture.running
                )
            };
            return (Step::Hold, words);
        }
        let since = picture.at - self.wished_ms;
        if since < DRAIN_MS && pod.progress_milli >= 1000 {
            return (
                Step::Hold,
                format!("{late}, unless the last change is enough: it gains"),
            );
        }
        if since < PAUSE_MS && self.trial_from.is_none() {
            return (
                Step::Hold,
                format!("{late}, once the last change has settled"),
            );
        }
        self.trial_from = None;
        self.wish_for(replicas, picture.at);
        (Step::Out, late)
    }

    /// Late, but no pod with more than one shard can tell how much it carries.
    fn waiting(&self, picture: &Picture, late: &str, wish: u32) -> String {
        let alone = picture.measured.iter().find(|pod| {
            pod.holds == 1 && pod.lag_ms > picture.late_ms && pod.progress_milli < FAILING_MILLI
        });
        match alone {
            Some(pod) => format!(
                "{late}, alone on its pod and gains {} s a second: {} is too big for one pod, split it",
                decimal(pod.progress_milli),
                words::shard(&pod.worst),
            ),
            None => format!(
                "{late}: watching how fast it gains, {} wished",
                words::count(wish, "pod")
            ),
        }
    }

    /// Nothing is late, but a pod says that it will be.
    fn too_busy(
        &mut self,
        picture: &Picture,
        settings: &Settings,
        wish: u32,
    ) -> Option<(Step, String)> {
        let (holds, busy, _) = picture.busiest.filter(|(_, busy, _)| *busy > BUSY_MILLI)?;
        // A pod that reads a backlog is busy, and that ends.
        let calm_for = self.calm_since_ms.map_or(0, |since| picture.at - since);
        if calm_for.min(picture.at - self.wished_ms) < 2 * PAUSE_MS {
            return None;
        }
        let k = (u64::from(holds) * BUSY_AFTER_MILLI / busy) as u32;
        let k = k
            .min(per_replica(picture.shards, wish))
            .min(holds - 1)
            .max(settings.shard_count)
            .max(1);
        let replicas = picture.shards.div_ceil(k);
        if replicas <= wish {
            return None;
        }
        self.trial_from = None;
        self.wish_for(replicas, picture.at);
        let words = format!(
            "a pod with {holds} shards is {} % busy; so {} a pod",
            busy / 10,
            words::count(k, "shard")
        );
        Some((Step::Out, words))
    }

    fn calm(&mut self, picture: &Picture, settings: &Settings, wish: u32) -> (Step, String) {
        let at = picture.at;
        let calm_for = self.calm_since_ms.map_or(0, |since| at - since);
        let quiet_for = at
            .saturating_sub(self.handed_over_ms)
            .min(at - self.wished_ms);
        let knows = self.every_pod_says(at);
        let quiet = if knows { BUSY_QUIET_MS } else { QUIET_MS };
        if !picture.unread && picture.running == 0 {
            let words = words::count(wish, "pod");
            return (
                Step::Hold,
                format!("nothing is unread; {words} when there is"),
            );
        }
        if quiet_for < quiet || calm_for < quiet / 2 {
            let left = quiet
                .saturating_sub(quiet_for)
                .max((quiet / 2).saturating_sub(calm_for));
            let words = match self.trial_from {
                Some(_) => format!(
                    "trying {} for {}",
                    words::count(wish, "pod"),
                    words::time(left)
                ),
                None => format!(
                    "on time with {}; fewer are tried after {} of quiet",
                    words::count(wish, "pod"),
                    words::time(left)
                ),
            };
            return (Step::Hold, words);
        }
        if picture.running < wish {
            if picture.running == 0 {
                return (
                    Step::Hold,
                    format!("{} wished, none runs", words::count(wish, "pod")),
                );
            }
            // Something else keeps them few, and they do: what runs is right.
            self.trial_from = None;
            self.wish_for(picture.running, at);
            let words = format!(
                "on time, and only {} run: so that many",
                words::count(picture.running, "pod")
            );
            return (Step::In, words);
        }
        if picture.running > wish {
            return (
                Step::Hold,
                format!(
                    "{} wished, {} run and are on time",
                    words::count(wish, "pod"),
                    picture.running
                ),
            );
        }
        if self.trial_from.take().is_some() {
            // The trial held.
            self.remember_ms = None;
        }
        self.fewer(picture, settings, wish, knows)
    }

    fn fewer(
        &mut self,
        picture: &Picture,
        settings: &Settings,
        wish: u32,
        knows: bool,
    ) -> (Step, String) {
        let on_time = format!("on time with {}", words::count(wish, "pod"));
        if wish == 1 {
            return (Step::Hold, on_time);
        }
        // Shards divide evenly or not: the next number a pod can have that needs fewer pods, or a quarter more.
        let k = per_replica(picture.shards, wish).max(settings.shard_count);
        let next = picture.shards.div_ceil(wish - 1);
        let bold = next.max(k + k / 4);
        let limit = match (knows, picture.busiest) {
            (true, Some((holds, _, busy))) => {
                Some(u64::from(holds) * BUSY_AFTER_MILLI / busy.max(1))
            }
            (true, None) => None,
            (false, _) => self.carry.map(|(carry, _)| carry * TRIAL_MILLI / 1_000_000),
        };
        let Some(k) = [bold, next]
            .into_iter()
            .find(|k| limit.is_none_or(|limit| u64::from(*k) <= limit))
        else {
            let words = match self.carry.filter(|_| !knows) {
                Some((carry, until)) => format!(
                    "{on_time}: a pod carries {} shards, {next} are tried in {}",
                    decimal(carry),
                    words::time(until - picture.at)
                ),
                None => format!("{on_time}: fewer would be too busy"),
            };
            return (Step::Hold, words);
        };
        let replicas = picture.shards.div_ceil(k);
        if !knows {
            self.trial_from = Some(wish);
        }
        self.wish_for(replicas, picture.at);
        let words = if knows {
            format!(
                "pods are not busy: {} will do",
                words::count(replicas, "pod")
            )
        } else {
            format!("trying {}: {on_time} so far", words::count(replicas, "pod"))
        };
        (Step::In, words)
    }

    /// Whether every pod says how busy it is.
    fn every_pod_says(&self, at: u64) -> bool {
        !self.pods.is_empty() && self.pods.values().all(|pod| pod.busy_milli(at).is_some())
    }

    fn active(&self, picture: &Picture, settings: &Settings) -> bool {
        self.shards.values().any(|shard| {
            shard.drained
                || shard.age_ms.is_some_and(|age| {
                    picture.running > 0 || age >= settings.activation_lag_threshold_ms
                })
                || (picture.running > 0 && shard.read)
        })
    }

    fn notes(&self, picture: &Picture, settings: &Settings) -> Vec<String> {
        let mut notes = Vec::new();
        if picture.threshold_ms > settings.lag_threshold_ms {
            notes.push(format!(
                "lagThreshold {} is less than twice the checkpoint interval, which is about {}: decided as if it were {}",
                words::time(settings.lag_threshold_ms),
                words::time(picture.interval_ms),
                words::time(picture.threshold_ms),
            ));
        }
        for id in picture.left_out.iter().take(NAMED) {
            let stands = self
                .shards
                .get(id)
                .map_or(0, |shard| shard.stands_ms(picture.at));
            notes.push(format!(
                "{}'s checkpoint has not moved for {}: left out",
                words::shard(id),
                words::time(stands)
            ));
        }
        if picture.left_out.len() > NAMED {
            notes.push(format!(
                "{} more checkpoints have not moved: left out",
                picture.left_out.len() - NAMED
            ));
        }
        for pod in &picture.measured {
            if pod.holds == 1 && pod.lag_ms > picture.late_ms && pod.progress_milli < FAILING_MILLI
            {
                notes.push(format!(
                    "{} is too big for one pod: split it",
                    words::shard(&pod.worst)
                ));
            }
        }
        notes
    }

    fn views(&self, picture: &Picture) -> Vec<ShardView> {
        let progress = |id: &str| {
            let pod = picture.measured.iter().find(|pod| pod.worst == id)?;
            Some(pod.progress_milli as f64 / 1000.0)
        };
        self.shards
            .iter()
            .map(|(id, shard)| ShardView {
                id: id.clone(),
                owner: shard.owner.clone(),
                age_ms: shard.age_ms,
                progress: progress(id),
                left_out: picture.left_out.contains(id),
            })
            .collect()
    }
}

fn per_replica(shards: u32, replicas: u32) -> u32 {
    shards.div_ceil(replicas.max(1))
}

/// Thousandths as "0.6".
fn decimal(milli: u64) -> String {
    format!("{:.1}", milli as f64 / 1000.0)
}
