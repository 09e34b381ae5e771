//! Puts items so that newer data always wins, and waits throttling out.
//!
//! Each put is on condition that the stored item is absent or older by its `kinesis_position`. So records delivered twice, or by a worker
//! that does not know yet that it lost its lease, change nothing: the table ends the same. An item without the attribute was
//! written by something else (the tutorial's Java consumer, a person), and counts as older.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use backon::{ExponentialBuilder, Retryable as _};

use crate::{
    Error, Settings,
    aws::{Clients, Failure, Kind},
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
    table: String,
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
            table: settings.table_name.clone(),
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
        let request = self
            .clients
            .items
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(
                "attribute_not_exists(kinesis_position) OR kinesis_position < :position",
            )
            .expression_attribute_values(":position", position);
        let result = patiently(&self.metrics, || async {
            request
                .clone()
                .send()
                .await
                .map_err(|error| Failure::of("PutItem", &error))
        });
        match result.await {
            Ok(_) => Ok(Put::Stored),
            Err(failure) => match failure.kind {
                Kind::Condition => Ok(Put::Stale),
                Kind::Invalid => self.refused(failure).await,
                _ => Err(failed(
                    &self.table,
                    failure,
                    &self.clients.region,
                    &fix::create_table(&self.table, &self.key, &self.clients.region),
                )),
            },
        }
    }

    /// The item's own fault, such as a field that is an index's key and of another type? Or is the table another one by now?
    async fn refused(&self, failure: Failure) -> Result<Put, Error> {
        match checks::table(&self.table, &self.clients).await {
            Ok(key) if key == self.key => Ok(Put::Rejected(Rejected::Refused(failure.text))),
            Ok(key) => Err(Error::Write(Problem {
                what: format!(
                    "table {} was made anew with the key {key} instead of {} ({failure})",
                    self.table, self.key
                ),
                fix: "kubectl rollout restart deployment/<the consumer's>".to_owned(),
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
        Kind::NotFound => create.to_owned(),
        Kind::Denied => fix::allow(&fix::TABLE_ACTIONS, &fix::table_arn(table, region)),
        Kind::Credentials => fix::an_identity(),
        _ => return Error::Aws(failure),
    };
    Error::Write(Problem { what, fix })
}
