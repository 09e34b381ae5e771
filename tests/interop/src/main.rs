//! This library and the real Java KCL on one stream and one lease table: each takes over from the
//! other, and they share. `tests/interop/run` builds and starts it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the transcript is what it is for"
)]

mod attributes;
mod checkpoint;
mod java_log;
mod leases;
mod ledger;
mod process;
mod scaler;
mod scenarios;
mod serve;
mod services;
mod stream;
mod world;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use leases::Watched;
use process::Kcl;
use scenarios::{LED, Scenario, TAKING, UPGRADING};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use world::Outcome;

/// When a scenario gives up: the timers are seconds, but a JVM on a starved machine takes minutes
/// to start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// A scenario with a version of the KCL, such as `2.7.2/java-first`.
struct Run {
    name: String,
    scenario: Scenario,
    kcl: Kcl,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let runs = wanted(std::env::args().skip(1).collect())?;
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let mut rows = Vec::new();
    let mut failed = 0;
    let mut terminated = signal(SignalKind::terminate())?;
    for run in runs {
        println!("--- {}", run.name);
        let begin = Instant::now();
        let logs = logs.join(&run.name);
        let played = scenarios::run(run.scenario, run.kcl, &logs);
        let outcome = tokio::select! {
            outcome = played => outcome,
            // Dropped, a scenario ends its workers.
            _ = terminated.recv() => bail!("terminated"),
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        };
        let seconds = begin.elapsed().as_secs();
        if let Err(error) = &outcome {
            let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
            eprintln!(
                "{} failed after {seconds} s: {}",
                run.name,
                causes.join("\n")
            );
            failed += 1;
        }
        let row = row(&run.name, seconds, &outcome);
        println!("{row}");
        rows.push(row);
    }
    println!(
        "\n| scenario | result | s | records | again | lease moves | bytes of ours | scaler checks | Java warnings |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    if failed > 0 {
        eprintln!("{failed} failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The scenarios whose names contain one of the arguments; `all` and no argument mean all of them.
fn wanted(arguments: Vec<String>) -> Result<Vec<Run>> {
    let sets: [(Kcl, &[(&str, Scenario)]); 4] = [
        (Kcl::V2, &TAKING),
        (Kcl::V3, &TAKING),
        (Kcl::Led, &LED),
        (Kcl::Upgrading, &UPGRADING),
    ];
    let all = sets.iter().flat_map(|(kcl, set)| {
        set.iter().map(|(name, scenario)| Run {
            name: format!("{}/{name}", kcl.name()),
            scenario: *scenario,
            kcl: *kcl,
        })
    });
    let (runs, others): (Vec<_>, Vec<_>) = all.partition(|run| {
        let mut parts = arguments.iter();
        arguments.is_empty() || parts.any(|part| part == "all" || run.name.contains(part))
    });
    if runs.is_empty() {
        let names: Vec<_> = others.into_iter().map(|run| run.name).collect();
        bail!("no such scenario: want all, or a part of one of {names:?}");
    }
    Ok(runs)
}

fn row(name: &str, seconds: u64, outcome: &Result<Outcome>) -> String {
    match outcome {
        Ok(outcome) => {
            let Outcome {
                records,
                again,
                watched: Watched { moves, ours },
                verified,
                warnings,
            } = outcome;
            let warnings: Vec<_> = warnings
                .iter()
                .map(|(why, count)| format!("{count} × {why}"))
                .collect();
            let warnings = warnings.join("; ");
            format!(
                "| {name} | ok | {seconds} | {records} | {again} | {moves} | {ours} | {verified} | {warnings} |"
            )
        }
        Err(_) => format!("| {name} | FAILED | {seconds} | | | | | | |"),
    }
}
