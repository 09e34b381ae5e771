//! The tables of docs/lag.md.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::{
    bad_day::{Day, bad_days},
    cluster::{Consumer, Placement},
    generator::generated,
    parallel,
    policy::{Eyes, Policy},
    report::{Score, Scores},
    run::Setup,
    workload::{Workload, held_out, known},
};

/// The rules were tuned on seeds 1 to 3.
pub const SEEDS: [u64; 4] = [11, 12, 13, 14];
/// Those that read.
pub const CONSUMERS: [Consumer; 2] = [Consumer::Own, Consumer::Java];

/// Workloads that bad days befall.
const BEFALLEN: [&str; 3] = ["steady60", "diurnal", "walk"];

/// Bad days: the table, and what did not hold.
pub fn befallen() -> (String, Vec<String>) {
    let head = "pods / oracle | p99 s | oldest s | changes/h | drained in min, oracle's";
    let mut table = format!(
        "| | {head} | Java-like: {head} |\n|---|{}\n",
        "---|".repeat(10)
    );
    let mut broken = Vec::new();
    for bad_day in bad_days() {
        let runs = CONSUMERS.into_iter().flat_map(|consumer| {
            let seeds = move |name| SEEDS[..2].iter().map(move |seed| (consumer, name, *seed));
            BEFALLEN.into_iter().flat_map(seeds)
        });
        let runs: Vec<_> = runs.collect();
        let days = parallel::each(&runs, |(consumer, name, seed)| {
            let workload = named(name).expect("it is among the workloads");
            bad_day.run(&workload, *consumer, *seed)
        });
        for ((consumer, name, seed), day) in runs.iter().zip(&days) {
            let what = format!("{}, {name}, {consumer:?}, seed {seed}", bad_day.name);
            broken.extend(day.broken.iter().map(|it| format!("{what}: {it}")));
        }
        let (own, java) = days.split_at(days.len() / 2);
        let (own, java) = (day_cells(own), day_cells(java));
        let _ = writeln!(table, "| {} | {own} | {java} |", bad_day.name);
    }
    broken.sort();
    (table, broken)
}

fn day_cells(days: &[Day]) -> String {
    let n = days.len() as f64;
    let mean = |part: &dyn Fn(&Day) -> f64| days.iter().map(part).sum::<f64>() / n;
    let drained = if days.iter().all(|day| day.drain.is_some()) {
        let minutes = |part: fn((u64, u64)) -> u64| {
            mean(&|day| day.drain.map_or(0.0, |drain| part(drain) as f64 / 60.0))
        };
        format!("{:.0}, {:.0}", minutes(|it| it.0), minutes(|it| it.1))
    } else {
        String::new()
    };
    format!(
        "{:.2} | {:.0} | {} | {:.1} | {drained}",
        mean(&Day::pods),
        mean(&|day| day.outcome.p99() as f64),
        days.iter().map(|day| day.outcome.max()).max().unwrap_or(0),
        mean(&|day| day.outcome.changes),
    )
}

/// Workloads by chance: those that are tuned on, and those that are reported.
pub fn by_chance(scores: &mut Scores) -> String {
    let mut table = format!(
        "| seeds | {HEAD} | Java-like: {HEAD} |\n|---|{}\n",
        "---|".repeat(10)
    );
    for (name, policy, seeds) in [
        ("1 to 20, tuned on", Policy::Lag, 1..=20),
        ("1001 to 1040", Policy::Lag, 1001..=1040),
        (
            "1001 to 1040, pods say how busy they are",
            Policy::Busy,
            1001..=1040,
        ),
        (
            "1001 to 1040, the oracle without foresight",
            Policy::NoForesight,
            1001..=1040,
        ),
    ] {
        let cells = CONSUMERS.map(|consumer| {
            let each: Vec<_> = seeds
                .clone()
                .map(|seed| scores.of(&generated(seed), policy, &Setup::new(consumer), &[seed]))
                .collect();
            Score::mean(&each).cells()
        });
        let _ = writeln!(table, "| {name} | {} | {} |", cells[0], cells[1]);
    }
    table
}

const HEAD: &str = "pods / oracle | p99 s | worst s | % > 2 T | changes/h";

/// Every policy.
pub fn policies(scores: &mut Scores) -> String {
    let mut table = format!(
        "| | {HEAD} | Java-like: {HEAD} |\n|---|{}\n",
        "---|".repeat(10)
    );
    for policy in [
        Policy::Lag,
        Policy::Busy,
        Policy::OpenShards,
        Policy::LateShards,
        Policy::IteratorAge,
        Policy::Oracle,
    ] {
        let [own, java] =
            CONSUMERS.map(|consumer| scores.over(&known(), policy, &Setup::new(consumer), &SEEDS));
        let _ = writeln!(
            table,
            "| {} | {} | {} |",
            policy.name(),
            own.cells(),
            java.cells()
        );
    }
    table
}

