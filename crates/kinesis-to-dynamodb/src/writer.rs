//! Puts items so that newer data always wins, and waits throttling out.
//!
//! Each put is on condition that the stored item is absent or older, by shard, position and time of
//! arrival (`order`). So records delivered twice, or by a worker that does not know yet that it
//! lost its lease, change nothing: the table ends the same. An item without a position, or with one
//! that is no text, was written by something else (the tutorial's Java consumer, a person), and
//! counts as older.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};
use kinesis_edge::{AttributeValue, Failure, Kind, Table, Write, Written};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{
    Error, Settings,
    aws::Clients,
    checks,
    error::Problem,
    fix,
    item::{Item, KINESIS_ARRIVED, Rejected},
    lineage::Lineage,
    metrics::Metrics,
    order::{Decision, Version},
};

/// How long a look at the table is believed. A table that is made anew takes longer than that.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Nothing that this program wrote: also where another one wrote attributes of these names. For
/// [`write_on`].
const NOT_OURS: &str = "attribute_not_exists(kinesis_position) \
                        OR NOT attribute_type(kinesis_position, :string)";

/// A call that is tried for so long is told.
const LONG: Duration = Duration::from_secs(5);

/// From so many refusals on, it is not only another consumer that writes the same item.
const UNUSUAL: u32 = 5;

/// What became of an item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Put {
    /// It is in the table.
    Stored,
    /// The table has this item already.
    Repeated,
    /// The table has a newer one.
    Older,
    /// DynamoDB does not take it.
    Rejected(Rejected),
}

/// Writes to one table.
#[derive(Debug)]
pub(crate) struct Writer {
    clients: Clients,
    table: Table,
    key: String,
    lineage: Lineage,
    /// When the table was last seen to be the one that was checked at the start.
    looked_at: Mutex<Option<Instant>>,
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
            lineage: Lineage::new(settings, clients, Arc::clone(&metrics)),
            looked_at: Mutex::default(),
            metrics,
        }
    }

    /// Puts the item unless the table has a newer one.
    pub(crate) async fn put(&self, mut item: Item) -> Result<Put, Error> {
        let Some(new) = Version::of(&item) else {
            unreachable!("each item has a position")
        };
        // Newer in any order: a stored one need not be looked at.
        let position = AttributeValue::S(new.position.clone());
        let mut write = match &new.arrived {
            Some(arrived) => write_on(format!(
                "{NOT_OURS} OR (kinesis_position < :position AND kinesis_arrived <= :arrived)"
            ))
            .value(":position", position)
            .value(":arrived", AttributeValue::S(arrived.clone())),
            None => write_on(NOT_OURS),
        };
        let mut pauses = pauses().build();
        let mut refusals = 0_u32;
        loop {
            // The first refusal shows what is stored, another one that it changed meanwhile.
            if refusals > 1
                && let Some(pause) = pauses.next()
            {
                self.metrics.write_retried("PutItem", false);
                if refusals < UNUSUAL {
                    tracing::debug!(?pause, "the item changed meanwhile, trying again");
                } else {
                    let table = self.table.name();
                    tracing::warn!(table, refusals, ?pause, "an item changes with every write");
                }
                sleep(pause).await;
            }
            let put = patiently(&self.metrics, self.table.name(), || {
                self.table.put(item.clone(), write.clone())
            });
            let stored = match put.await {
                Ok(Written::Done(_)) => return Ok(Put::Stored),
                Ok(Written::Refused(stored)) => stored.as_ref().and_then(Version::of),
                Err(failure) if failure.kind == Kind::Invalid => {
                    return self.refused(failure).await;
                }
                Err(failure) => return Err(self.failed(failure).await),
            };
            refusals = refusals.saturating_add(1);
            let Some(stored) = stored else {
                // It went meanwhile, or became another program's.
                write = write_on(NOT_OURS);
                continue;
            };
            match new.over(&stored, self.are_related(&new, &stored).await?) {
                Decision::Repeated => return Ok(Put::Repeated),
                Decision::Older => return Ok(Put::Older),
                Decision::Replace(arrived) => {
                    if let Some(arrived) = arrived {
                        item.insert(KINESIS_ARRIVED.to_owned(), AttributeValue::S(arrived));
                    }
                    let was = AttributeValue::S(stored.position);
                    write = match stored.shard {
                        Some(shard) => Write::new()
                            .on("kinesis_position = :was AND kinesis_shard = :in")
                            .value(":in", AttributeValue::S(shard)),
                        None => write_on(
                            "kinesis_position = :was AND (attribute_not_exists(kinesis_shard) \
                             OR NOT attribute_type(kinesis_shard, :string))",
                        ),
                    }
                    .value(":was", was);
                }
            }
        }
    }

    async fn are_related(&self, new: &Version, stored: &Version) -> Result<bool, Error> {
        match (&new.shard, &stored.shard) {
            (Some(new), Some(stored)) => {
                let related = self.lineage.are_related(new, stored).await;
                related.map_err(|failure| Error::Aws(Box::new(failure)))
            }
            _ => Ok(true),
        }
    }

    async fn failed(&self, failure: Failure) -> Error {
        let region = &self.clients.region;
        let create = fix::create_table(self.table.name(), &self.key, region);
        failed(&self.table, failure, region, &create).await
    }

    /// The item's own fault, such as a field that is an index's key and of another type? Or is the
    /// table another one by now?
    async fn refused(&self, failure: Failure) -> Result<Put, Error> {
        // Locked while it is asked for: many items may be refused at a time.
        let mut looked_at = self.looked_at.lock().await;
        if looked_at.is_none_or(|at| at.elapsed() > LOOK_AGAIN) {
            let table = self.clients.table(self.table.name());
            let described = patiently(&self.metrics, table.name(), || table.describe()).await;
            let keys = described.map(|description| description.keys);
            let key = checks::one_key(self.table.name(), keys, &self.clients.region);
            let key = key.map_err(Error::Write)?;
            if key != self.key {
                return Err(Error::Write(Problem {
                    what: format!(
                        "table {} was made anew with the key {key} instead of {} ({failure})",
                        self.table.name(),
                        self.key
                    ),
                    fix: "Mend it with: kubectl rollout restart deployment/<the consumer's>"
                        .to_owned(),
                }));
            }
            *looked_at = Some(Instant::now());
        }
        drop(looked_at);
        let Failure { code, message, .. } = failure;
        let reason = format!("{code}: {message}");
        Ok(Put::Rejected(Rejected::Refused(reason)))
    }
}

