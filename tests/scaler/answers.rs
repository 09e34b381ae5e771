//! The scaler's fault campaign: operation × fault × what a trigger scales on, from cold, while the
//! last good answer stands in, and after, polled and pushed. `docs/answers.md` has what KEDA is
//! told; `UPDATE=answers` writes it anew. A sample is run, or all of it with `CAMPAIGN=all`.
//! `CELL='Scan/garbage'` runs what has that in its name.

mod faults;
mod mode;
mod source;
mod table;
mod world;

use std::{collections::BTreeSet, env, time::Duration};

use futures::future::join_all;
use test_support::own_cpu_seconds;
use tokio::time::Instant;

use self::{
    faults::{Named, faults},
    mode::Mode,
    source::Source,
    table::{Key, Row, Rows},
    world::World,
};

/// Sources before a scaler.
const AT_ONCE: usize = 48;

/// One cell of so many is run, unless all are: each operation and each fault comes in.
const SAMPLE: usize = 7;

/// Of calls that are to end by it, and of all others, which no load of the machine lets end by it.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(50)];

/// One source and one fault.
#[derive(Clone, Debug)]
struct Cell {
    mode: Mode,
    operation: &'static str,
    fault: Named,
}

impl Cell {
    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for mode in Mode::ALL {
            for operation in mode.operations() {
                let faults = faults(operation).into_iter();
                cells.extend(faults.map(|fault| Self {
                    mode,
                    operation,
                    fault,
                }));
            }
        }
        cells
    }

    fn key(&self) -> Key {
        Key::new(self.operation, self.fault.name, self.mode.name())
    }

    /// For `CELL`.
    fn name(&self) -> String {
        let Self {
            mode,
            operation,
            fault,
        } = self;
        format!("{operation}/{}/{mode:?}", fault.name)
    }
}

/// All of them before one scaler. `written`: what is wanted, `None` while it is written.
async fn run(
    cells: &[Cell],
    timeout: Duration,
    written: Option<&Rows>,
) -> Vec<Result<Row, String>> {
    let world = World::start(timeout).await;
    let wanted = |cell: &Cell| written.map(|rows| rows.get(&cell.key()).expect("in the table"));
    let started = cells.iter().enumerate();
    let started = started.map(|(number, cell)| Source::start(&world, cell, number));
    let sources = join_all(started).await;
    let standing = sources.iter().zip(cells);
    let standing = standing.map(|(source, cell)| source.while_it_stands(wanted(cell)));
    let standing = join_all(standing).await;
    let too_old = world.end_of_standing_in().await;
    let rows = sources.iter().zip(cells).zip(standing);
    let rows = rows.map(|((source, cell), standing)| {
        let wanted = wanted(cell);
        async move { source.once_it_is_old(standing?, wanted, too_old).await }
    });
    let old = join_all(rows).await;
    // What is fetched now is not to grow old before it is asked for.
    world.stand_in_again().await;
    let rows = sources.iter().zip(old);
    let rows = rows.map(|(source, old)| async move { source.healed(old?).await });
    let rows = join_all(rows).await;
    println!(
        "{} cells, {:.1} s of CPU of the scaler, {:.1} of all the rest so far",
        cells.len(),
        world.scaler.cpu_seconds(),
        own_cpu_seconds()
    );
    rows
}

#[test]
fn the_table_has_every_answer() {
    let all: BTreeSet<_> = Cell::all().iter().map(Cell::key).collect();
    let written = table::read();
    let there: BTreeSet<_> = written.keys().cloned().collect();
    let differing = &all ^ &there;
    assert!(all == there, "UPDATE=answers writes {differing:?}");
    assert!(
        table::is_as_written(&written),
        "UPDATE=answers writes it otherwise"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_while_aws_fails_is_right_or_an_honest_error() {
    let begin = Instant::now();
    let is = |name, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    let update = is("UPDATE", "answers");
    let mut cells = Cell::all();
    match env::var("CELL") {
        Ok(only) => cells.retain(|cell| cell.name().contains(only.as_str())),
        Err(_) if update || is("CAMPAIGN", "all") => {}
        Err(_) => cells = cells.into_iter().step_by(SAMPLE).collect(),
    }
    let mut rows = table::read();
    let (silent, loud): (Vec<_>, Vec<_>) = cells.into_iter().partition(|it| it.fault.is_silent);
    let mut failed = Vec::new();
    let written = rows.clone();
    let wanted = (!update).then_some(&written);
    let runs = [silent, loud].into_iter().zip(TIMEOUTS);
    let runs = runs.map(async |(cells, timeout): (Vec<Cell>, Duration)| {
        let mut found = Vec::new();
        for cells in cells.chunks(AT_ONCE) {
            let rows = run(cells, timeout, wanted).await;
            found.extend(cells.iter().cloned().zip(rows));
        }
        found
    });
    for (cell, row) in join_all(runs).await.into_iter().flatten() {
        let said = match row {
            Ok(row) if update || rows.get(&cell.key()) == Some(&row) => {
                rows.insert(cell.key(), row);
                continue;
            }
            Ok(row) => format!("it is not as written, but {row}"),
            Err(why) => why,
        };
        failed.push(format!("CELL='{}': {said}", cell.name()));
    }
    println!("{:.0} s", begin.elapsed().as_secs_f64());
    if update {
        rows.retain(|key, _| Cell::all().iter().any(|cell| cell.key() == *key));
        table::write(&rows);
    }
    let (count, failed) = (failed.len(), failed.join("\n"));
    assert!(count == 0, "{count} failed:\n{failed}");
}