/// `scaleOn: lag`, workload by workload.
pub fn by_workload(scores: &mut Scores, workloads: &[Workload]) -> String {
    let mut table = format!(
        "| | | {HEAD} | Java-like: {HEAD} |\n|---|---|{}\n",
        "---|".repeat(10)
    );
    for workload in workloads {
        let [own, java] = CONSUMERS
            .map(|consumer| scores.of(workload, Policy::Lag, &Setup::new(consumer), &SEEDS));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} |",
            workload.name,
            workload.what,
            own.cells(),
            java.cells()
        );
    }
    let [own, java] = CONSUMERS
        .map(|consumer| scores.over(workloads, Policy::Lag, &Setup::new(consumer), &SEEDS));
    let _ = writeln!(table, "| **mean** | | {} | {} |", own.cells(), java.cells());
    table
}

/// Leases dealt by number and by load, workload by workload. Whoever deals by load says how busy it
/// is.
pub fn placements(scores: &mut Scores) -> String {
    let head = "pods / oracle | p99 s | worst s | % > 2 T | changes/h | leases moved/h";
    let mut table = format!(
        "| | by number: {head} | by load: {head} |\n|---|{}\n",
        "---|".repeat(12)
    );
    let number = Setup::new(Consumer::Own);
    let load = Setup {
        placement: Placement::Load,
        ..number
    };
    let cells = |score: Score| format!("{} | {:.0}", score.cells(), score.moves);
    let all: Vec<Workload> = known().into_iter().chain(held_out()).collect();
    for workload in &all {
        let [number, load] =
            [number, load].map(|setup| cells(scores.of(workload, Policy::Busy, &setup, &SEEDS)));
        let _ = writeln!(table, "| {} | {number} | {load} |", workload.name);
    }
    let [number, load] =
        [number, load].map(|setup| cells(scores.over(&all, Policy::Busy, &setup, &SEEDS)));
    let _ = writeln!(table, "| **mean** | {number} | {load} |");
    table
}

/// When things are not as they should be.
pub fn conditions(scores: &mut Scores) -> String {
    type Change = fn(Setup) -> Setup;
    let rows: [(&str, Change); 13] = [
        ("as above", |setup| setup),
        ("asked every 30 s only, no push", |setup| Setup {
            push: false,
            ..setup
        }),
        ("`shardCount` 2", |setup| Setup {
            shard_count: 2,
            ..setup
        }),
        ("`lagThreshold` 60 s", |setup| Setup {
            threshold: 60,
            ..setup
        }),
        ("checkpoints every 15 s", |setup| Setup {
            checkpoint: 15,
            ..setup
        }),
        ("checkpoints every 60 s, `lagThreshold` 120 s", |setup| {
            Setup {
                checkpoint: 60,
                threshold: 120,
                ..setup
            }
        }),
        (
            "checkpoints every 60 s, `lagThreshold` 30 s: too short",
            |setup| Setup {
                checkpoint: 60,
                ..setup
            },
        ),
        (
            "looks up to 10 s late, a fifth of them throttled",
            |setup| Setup {
                eyes: Eyes {
                    jitter: 10,
                    throttled: 0.2,
                    ..setup.eyes
                },
                ..setup
            },
        ),
        ("AWS's clock 5 s ahead", |setup| Setup {
            eyes: Eyes {
                skew: 5,
                ..setup.eyes
            },
            ..setup
        }),
        ("one shard stuck for an hour", |setup| Setup {
            stuck: Some(3600),
            ..setup
        }),
        ("scaler restarted every 20 min", |setup| Setup {
            restart: Some(1200),
            ..setup
        }),
        ("two scalers answer in turn", |setup| Setup {
            two_scalers: true,
            ..setup
        }),
        ("scale-down stabilisation 60 s", |setup| Setup {
            stabilisation: 60,
            ..setup
        }),
    ];
    let mut table = format!(
        "| | {HEAD} | Java-like: {HEAD} |\n|---|{}\n",
        "---|".repeat(10)
    );
    for (name, change) in rows {
        let [own, java] = CONSUMERS.map(|consumer| {
            scores.over(
                &known(),
                Policy::Lag,
                &change(Setup::new(consumer)),
                &SEEDS[..2],
            )
        });
        let _ = writeln!(table, "| {name} | {} | {} |", own.cells(), java.cells());
    }
    table
}

/// A workload by its name.
///
/// # Errors
/// There is none of that name.
pub fn named(name: &str) -> Result<Workload> {
    known()
        .into_iter()
        .chain(held_out())
        .find(|workload| workload.name == name)
        .with_context(|| format!("no workload is called {name}"))
}
