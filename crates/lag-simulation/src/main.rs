//! Runs everything and writes the tables and pictures of docs/lag.md. With a workload's name
//! instead: that one, with every decision.

use std::{env, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use lag_simulation::{
    bad_day::{Day, bad_days},
    cluster::Consumer,
    generator::generated,
    picture::{Line, svg},
    policy::{Eyes, Policy},
    report::{Score, Scores},
    run::{Setup, run},
    workload::{Workload, held_out, known},
};

/// The rules were tuned on seeds 1 to 3.
const SEEDS: [u64; 4] = [11, 12, 13, 14];
const CONSUMERS: [Consumer; 2] = [Consumer::Own, Consumer::Java];

fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        Some("bad-days") => return try_bad_days(),
        Some("generated") => return try_generated(),
        Some(name) => return tell(name),
        None => {}
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
    let (table, mut broken) = bad_days_table();
    text = between(&text, "bad-days", &table)?;
    text = between(&text, "generated", &generated_table(&mut scores))?;
    write(&page, &text)?;
    broken.sort();
    anyhow::ensure!(
        broken.is_empty(),
        "what must hold does not:\n{}",
        broken.join("\n")
    );
    Ok(())
}

/// Workloads that bad days befall.
const BEFALLEN: [&str; 3] = ["steady60", "diurnal", "walk"];

/// The table, and what did not hold.
fn bad_days_table() -> (String, Vec<String>) {
    let head = "pods / oracle | p99 s | oldest s | changes/h | drained in min, oracle's";
    let mut table = format!(
        "| | {head} | Java-like: {head} |\n|---|{}\n",
        "---|".repeat(10)
    );
    let mut broken = Vec::new();
    for bad_day in bad_days() {
        let cells = CONSUMERS.map(|consumer| {
            let mut days = Vec::new();
            for name in BEFALLEN {
                let workload = named(name).expect("it is among the workloads");
                for seed in &SEEDS[..2] {
                    let day = bad_day.run(&workload, consumer, *seed);
                    let what = format!("{}, {name}, {consumer:?}, seed {seed}", bad_day.name);
                    broken.extend(day.broken.iter().map(|it| format!("{what}: {it}")));
                    days.push(day);
                }
            }
            day_cells(&days)
        });
        let _ = writeln!(table, "| {} | {} | {} |", bad_day.name, cells[0], cells[1]);
    }
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
fn generated_table(scores: &mut Scores) -> String {
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

/// The bad days alone.
#[expect(clippy::print_stdout, reason = "what the command is for")]
fn try_bad_days() -> Result<()> {
    let (table, broken) = bad_days_table();
    println!("{table}\n{}", broken.join("\n"));
    Ok(())
}

/// Generated workloads alone.
#[expect(clippy::print_stdout, reason = "what the command is for")]
fn try_generated() -> Result<()> {
    println!("{}", generated_table(&mut Scores::default()));
    Ok(())
}
