//! What would fail later, asked at the start: the stream, the table and its key, the rejects table
//! and its key.

use std::time::Duration;

use kinesis_edge::{Description, Failure, Key, Kind};
use tokio::time::{Instant, sleep};

use crate::{
    Error, Settings,
    aws::Clients,
    error::Problem,
    fix,
    item::{KINESIS_ARRIVED, KINESIS_POSITION, KINESIS_SHARD, PROCESSED_BY},
};

/// What every item has, so that a key cannot be named so.
const OURS: [&str; 4] = [
    KINESIS_POSITION,
    KINESIS_SHARD,
    KINESIS_ARRIVED,
    PROCESSED_BY,
];

/// The time between looks at what is not ready yet, and between words about it.
const LOOK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(10);

/// What is wrong.
struct Wrong {
    problem: Problem,
    /// It is there, but being made, deleted or not to be decrypted: that may pass.
    passes: bool,
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        let passes = false;
        Self { problem, passes }
    }
}

/// Checks everything and tells all that is wrong at once; waits for what may pass, as long as
/// `GIVE_UP_AFTER` says. Returns the name of the table's key attribute.
pub(crate) async fn all(settings: &Settings, clients: &Clients) -> Result<String, Error> {
    let began = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let (stream, key, rejects) = tokio::join!(
            stream(settings.stream(), clients),
            table(&settings.table_name, clients),
            rejects_table(settings.rejects_table(), clients),
        );
        let wrong = match (stream, key, rejects) {
            (Ok(()), Ok(key), Ok(())) => return Ok(key),
            (stream, key, rejects) => [stream.err(), key.err(), rejects.err()],
        };
        let wrong: Vec<_> = wrong.into_iter().flatten().collect();
        let passes = wrong.iter().all(|wrong| wrong.passes);
        if !passes || began.elapsed() >= settings.give_up_after {
            let problems = wrong.into_iter().map(|wrong| wrong.problem);
            return Err(Error::Start(problems.collect()));
        }
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            told = Some(Instant::now());
            for Wrong { problem, .. } in &wrong {
                tracing::warn!(gives_up_after = ?settings.give_up_after, "waiting: {problem}");
            }
        }
        sleep(LOOK).await;
    }
}

/// Several streams come and go: the library tells of each that cannot be read.
async fn stream(stream: Option<&str>, clients: &Clients) -> Result<(), Wrong> {
    let Some(stream) = stream else { return Ok(()) };
    let region = &clients.region;
    let short = stream.rsplit('/').next().unwrap_or(stream);
    let Err(failure) = clients.stream(stream).try_list().await else {
        return Ok(());
    };
    let passes = failure.kind == Kind::InUse;
    let problem = match failure.kind {
        Kind::NotFound => Problem {
            what: format!("stream {stream} does not exist in {region} ({failure})"),
            fix: fix::create_stream(short, region),
        },
        Kind::InUse => Problem {
            what: format!("stream {stream} is not ready yet ({failure})"),
            fix: fix::wait_for_stream(short, region),
        },
        _ => unusable(
            &format!("stream {stream}"),
            &failure,
            &fix::STREAM_ACTIONS,
            &fix::stream_arn(stream, region),
        ),
    };
    Err(Wrong { problem, passes })
}

/// The name of the table's key attribute.
async fn table(table: &str, clients: &Clients) -> Result<String, Wrong> {
    let described = clients.table(table).describe().await;
    let unusable = described.as_ref().ok().and_then(|it| not_active(table, it));
    let keys = described.map(|description| description.keys);
    let key = one_key(table, keys, &clients.region)?;
    match unusable {
        None => Ok(key),
        Some(problem) => Err(Wrong {
            problem,
            passes: true,
        }),
    }
}

/// Why the table cannot be used, although it is there.
pub(crate) fn not_active(table: &str, description: &Description) -> Option<Problem> {
    (!description.is_usable()).then(|| Problem {
        what: format!("table {table} is {}", description.status),
        fix: fix::of_status(&description.status),
    })
}

/// The name of the one key attribute that items can have.
pub(crate) fn one_key(
    table: &str,
    keys: Result<Vec<Key>, Failure>,
    region: &str,
) -> Result<String, Problem> {
    let keys = match keys {
        Ok(keys) => keys,
        Err(failure) if failure.kind == Kind::NotFound => {
            return Err(Problem {
                what: format!("table {table} does not exist in {region} ({failure})"),
                fix: fix::create_table(table, "email", region),
            });
        }
        Err(failure) => {
            let (what, arn) = (format!("table {table}"), fix::table_arn(table, region));
            let problem = unusable(&what, &failure, &fix::TABLE_ACTIONS, &arn);
            return Err(problem);
        }
    };
    match keys.as_slice() {
        [key] if is(key, "HASH", "S") && !OURS.contains(&key.name.as_str()) => Ok(key.name.clone()),
        _ => Err(Problem {
            what: format!(
                "table {table} has the key {}: want one HASH key of type S, not named {}; use another table",
                listed(&keys),
                OURS.join(" or ")
            ),
            fix: format!(
                "{} (and TABLE_NAME={table}-2)",
                fix::create_table(&format!("{table}-2"), "email", region)
            ),
        }),
    }
}

async fn rejects_table(table: Option<&str>, clients: &Clients) -> Result<(), Wrong> {
    let Some(table) = table else { return Ok(()) };
    let region = &clients.region;
    let description = match clients.table(table).describe().await {
        Ok(description) => description,
        Err(failure) if failure.kind == Kind::NotFound => {
            let what = format!("rejects table {table} does not exist in {region} ({failure})");
            let fix = fix::create_rejects_table(table, region);
            return Err(Problem { what, fix }.into());
        }
        Err(failure) => {
            let (what, arn) = (
                format!("rejects table {table}"),
                fix::table_arn(table, region),
            );
            return Err(unusable(&what, &failure, &fix::TABLE_ACTIONS, &arn).into());
        }
    };
    let not_active = not_active(table, &description);
    rejects_key(table, description.keys, region)?;
    let passes = true;
    not_active.map_or(Ok(()), |problem| Err(Wrong { problem, passes }))
}

/// Whether rejects can be written with this key.
pub(crate) fn rejects_key(table: &str, mut keys: Vec<Key>, region: &str) -> Result<(), Problem> {
    keys.sort_by(|a, b| a.role.cmp(&b.role));
    if let [record, part] = keys.as_slice()
        && (record.name == "record" && is(record, "HASH", "S"))
        && (part.name == "part" && is(part, "RANGE", "N"))
    {
        return Ok(());
    }
    Err(Problem {
        what: format!(
            "rejects table {table} has the key {}: want record (HASH, S) and part (RANGE, N); use another table",
            listed(&keys)
        ),
        fix: format!(
            "{} (and REJECTS_TABLE={table}-2)",
            fix::create_rejects_table(&format!("{table}-2"), region)
        ),
    })
}

fn is(key: &Key, role: &str, r#type: &str) -> bool {
    key.role == role && key.r#type == r#type
}

fn listed(keys: &[Key]) -> String {
    keys.iter()
        .map(|Key { name, role, r#type }| format!("{name} ({role}, {type})"))
        .collect::<Vec<_>>()
        .join(" and ")
}

/// A call that failed for another reason than that the thing is missing.
fn unusable(what: &str, failure: &Failure, actions: &[&str], resource: &str) -> Problem {
    Problem {
        what: format!("{what} cannot be used ({failure})"),
        fix: fix::of_failure(failure, actions, resource)
            .unwrap_or_else(|| fix::of_the_way(failure)),
    }
}
