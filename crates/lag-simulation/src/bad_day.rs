//! Days on which things break, and what must hold on each of them. `kinds` has them all.

mod kinds;

pub use kinds::bad_days;

use crate::{
    cluster::{Consumer, faults::Outage},
    policy::{Eyes, Policy},
    run::{Moment, Outcome, Setup, run},
    workload::{Reshard, Workload},
};

/// A kind of bad day.
#[derive(Clone, Copy, Debug)]
pub struct BadDay {
    /// Its name in tables.
    pub name: &'static str,
    /// How long it is simulated, in hours.
    pub hours: u64,
    /// What is wrong.
    change: fn(Setup) -> Setup,
    /// Shards at the start in place of the workload's, and what becomes of them.
    shards: Option<(u32, &'static [(u64, Reshard)])>,
    /// What must hold besides what always must.
    holds: Invariants,
}

/// What must hold, of one run beside the oracle's.
#[derive(Clone, Copy, Debug)]
struct Invariants {
    /// Pods are at most so many times the oracle's.
    pods: f64,
    /// The age that 99 % of the time is not above, in thresholds; not asked in an outage.
    p99: Option<f64>,
    /// At most so many changes of the replicas an hour.
    changes: f64,
    /// Right-sizing may speak of an outage for so much of the time.
    alarms: f64,
    /// At least so many pods as at the start all the time.
    keeps: bool,
    /// Shards wait for an owner for at most so many seconds.
    orphaned: u64,
}

/// What a bad day came to.
#[derive(Clone, Debug)]
pub struct Day {
    /// The run and the oracle's.
    pub outcome: Outcome,
    /// The oracle's.
    pub oracle: Outcome,
    /// From the end of an outage until nothing is older than the threshold, in seconds.
    pub drain: Option<(u64, u64)>,
    /// What did not hold.
    pub broken: Vec<String>,
}

impl BadDay {
    /// Runs it, beside an oracle that meets the same.
    pub fn run(&self, workload: &Workload, consumer: Consumer, seed: u64) -> Day {
        let mut workload = workload.clone();
        workload.hours = self.hours;
        if let Some((shards, reshards)) = self.shards {
            (workload.shards, workload.reshards) = (shards, reshards);
        }
        let setup = (self.change)(Setup::new(consumer));
        let outage = setup.plan.outage.map(|(kind, from, to)| (kind, (from, to)));
        let patient = Setup {
            eyes: Eyes {
                patience: outage.map(|(_, span)| span),
                ..Eyes::default()
            },
            restart: None,
            ..setup
        };
        let outcome = run(&workload, Policy::Lag, &setup, seed);
        let oracle = run(&workload, Policy::Oracle, &patient, seed);
        // Setting checkpoints back leaves a backlog as an outage does.
        let restored = setup.plan.restored.map(|(at, _)| at);
        let end = outage.map(|(_, (_, to))| to).or(restored);
        let drain = end.and_then(|end| {
            let drained = |outcome: &Outcome| {
                let after = |moment: &&Moment| moment.second > end;
                let mut after = outcome.moments.iter().filter(after);
                let young = after.find(|moment| moment.age <= setup.threshold);
                young.map_or(u64::MAX, |moment| moment.second - end)
            };
            // Where pods cannot be made more there is nothing to compare.
            let oracles = drained(&oracle);
            (oracles < u64::MAX).then(|| (drained(&outcome), oracles))
        });
        let mut day = Day {
            outcome,
            oracle,
            drain,
            broken: Vec::new(),
        };
        day.check(self.holds, outage, &setup);
        day
    }
}

impl Day {
    /// Pod hours beside the oracle's.
    pub fn pods(&self) -> f64 {
        self.outcome.pod_hours / self.oracle.pod_hours
    }

    fn check(&mut self, holds: Invariants, outage: Option<(Outage, (u64, u64))>, setup: &Setup) {
        let java = if setup.consumer == Consumer::Java {
            1.5
        } else {
            1.0
        };
        let Self { outcome, drain, .. } = self;
        let seconds: u64 = outcome.ages.iter().sum();
        let alarms = outcome.alarms as f64 / seconds as f64;
        let p99 = outcome.p99() as f64 / setup.threshold as f64;
        let mut broken = Vec::new();
        let mut need = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        need(
            alarms <= holds.alarms,
            format!("an outage for {alarms:.3} of the time"),
        );
        need(
            outcome.changes <= holds.changes,
            format!("{:.1} changes an hour", outcome.changes),
        );
        need(
            outcome.orphaned <= holds.orphaned,
            format!("without owner for {} s", outcome.orphaned),
        );
        if let Some(most) = holds.p99 {
            need(p99 <= most * java, format!("p99 {} s", outcome.p99()));
        }
        if let Some((kind, (from, to))) = outage {
            let during = |moment: &&Moment| (from..to).contains(&moment.second);
            let replicas = || outcome.moments.iter().filter(during).map(|it| it.replicas);
            let before = replicas().next().unwrap_or(0);
            let least = replicas().min().unwrap_or(0);
            need(
                least >= before,
                format!("{least} pods of {before} in the outage"),
            );
            need(
                outcome.alarms + 300 >= to - from || !kind.is_seen(),
                format!("an outage of {} s told for {} s", to - from, outcome.alarms),
            );
        }
        if holds.keeps {
            let replicas = || outcome.moments.iter().map(|it| it.replicas);
            let (first, least) = (replicas().next(), replicas().min());
            need(least >= first, format!("{least:?} pods of {first:?}"));
        }
        if let Some((ours, oracles)) = *drain {
            need(
                ours <= oracles.saturating_add(900).saturating_add(oracles / 2),
                format!("drained in {ours} s, the oracle in {oracles} s"),
            );
        }
        let pods = self.pods();
        need(pods <= holds.pods, format!("{pods:.2} × the oracle's pods"));
        self.broken = broken;
    }
}
