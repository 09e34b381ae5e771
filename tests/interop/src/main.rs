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
use scenarios::{ALL, Scenario};
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
    let mut runs = Vec::new();
    for kcl in [Kcl::V2, Kcl::V3] {
        for (name, scenario) in ALL {
            let name = format!("{}/{name}", kcl.version());
            let mut parts = arguments.iter();
            if arguments.is_empty() || parts.any(|part| part == "all" || name.contains(part)) {
                runs.push(Run {
                    name,
                    scenario,
                    kcl,
                });
            }
        }
    }
    if runs.is_empty() {
        let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        bail!("no such scenario: want all, a version, or one of {names:?}, such as 2.7.2/reshard");
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
