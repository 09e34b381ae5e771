//! Puts items so that newer data always wins, and waits throttling out.
//!
//! Each put is on condition that the stored item is absent or older by its `kinesis_position`. So records delivered twice, or by a worker
//! that does not know yet that it lost its lease, change nothing: the table ends the same. An item without the attribute was
//! written by something else (the tutorial's Java consumer, a person), and counts as older.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use kinesis_edge::{AttributeValue, Failure, Kind, Table, Write, Written};

use crate::{
    Error, Settings,
    aws::Clients,
    checks,
    error::Problem,
    fix,
    item::{Item, KINESIS_POSITION, Rejected},
    metrics::Metrics,
};

/// What became of an item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Put {
    /// It is in the table.
    Stored,
    /// The table has this item or a newer one.
    Stale,
    /// DynamoDB does not take it.
    Rejected(Rejected),
}

/// Writes to one table.
#[derive(Debug)]
pub(crate) struct Writer {
    clients: Clients,
    table: Table,
    key: String,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(crate) fn new(
        settings: &Settings,
        clients: &Clients,
        key: &str,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            clients: clients.clone(),
            table: clients.items(&settings.table_name),
            key: key.to_owned(),
            metrics,
        }
    }

    /// Puts the item unless the table has a newer one.
    pub(crate) async fn put(&self, item: Item) -> Result<Put, Error> {
        let position = item
            .get(KINESIS_POSITION)
            .cloned()
            .unwrap_or(AttributeValue::Null(true));
        let newer = Write::new()
            .on("attribute_not_exists(kinesis_position) OR kinesis_position < :position")
            .value(":position", position);
        match patiently(&self.metrics, || {
            self.table.put(item.clone(), newer.clone())
        })
        .await
        {
            Ok(Written::Done(_)) => Ok(Put::Stored),
            Ok(Written::Refused(_)) => Ok(Put::Stale),
            Err(failure) if failure.kind == Kind::Invalid => self.refused(failure).await,
            Err(failure) => {
                let create = fix::create_table(self.table.name(), &self.key, &self.clients.region);
                Err(failed(
                    self.table.name(),
                    failure,
                    &self.clients.region,
                    &create,
                ))
            }
        }
    }

    /// The item's own fault, such as a field that is an index's key and of another type? Or is the table another one by now?
    async fn refused(&self, failure: Failure) -> Result<Put, Error> {
        match checks::table(self.table.name(), &self.clients).await {
            Ok(key) if key == self.key => {
                let Failure { code, message, .. } = failure;
                Ok(Put::Rejected(Rejected::Refused(format!(
                    "{code}: {message}"
                ))))
            }
            Ok(key) => Err(Error::Write(Problem {
                what: format!(
                    "table {} was made anew with the key {key} instead of {} ({failure})",
                    self.table.name(),
                    self.key
                ),
                fix: "Mend it with: kubectl rollout restart deployment/<the consumer's>".to_owned(),
            })),
            Err(problem) => Err(Error::Write(problem)),
        }
    }
}

/// Calls until the answer is one that waiting does not change. Ends with the lease or the process: its caller is dropped then.
pub(crate) async fn patiently<T, F>(
    metrics: &Metrics,
    call: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    call.retry(pauses)
        .when(Failure::is_transient)
        .notify(|failure, pause| {
            metrics.write_retried(failure.operation, failure.kind == Kind::Throttled);
            tracing::debug!(%failure, ?pause, "trying again");
        })
        .await
}

/// A write that waiting does not help, with what does.
pub(crate) fn failed(table: &str, failure: Failure, region: &str, create: &str) -> Error {
    let what = format!("cannot write to table {table} ({failure})");
    let fix = match failure.kind {
        Kind::NotFound => Some(create.to_owned()),
        _ => fix::of_failure(
            &failure,
            &fix::TABLE_ACTIONS,
            &fix::table_arn(table, region),
        ),
    };
    match fix {
        Some(fix) => Error::Write(Problem { what, fix }),
        None => Error::Aws(Box::new(failure)),
    }
}