/// A write on a condition that names the type `:string`.
fn write_on(condition: impl Into<String>) -> Write {
    let string = AttributeValue::S("S".to_owned());
    Write::new().on(condition).value(":string", string)
}

fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
}

/// Calls until the answer is one that waiting does not change. Ends with the lease or the process:
/// its caller is dropped then. `on`: what is called, to be told where that takes long.
pub(crate) async fn patiently<T, F>(
    metrics: &Metrics,
    on: &str,
    call: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let began = Instant::now();
    let mut trouble = None;
    let answer = call
        .retry(pauses())
        .when(Failure::is_transient)
        .notify(|failure, pause| {
            let Failure { operation, .. } = failure;
            metrics.write_retried(operation, failure.kind == Kind::Throttled);
            tracing::debug!(%failure, ?pause, "trying again");
            let tried_for = began.elapsed();
            if tried_for < LONG {
                return;
            }
            let what = format!("{operation} on {on}");
            if let Some(times) = metrics.library.seldom(&what) {
                tracing::warn!(
                    operation, on, times, ?tried_for, %failure,
                    "calls do not get through; they are tried again"
                );
            }
            trouble = Some(what);
        })
        .await;
    if let Some(what) = trouble
        && answer.is_ok()
        && metrics.library.seldom(&format!("{what} again")).is_some()
    {
        tracing::info!(what, tried_for = ?began.elapsed(), "a call got through");
    }
    answer
}

/// A write that waiting does not help, with what does.
pub(crate) async fn failed(table: &Table, failure: Failure, region: &str, create: &str) -> Error {
    // DynamoDB says of a table that is being made that there is none.
    if matches!(failure.kind, Kind::NotFound | Kind::InUse)
        && let Ok(description) = table.describe().await
        && let Some(Problem { what, fix }) = checks::not_active(table.name(), &description)
    {
        let what = format!("{what}, and cannot be written to ({failure})");
        return Error::Write(Problem { what, fix });
    }
    let table = table.name();
    let what = format!("cannot write to table {table} ({failure})");
    let fix = match failure.kind {
        Kind::NotFound => Some(create.to_owned()),
        Kind::InUse => Some("Wait until its change is done".to_owned()),
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
