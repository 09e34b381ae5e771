//! What would fail later, asked at the start: the stream, the table and its key, the rejects table
//! and its key.

use kinesis_edge::{Failure, Key, Kind};

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

/// Checks everything and tells all that is wrong at once. Returns the name of the table's key
/// attribute.
pub(crate) async fn all(settings: &Settings, clients: &Clients) -> Result<String, Error> {
    let (stream, key, rejects) = tokio::join!(
        stream(&settings.stream_name, clients),
        table(&settings.table_name, clients),
        rejects_table(settings.rejects_table(), clients),
    );
    match (stream, key, rejects) {
        (Ok(()), Ok(key), Ok(())) => Ok(key),
        (stream, key, rejects) => Err(Error::Start(
            [stream.err(), key.err(), rejects.err()]
                .into_iter()
                .flatten()
                .collect(),
        )),
    }
}

async fn stream(stream: &str, clients: &Clients) -> Result<(), Problem> {
    let region = &clients.region;
    let short = stream.rsplit('/').next().unwrap_or(stream);
    let Err(failure) = clients.stream(stream).try_list().await else {
        return Ok(());
    };
    Err(match failure.kind {
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
    })
}

/// The name of the table's key attribute.
async fn table(table: &str, clients: &Clients) -> Result<String, Problem> {
    one_key(table, key(table, clients).await, &clients.region)
}

/// The attributes of the table's key.
pub(crate) async fn key(table: &str, clients: &Clients) -> Result<Vec<Key>, Failure> {
    Ok(clients.table(table).describe().await?.keys)
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

async fn rejects_table(table: Option<&str>, clients: &Clients) -> Result<(), Problem> {
    let Some(table) = table else { return Ok(()) };
    let region = &clients.region;
    let mut keys = match clients.table(table).describe().await {
        Ok(description) => description.keys,
        Err(failure) if failure.kind == Kind::NotFound => {
            return Err(Problem {
                what: format!("rejects table {table} does not exist in {region} ({failure})"),
                fix: fix::create_rejects_table(table, region),
            });
        }
        Err(failure) => {
            return Err(unusable(
                &format!("rejects table {table}"),
                &failure,
                &fix::TABLE_ACTIONS,
                &fix::table_arn(table, region),
            ));
        }
    };
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
