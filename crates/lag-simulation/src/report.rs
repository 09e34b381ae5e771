//! Scores: means over workloads and seeds, beside the oracle's, as lines of a table.

use std::collections::BTreeMap;

use crate::{
    policy::Policy,
    run::{Outcome, Setup, run},
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
}

impl Score {
    fn of(outcome: &Outcome, oracle: &Outcome, threshold: u64) -> Self {
        Self {
            pods: outcome.pod_hours / oracle.pod_hours,
            p99: outcome.p99() as f64,
            max: outcome.max(),
            above: outcome.above(2 * threshold),
            changes: outcome.changes,
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
        } = self;
        format!("{pods:.2} | {p99:.0} | {max} | {above:.2} | {changes:.1}")
    }
}

/// Runs with the oracle's, each oracle's only once.
#[derive(Debug, Default)]
pub struct Scores {
    oracles: BTreeMap<String, Outcome>,
}

impl Scores {
    /// The mean over `seeds` of a policy on a workload.
    pub fn of(
        &mut self,
        workload: &Workload,
        policy: Policy,
        setup: &Setup,
        seeds: &[u64],
    ) -> Score {
        let scores: Vec<Score> = seeds
            .iter()
            .map(|seed| {
                // An oracle sees all, whatever the scaler's eyes, restarts or thresholds.
                let plain = Setup {
                    threshold: 30,
                    shard_count: 1,
                    ..Setup::new(setup.consumer)
                };
                let oracle = self
                    .oracles
                    .entry(format!("{} {:?} {seed}", workload.name, setup.consumer))
                    .or_insert_with(|| run(workload, Policy::Oracle, &plain, *seed));
                if policy == Policy::Oracle {
                    return Score::of(oracle, oracle, setup.threshold);
                }
                Score::of(
                    &run(workload, policy, setup, *seed),
                    oracle,
                    setup.threshold,
                )
            })
            .collect();
        Score::mean(&scores)
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
