//! Runs everything and writes the tables and pictures of docs/lag.md. With a workload's name instead: that one, with every decision.

use std::{env, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use lag_simulation::{
    cluster::Consumer,
    picture::{Line, svg},
    policy::{Eyes, Policy},
    report::Scores,
    run::{Setup, run},
    workload::{Workload, held_out, known},
};

/// The rules were tuned on seeds 1 to 3.
const SEEDS: [u64; 4] = [11, 12, 13, 14];
const CONSUMERS: [Consumer; 2] = [Consumer::Own, Consumer::Java];

fn main() -> Result<()> {
    if let Some(name) = env::args().nth(1) {
        return tell(&name);
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fs::create_dir_all(docs.join("lag"))?;
    for name in ["step", "diurnal", "bursts", "flights"] {
        let workload = named(name)?;
        let setup = Setup::new(Consumer::Own);
        let of = |policy| run(&workload, policy, &setup, SEEDS[0]);
        let (oracle, late, lag) = (of(Policy::Oracle), of(Policy::LateShards), of(Policy::Lag));
        let title = format!("{name}: {}", workload.what);
        let mut lines = vec![
            Line {
                name: "an oracle's pods",
                colour: "#999",
                outcome: &oracle,
            },
            Line {
                name: "scaleOn: lag",
                colour: "#0a6ebd",
                outcome: &lag,
            },
        ];
        write(
            &docs.join(format!("lag/{name}.svg")),
            &svg(&title, &lines, setup.threshold),
        )?;
        if name == "step" {
            lines[1] = Line {
                name: "late shards, counted",
                colour: "#d2691e",
                outcome: &late,
            };
            write(
                &docs.join("lag/late-shards.svg"),
                &svg(&title, &lines, setup.threshold),
            )?;
        }
    }
    let page = docs.join("lag.md");
    let mut text =
        fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let mut scores = Scores::default();
    text = between(&text, "policies", &policies(&mut scores))?;
    text = between(&text, "workloads", &by_workload(&mut scores, &known()))?;
    text = between(&text, "held-out", &by_workload(&mut scores, &held_out()))?;
    text = between(&text, "conditions", &conditions(&mut scores))?;
    write(&page, &text)
}

const HEAD: &str = "pods / oracle | p99 s | worst s | % > 2 T | changes/h";

fn policies(scores: &mut Scores) -> String {
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

fn by_workload(scores: &mut Scores, workloads: &[Workload]) -> String {
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

fn conditions(scores: &mut Scores) -> String {
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
            stuck: true,
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

fn named(name: &str) -> Result<Workload> {
    known()
        .into_iter()
        .chain(held_out())
        .find(|workload| workload.name == name)
        .with_context(|| format!("no workload is called {name}"))
}

/// Puts a table between its two markers.
fn between(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let from = text
        .find(&begin)
        .with_context(|| format!("docs/lag.md has no {begin}"))?
        + begin.len();
    let to = text
        .find(&end)
        .with_context(|| format!("docs/lag.md has no {end}"))?;
    Ok(format!("{}{table}{}", &text[..from], &text[to..]))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn tell(name: &str) -> Result<()> {
    let workload = named(name)?;
    let mut scores = Scores::default();
    for consumer in CONSUMERS {
        for policy in [Policy::Lag, Policy::Busy] {
            let setup = Setup::new(consumer);
            println!(
                "{consumer:?}, {}: {}",
                policy.name(),
                scores.of(&workload, policy, &setup, &SEEDS[..1]).cells()
            );
            for (second, line) in run(&workload, policy, &setup, SEEDS[0]).story {
                println!("  {second:>6} s {line}");
            }
        }
    }
    Ok(())
}
