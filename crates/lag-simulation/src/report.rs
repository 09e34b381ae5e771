//! Scores: means over workloads and seeds, beside the oracle's, as lines of a table.
//!
//! A table is made twice: at first to know which runs it needs, then, when those were run, to be
//! filled in.

use std::collections::BTreeMap;

use crate::{
    parallel,
    policy::Policy,
    run::{Setup, run},
    workload::Workload,
};

/// What a policy came to, over one workload or several: means, and the worst age of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Pod hours by the oracle's.
    pub pods: f64,
    /// The age that 99 % of a run is not above, in seconds.
    pub p99: f64,
    /// The worst age.
    pub max: u64,
    /// Percent of the time above twice the threshold.
    pub above: f64,
    /// Changes of the replicas, an hour.
    pub changes: f64,
    /// Leases that moved between pods that ran, an hour.
    pub moves: f64,
}

impl Score {
    fn of(ran: Ran, oracle: Ran) -> Self {
        Self {
            pods: ran.pod_hours / oracle.pod_hours,
            p99: ran.p99,
            max: ran.max,
            above: ran.above,
            changes: ran.changes,
            moves: ran.moves,
        }
    }

    /// The mean, and the worst maximum.
    pub fn mean(scores: &[Self]) -> Self {
        let n = scores.len().max(1) as f64;
        let mean = |part: fn(&Self) -> f64| scores.iter().map(part).sum::<f64>() / n;
        Self {
            pods: mean(|score| score.pods),
            p99: mean(|score| score.p99),
            max: scores.iter().map(|score| score.max).max().unwrap_or(0),
            above: mean(|score| score.above),
            changes: mean(|score| score.changes),
            moves: mean(|score| score.moves),
        }
    }

    /// Five cells.
    pub fn cells(&self) -> String {
        let Self {
            pods,
            p99,
            max,
            above,
            changes,
            moves: _,
        } = self;
        format!("{pods:.2} | {p99:.0} | {max} | {above:.2} | {changes:.1}")
    }
}

/// A run, and whose it is.
#[derive(Debug)]
struct Job {
    workload: Workload,
    policy: Policy,
    setup: Setup,
    seed: u64,
}

/// What of a run is told.
#[derive(Clone, Copy, Debug)]
struct Ran {
    pod_hours: f64,
    p99: f64,
    max: u64,
    above: f64,
    changes: f64,
    moves: f64,
}

/// Runs, each made once.
#[derive(Debug, Default)]
pub struct Scores {
    wanted: BTreeMap<String, Job>,
    done: BTreeMap<String, Ran>,
}

impl Scores {
    /// A table, filled in.
    pub fn fill<T>(&mut self, table: impl Fn(&mut Self) -> T) -> T {
        table(self);
        let (keys, jobs): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wanted).into_iter().unzip();
        let done = parallel::each(&jobs, |job| {
            let outcome = run(&job.workload, job.policy, &job.setup, job.seed);
            Ran {
                pod_hours: outcome.pod_hours,
                p99: outcome.p99() as f64,
                max: outcome.max(),
                above: outcome.above(2 * job.setup.threshold),
                changes: outcome.changes,
                moves: outcome.moves,
            }
        });
        self.done.extend(keys.into_iter().zip(done));
        table(self)
    }

    /// The mean over `seeds` of a policy on a workload; nothing, while it was not run.
    pub fn of(
        &mut self,
        workload: &Workload,
        policy: Policy,
        setup: &Setup,
        seeds: &[u64],
    ) -> Score {
        // An oracle sees all, whatever the scaler's eyes, restarts or thresholds.
        let plain = Setup::new(setup.consumer);
        let scores: Vec<Score> = seeds
            .iter()
            .filter_map(|seed| {
                let oracle = self.ran(workload, Policy::Oracle, &plain, *seed);
                let ran = match policy {
                    Policy::Oracle => oracle,
                    policy => self.ran(workload, policy, setup, *seed),
                };
                Some(Score::of(ran?, oracle?))
            })
            .collect();
        Score::mean(&scores)
    }

    fn ran(
        &mut self,
        workload: &Workload,
        policy: Policy,
        setup: &Setup,
        seed: u64,
    ) -> Option<Ran> {
        let key = format!("{} {policy:?} {setup:?} {seed}", workload.name);
        let ran = self.done.get(&key).copied();
        if ran.is_none() {
            let job = Job {
                workload: workload.clone(),
                policy,
                setup: *setup,
                seed,
            };
            self.wanted.insert(key, job);
        }
        ran
    }

    /// The mean over workloads too.
    pub fn over(
        &mut self,
        workloads: &[Workload],
        policy: Policy,
        setup: &Setup,
        seeds: &[u64],
    ) -> Score {
        let scores: Vec<Score> = workloads
            .iter()
            .map(|workload| self.of(workload, policy, setup, seeds))
            .collect();
        Score::mean(&scores)
    }
}
