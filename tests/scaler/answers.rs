//! The scaler's fault campaign: operation × fault × what a trigger scales on, from cold, while the
//! last good answer stands in, and after, polled and pushed. `docs/answers.md` has what KEDA is
//! told; `UPDATE=answers` writes it anew. A sample is run, or all of it with `CAMPAIGN=all`.

mod faults;
mod roles;
mod side;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use self::{
    faults::{Named, faults},
    side::{Mode, Side},
    table::{Row, Told},
};
use crate::support::*;

/// The last good answer stands in for so long, where that is to end.
const MAX_STALE: Duration = Duration::from_secs(5);

/// Sources that are broken at a time.
const AT_ONCE: usize = 16;

/// One source and one fault.
#[derive(Clone, Debug)]
struct Cell {
    mode: Mode,
    operation: &'static str,
    fault: Named,
}

/// A scaler over no stream of its own, whose last good answers stand in for so long.
async fn scaler(max_stale: Duration) -> Stack {
    Stack::with(|config, tuning| {
        config.aws.refresh = Duration::from_millis(300);
        config.aws.timeout = Duration::from_secs(2);
        config.aws.max_stale = max_stale;
        let mut pace = keda_kinesis_scaler::watch::Pace::from(&config.aws);
        // Those that are through with are not watched for long.
        pace.idle = Duration::from_secs(2);
        tuning.pace = Some(pace);
    })
    .await
}

/// A cell's answers, the wanted ones where they come.
async fn answers(
    cell: &Cell,
    lasting: &Side,
    short: &Side,
    wanted: Option<&Row>,
) -> Result<Row, String> {
    let stale = async {
        short.heal();
        short.right("before").await?;
        short.begin(cell.operation, &cell.fault.fault);
        let after = Instant::now() + MAX_STALE + Duration::from_secs(1);
        let told = short.told("late", wanted.map(|row| &row.late), after);
        let told = told.await?;
        short.heal();
        short.right("afterwards").await?;
        Ok::<_, String>(told)
    };
    let standing = async {
        lasting.begin(cell.operation, &cell.fault.fault);
        let mut pushed = lasting.follow().await?;
        let now = Instant::now();
        let cold = lasting.told("cold", wanted.map(|row| &row.cold), now);
        let cold = cold.await?;
        if cold != Told::Answered {
            pushed.is_silent()?;
        }
        lasting.heal();
        lasting.right("after a cold start").await?;
        pushed.next().await?;
        lasting.begin(cell.operation, &cell.fault.fault);
        let now = Instant::now();
        let warm = wanted.map(|row| match &row.warm {
            Told::StandsIn => &Told::Answered,
            told => told,
        });
        let warm = lasting.told("warm", warm, now).await?;
        lasting.heal();
        lasting.right("at the end").await?;
        pushed.is_right()?;
        Ok::<_, String>((cold, warm))
    };
    let (late, standing) = tokio::join!(stale, standing);
    let (late, (cold, warm)) = (late?, standing?);
    let warm = match (warm, &late) {
        (Told::Answered, Told::Error(..) | Told::AskAgain) => Told::StandsIn,
        (warm, _) => warm,
    };
    Ok(Row { cold, warm, late })
}

/// One cell of so many is run, unless all are.
const SAMPLE: usize = 11;

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for mode in Mode::ALL {
        for operation in mode.operations() {
            cells.extend(faults(operation).into_iter().map(|fault| Cell {
                mode,
                operation,
                fault,
            }));
        }
    }
    cells
}

#[test]
fn the_table_has_every_answer() {
    let roles = faults(roles::NAME).into_iter();
    let roles = roles.map(|fault| table::Key::new(roles::NAME, fault.name, roles::MODE));
    let all: BTreeSet<_> = cells().iter().map(Cell::key).chain(roles).collect();
    let written: BTreeSet<_> = table::read().into_keys().collect();
    assert!(
        all == written,
        "UPDATE=answers writes {:?}",
        &all ^ &written
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_while_aws_fails_is_right_or_an_honest_error() {
    let update = std::env::var("UPDATE").is_ok_and(|what| what == "answers");
    let written = table::read();
    let (lasting, short) = (
        scaler(Duration::from_secs(3600)).await,
        scaler(MAX_STALE).await,
    );
    let dynamodb = DynamoDb::start().await;
    let only = std::env::var("CELL").ok();
    let is_all = update || std::env::var("CAMPAIGN").is_ok_and(|which| which == "all");
    let mut cells = cells();
    match &only {
        Some(only) => cells.retain(|cell| cell.name().contains(only.as_str())),
        None if is_all => {}
        None => cells = cells.into_iter().step_by(SAMPLE).collect(),
    }
    let runs = cells.iter().enumerate().map(|(number, cell)| {
        let (lasting, short, dynamodb, written) = (&lasting, &short, &dynamodb, &written);
        async move {
            let wanted = written.get(&cell.key()).filter(|_| !update);
            let names = ["lasting", "short"].map(|end| format!("cell-{number}-{end}"));
            let (a, b) = tokio::join!(
                Side::start(lasting, dynamodb, cell.mode, &names[0]),
                Side::start(short, dynamodb, cell.mode, &names[1])
            );
            let row = match wanted {
                None if !update => Err("is not in docs/answers.md: UPDATE=answers".to_owned()),
                wanted => answers(cell, &a, &b, wanted).await,
            };
            (
                cell.key(),
                row.map_err(|why| format!("CELL='{}': {why}", cell.name())),
            )
        }
    });
    let rows: Vec<_> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let mut found = BTreeMap::new();
    let mut failed = Vec::new();
    for (key, row) in rows {
        match row {
            Ok(row) => drop(found.insert(key, row)),
            Err(why) => failed.push(why),
        }
    }
    if only.as_deref().is_none_or(|only| only == roles::NAME) {
        let step = if is_all || only.is_some() { 1 } else { SAMPLE };
        match roles::answers(&written, update, step).await {
            Ok(rows) => found.extend(rows),
            Err(why) => failed.push(why),
        }
    }
    if update {
        let mut rows = written;
        rows.extend(found);
        table::write(&rows);
    }
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

impl Cell {
    fn key(&self) -> table::Key {
        table::Key::new(self.operation, self.fault.name, self.mode.name())
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
