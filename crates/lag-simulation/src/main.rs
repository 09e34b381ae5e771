//! Writes the tables and pictures of docs/lag.md: all, or those that are named. With a workload's
//! name instead: that one, with every decision.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use lag_simulation::{
    cluster::Consumer,
    picture::{Line, svg},
    policy::Policy,
    report::Scores,
    run::{Setup, run},
    tables::{
        CONSUMERS, SEEDS, befallen, by_chance, by_workload, conditions, named, placements, policies,
    },
    workload::{held_out, known},
};

/// What can be named.
const PARTS: [&str; 8] = [
    "pictures",
    "policies",
    "workloads",
    "held-out",
    "placements",
    "conditions",
    "bad-days",
    "generated",
];

fn main() -> Result<()> {
    let names: Vec<String> = env::args().skip(1).collect();
    if let [name] = &names[..]
        && !PARTS.contains(&name.as_str())
    {
        return tell(name);
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let is_wanted = |part: &&str| names.is_empty() || names.iter().any(|name| name == part);
    let mut scores = Scores::default();
    let mut broken = Vec::new();
    for part in PARTS.into_iter().filter(is_wanted) {
        let table = match part {
            "pictures" => {
                pictures(&docs)?;
                continue;
            }
            "policies" => scores.fill(policies),
            "workloads" => scores.fill(|scores| by_workload(scores, &known())),
            "held-out" => scores.fill(|scores| by_workload(scores, &held_out())),
            "placements" => scores.fill(placements),
            "conditions" => scores.fill(conditions),
            "bad-days" => {
                let table;
                (table, broken) = befallen();
                table
            }
            _ => scores.fill(by_chance),
        };
        replace(&docs.join("lag.md"), part, &table)?;
    }
    anyhow::ensure!(
        broken.is_empty(),
        "what must hold does not:\n{}",
        broken.join("\n")
    );
    Ok(())
}

fn pictures(docs: &Path) -> Result<()> {
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
    Ok(())
}

/// Puts a table between its two markers in a page, and shows it.
#[expect(clippy::print_stdout, reason = "what the command is for")]
fn replace(page: &Path, name: &str, table: &str) -> Result<()> {
    println!("{name}\n{table}");
    let text =
        fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
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
    write(page, &format!("{}{table}{}", &text[..from], &text[to..]))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn tell(name: &str) -> Result<()> {
    let workload = named(name)?;
    for consumer in CONSUMERS {
        for policy in [Policy::Lag, Policy::Busy] {
            let setup = Setup::new(consumer);
            let score = Scores::default().fill(|it| it.of(&workload, policy, &setup, &SEEDS[..1]));
            println!("{consumer:?}, {}: {}", policy.name(), score.cells());
            for (second, line) in run(&workload, policy, &setup, SEEDS[0]).story {
                println!("  {second:>6} s {line}");
            }
        }
    }
    Ok(())
}
