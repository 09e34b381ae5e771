//! What would fail later, asked at the start: the stream, the table and its key, the rejects table and its key.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, TableDescription};

use crate::{
    Error, Settings,
    aws::{Clients, Failure, Kind},
    error::Problem,
    fix,
    item::{KINESIS_POSITION, PROCESSED_BY},
};

/// Checks everything and tells all that is wrong at once. Returns the name of the table's key attribute.
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
    let (name, arn) = if stream.starts_with("arn:") {
        (None, Some(stream))
    } else {
        (Some(stream), None)
    };
    let short = stream.rsplit('/').next().unwrap_or(stream);
    let answer = clients
        .kinesis
        .list_shards()
        .set_stream_name(name.map(Into::into))
        .set_stream_arn(arn.map(Into::into))
        .max_results(1)
        .send()
        .await;
    let Err(error) = answer else { return Ok(()) };
    let being_made = error
        .as_service_error()
        .is_some_and(|error| error.is_resource_in_use_exception());
    let failure = Failure::of("ListShards", &error);
    Err(match failure.kind {
        Kind::NotFound => Problem {
            what: format!("stream {stream} does not exist in {region} ({failure})"),
            fix: fix::create_stream(short, region),
        },
        _ if being_made => Problem {
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
pub(crate) async fn table(table: &str, clients: &Clients) -> Result<String, Problem> {
    let region = &clients.region;
    let description = match describe(table, clients).await {
        Ok(description) => description,
        Err(failure) if failure.kind == Kind::NotFound => {
            return Err(Problem {
                what: format!("table {table} does not exist in {region} ({failure})"),
                fix: fix::create_table(table, "email", region),
            });
        }
        Err(failure) => {
            return Err(unusable(
                &format!("table {table}"),
                &failure,
                &fix::TABLE_ACTIONS,
                &fix::table_arn(table, region),
            ));
        }
    };
    match keys(&description).as_slice() {
        [(name, KeyType::Hash, ScalarAttributeType::S)]
            if ![KINESIS_POSITION, PROCESSED_BY].contains(&name.as_str()) =>
        {
            Ok(name.clone())
        }
        _ => Err(Problem {
            what: format!(
                "table {table} has the key {}: want one HASH key of type S, not named {KINESIS_POSITION} or {PROCESSED_BY}; use another table",
                told(&description)
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
    let description = match describe(table, clients).await {
        Ok(description) => description,
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
    let mut keys = keys(&description);
    keys.sort_by_key(|(_, kind, _)| *kind != KeyType::Hash);
    let wanted = [
        ("record", KeyType::Hash, ScalarAttributeType::S),
        ("part", KeyType::Range, ScalarAttributeType::N),
    ];
    if keys
        .iter()
        .map(|(name, kind, scalar)| (name.as_str(), kind, scalar))
        .eq(wanted
            .iter()
            .map(|(name, kind, scalar)| (*name, kind, scalar)))
    {
        return Ok(());
    }
    Err(Problem {
        what: format!(
            "rejects table {table} has the key {}: want record (HASH, S) and part (RANGE, N); use another table",
            told(&description)
        ),
        fix: format!(
            "{} (and REJECTS_TABLE={table}-2)",
            fix::create_rejects_table(&format!("{table}-2"), region)
        ),
    })
}

async fn describe(table: &str, clients: &Clients) -> Result<TableDescription, Failure> {
    let answer = clients
        .leases
        .describe_table()
        .table_name(table)
        .send()
        .await;
    let answer = answer.map_err(|error| Failure::of("DescribeTable", &error))?;
    Ok(answer
        .table
        .unwrap_or_else(|| TableDescription::builder().build()))
}

/// Name, kind and type of each key attribute.
fn keys(description: &TableDescription) -> Vec<(String, KeyType, ScalarAttributeType)> {
    let definitions = description.attribute_definitions();
    description
        .key_schema()
        .iter()
        .filter_map(|key| {
            let definition = definitions
                .iter()
                .find(|definition| definition.attribute_name() == key.attribute_name())?;
            Some((
                key.attribute_name().to_owned(),
                key.key_type().clone(),
                definition.attribute_type().clone(),
            ))
        })
        .collect()
}

fn told(description: &TableDescription) -> String {
    let keys = keys(description);
    keys.iter()
        .map(|(name, kind, scalar)| format!("{name} ({kind}, {scalar})"))
        .collect::<Vec<_>>()
        .join(" and ")
}

/// A call that failed for another reason than that the thing is missing.
fn unusable(what: &str, failure: &Failure, actions: &[&str], resource: &str) -> Problem {
    Problem {
        what: format!("{what} cannot be used ({failure})"),
        fix: match failure.kind {
            Kind::Denied => fix::allow(actions, resource),
            Kind::Credentials => fix::an_identity(),
            _ => format!(
                "a network path from here to AWS; try it with: {}",
                fix::WHO_AM_I
            ),
        },
    }
}
