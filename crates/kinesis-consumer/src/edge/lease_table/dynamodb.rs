//! The lease table in DynamoDB: KCL's conditional writes as expressions, one attribute at a time,
//! so that attributes of a newer KCL survive. Never PutItem over a lease.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_edge::{ClientSettings, DynamoDbClient, Failure, Gate, Kind, Table, Write, Written};
use tokio::time::Instant;

use crate::{
    edge::{
        failure::CallError,
        lease_table::{Kcl3State, LeaseTable, Scan, TableError, UsageSink, new_process},
    },
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::HashRange,
    },
};

mod application;
mod creation;
pub(crate) mod item;
mod kcl3;
mod owner;
mod usage;
mod writes;

use application::Application;
use item::{Item, keys, load_of, new_item, number, string, strings};
use kcl3::SideTables;
use usage::Usage;
use writes::{NOT_MOVED, OWNED_AS_READ, REQUEST, as_moved, lease_key, renewal};

/// What scans, and questions about tables, get where the client handed in has no setting of its
/// own.
pub(crate) const CALLS: ClientSettings = ClientSettings {
    connect_timeout: Some(Duration::from_secs(1)),
    read_timeout: None,
    attempt_timeout: Some(Duration::from_secs(2)),
    operation_timeout: Some(Duration::from_secs(5)),
    attempts: None,
};

/// What calls for one lease get, whatever the client handed in has: an answer that comes later than
/// a renewal is due helps nobody, and a pooled connection that died must leave time for another
/// attempt.
pub(crate) const RENEWALS: ClientSettings = ClientSettings {
    attempts: Some(3),
    ..CALLS
};

/// More pages (of 1 MB) than any lease table has: an endpoint that never stops would keep us
/// forever.
const MOST_PAGES: usize = 10_000;

/// Those that one BatchGetItem may ask for.
const LOOKED_AT_ONCE: usize = 100;

/// The lease table of one application in DynamoDB.
#[derive(Debug)]
pub struct DynamoDbTable {
    table: Table,
    /// The same, for calls for one lease.
    leases: Table,
    process: String,
    /// When the process began, for `nativeClock`.
    began: Instant,
    side_tables: SideTables,
    kind: Application,
    usage: Arc<Usage>,
}

impl DynamoDbTable {
    /// The lease table `table` of `application`. The client gets [`CALLS`] where it has none; for
    /// one lease, [`RENEWALS`].
    pub fn new(
        client: DynamoDbClient,
        table: impl Into<String>,
        application: impl Into<String>,
    ) -> Self {
        let renewals = RENEWALS.replace_dynamodb(&client);
        let client = CALLS.complete_dynamodb(&client);
        let application = application.into();
        let table = table.into();
        let usage = Arc::<Usage>::default();
        Self {
            leases: Table::new(renewals, table.as_str()).metered(usage.meter()),
            table: Table::new(client.clone(), table).metered(usage.meter()),
            process: new_process(),
            began: Instant::now(),
            side_tables: SideTables::new(client, &application, &usage),
            kind: Application::OfOneStream,
            usage,
        }
    }

    /// The same of an application that reads several streams: KCL's multi-stream mode.
    #[must_use]
    pub fn of_several_streams(mut self) -> Self {
        self.kind = Application::OfSeveralStreams;
        self
    }

    /// The same with a gate before each call for one lease, and another before all other calls.
    #[must_use]
    pub(crate) fn behind(mut self, leases: Arc<dyn Gate>, tables: Arc<dyn Gate>) -> Self {
        self.leases = self.leases.behind(leases);
        self.table = self.table.behind(Arc::clone(&tables));
        self.side_tables = self.side_tables.behind(tables);
        self
    }

    fn error(&self, failure: &Failure) -> TableError {
        to_error(&self.table, failure)
    }

    async fn update(&self, key: &LeaseKey, write: Write) -> Result<Lease, TableError> {
        let written = self.leases.update(lease_key(key), write).await;
        match written.map_err(|failure| self.error(&failure))? {
            // The write happened, but no lease is left of it: somebody else spoiled the item.
            Written::Done(item) => self
                .kind
                .lease(&item.unwrap_or_default())
                .map_err(|reason| {
                    let table = self.table.name();
                    let text =
                        format!("UpdateItem on {table}: the item of {key} is no lease: {reason}");
                    TableError::Spoiled(text.into())
                }),
            Written::Refused(item) => Err(self.kind.conflict(item)),
        }
    }

    /// A holder's write, with more to set and to remove.
    fn renewal(&self, lease: &Lease, set: &str, remove: &[&str]) -> Write {
        let clock = self.began.elapsed().as_millis();
        renewal(lease, set, remove).value(":clock", number(clock))
    }
}

/// Names operation, table and AWS's code, and the next step where there is one.
fn to_error(table: &Table, failure: &Failure) -> TableError {
    let (operation, name) = (failure.operation, table.name());
    let mut error = CallError::new(
        &format!("{operation} on {name}"),
        &format!("table {name}"),
        failure.clone(),
    );
    match failure.kind {
        _ if failure.is_of_credentials() => {}
        Kind::NotFound => error.add(
            ". The table was deleted while the worker ran; it is made anew from the leases in hand",
        ),
        Kind::Invalid => error.add(". Is it a lease table, with key leaseKey (S)?"),
        _ => {}
    }
    match failure.kind {
        // Credentials may come: the chain is asked again at the next call.
        _ if failure.is_of_credentials() => TableError::Unavailable(error),
        Kind::Throttled => TableError::Throttled(error),
        Kind::Denied | Kind::Unauthenticated | Kind::NotFound | Kind::Invalid => {
            TableError::Permanent(error)
        }
        _ => TableError::Unavailable(error),
    }
}

#[async_trait]
impl LeaseTable for DynamoDbTable {
    fn tell_usage(&self, sink: UsageSink) {
        self.usage.tell(sink);
    }

    async fn ensure_exists(&self) -> Result<bool, TableError> {
        creation::ensure_exists(&self.table).await
    }

    async fn scan(&self) -> Result<Scan, TableError> {
        let (mut scan, mut reports) = (Scan::default(), false);
        let row = |item: &Item| {
            reports |= kcl3::is_report(item);
            self.kind.sort(item, &mut scan);
        };
        let scanned = self.table.scan(&[], MOST_PAGES, row).await;
        scanned.map_err(|failure| self.error(&failure))?;
        self.side_tables.learn(&scan, reports);
        Ok(scan)
    }

    async fn look(&self, keys: &[LeaseKey]) -> Result<Vec<Lease>, TableError> {
        let mut found = Vec::new();
        for some in keys.chunks(LOOKED_AT_ONCE) {
            let some = some.iter().map(lease_key).collect();
            let items = self.table.get_each(some).await;
            found.extend(items.map_err(|failure| self.error(&failure))?);
        }
        let found = found.iter().filter_map(|item| self.kind.lease(item).ok());
        Ok(found.collect())
    }

    async fn read(&self, key: &LeaseKey) -> Result<Option<Lease>, TableError> {
        let item = self.leases.get(lease_key(key)).await;
        let item = item.map_err(|failure| self.error(&failure))?;
        let Some(item) = item else { return Ok(None) };
        let odd = |reason| {
            let table = self.table.name();
            TableError::Unavailable(format!("GetItem on {table}: {key}: {reason}").into())
        };
        self.kind.lease(&item).map(Some).map_err(odd)
    }

    async fn create(&self, lease: &Lease) -> Result<bool, TableError> {
        let absent = Write::new().on("attribute_not_exists(leaseKey)");
        match self.leases.put(new_item(lease), absent).await {
            Ok(written) => Ok(matches!(written, Written::Done(_))),
            Err(failure) => Err(self.error(&failure)),
        }
    }

    async fn take(&self, lease: &Lease, worker: &str) -> Result<Lease, TableError> {
        let process = Some(self.process.as_str());
        let condition = match &lease.checkpoint_owner {
            None => NOT_MOVED,
            // Left over.
            Some(_) => "leaseCounter = :counter",
        };
        self.own(lease, worker, process, condition).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, TableError> {
        let write = as_moved(self.renewal(lease, "", &[]), lease);
        self.update(&lease.key, write).await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: &Checkpoint,
    ) -> Result<Lease, TableError> {
        let write = self.renewal(
            lease,
            ", checkpoint = :checkpoint, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero",
            &[
                "pendingCheckpoint",
                "pendingCheckpointSubSequenceNumber",
                "pendingCheckpointState",
                "latestSince",
            ],
        )
        .on("leaseCounter = :counter")
        .value(":checkpoint", string(checkpoint.as_str()))
        .value(":sub", number(checkpoint.sub_sequence_number()))
        .value(":zero", number(0));
        self.update(&lease.key, write).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), TableError> {
        match self.release_as_read(lease).await {
            // A KCL 3 leader began to move it since: that does not move the counter, and does not
            // make it less ours to give.
            Err(TableError::Conflict(Some(stored))) if stored.counter == lease.counter => {
                self.release_as_read(&stored).await
            }
            done => done,
        }
    }

    async fn hand_over(&self, lease: &Lease, to: &str) -> Result<(), TableError> {
        let asked = format!("{NOT_MOVED} AND handoverTo = :worker");
        self.own(lease, to, None, &asked).await.map(drop)
    }

    async fn ask(&self, lease: &Lease, worker: &str, has: u64) -> Result<(), TableError> {
        let Some(owner) = &lease.owner else {
            return Err(TableError::Conflict(Some(Box::new(lease.clone()))));
        };
        let as_read = OWNED_AS_READ;
        let by_load = match lease.handover_load {
            Some(_) => ", handoverLoad = :load",
            None => " REMOVE handoverLoad",
        };
        let mut write = Write::new()
            .change(format!(
                "SET handoverTo = :worker, handoverHas = :has{by_load}"
            ))
            .value(":worker", string(worker))
            .value(":has", number(has))
            .value(":owner", string(owner));
        if let Some(load) = lease.handover_load {
            write = write.value(":load", load_of(load, worker));
        }
        let write = match &lease.handover_to {
            None => write.on(format!("{as_read} AND attribute_not_exists(handoverTo)")),
            Some(asker) => write
                .on(format!("{as_read} AND handoverTo = :asker"))
                .value(":asker", string(asker)),
        };
        self.update(&lease.key, write).await.map(drop)
    }

    async fn tell(&self, lease: &Lease, news: &BTreeSet<LeaseKey>) -> Result<(), TableError> {
        let Some(owner) = lease.owner.as_ref().filter(|_| !news.is_empty()) else {
            return Ok(());
        };
        let write = Write::new()
            .change("ADD news :news")
            .on(OWNED_AS_READ)
            .value(":news", keys(news))
            .value(":owner", string(owner));
        self.update(&lease.key, write).await.map(drop)
    }

    async fn withdraw(&self, key: &LeaseKey, worker: &str) -> Result<(), TableError> {
        let write = Write::new()
            .change(format!("REMOVE {REQUEST}"))
            .on("handoverTo = :worker")
            .value(":worker", string(worker));
        self.update(key, write).await.map(drop)
    }

    async fn remember_latest(&self, key: &LeaseKey, since: Timestamp) -> Result<(), TableError> {
        let write = Write::new()
            .change("SET latestSince = :since")
            .on("checkpoint = :latest AND attribute_not_exists(latestSince)")
            .value(":since", number(since.as_millisecond()))
            .value(":latest", string(Checkpoint::Latest.as_str()));
        self.update(key, write).await.map(drop)
    }

    async fn set_children(
        &self,
        key: &LeaseKey,
        children: &BTreeSet<ShardId>,
    ) -> Result<(), TableError> {
        if children.is_empty() {
            // DynamoDB has no empty sets: unset is absent.
            return Ok(());
        }
        let write = Write::new()
            .change("SET childShardIds = :children")
            .on("attribute_exists(leaseKey)")
            .value(":children", strings(children));
        self.update(key, write).await.map(drop)
    }

    async fn set_hash_range(&self, key: &LeaseKey, range: HashRange) -> Result<(), TableError> {
        let write = Write::new()
            .change("SET startingHashKey = :start, endingHashKey = :end")
            .on("attribute_exists(leaseKey)")
            .value(":start", string(range.start.to_string()))
            .value(":end", string(range.end.to_string()));
        self.update(key, write).await.map(drop)
    }

    async fn set_stream(&self, key: &LeaseKey, identity: &str) -> Result<(), TableError> {
        let write = Write::new()
            .change("SET nativeStream = :stream")
            .on("attribute_exists(leaseKey) AND attribute_not_exists(nativeStream)")
            .value(":stream", string(identity));
        self.update(key, write).await.map(drop)
    }

    async fn delete(&self, lease: &Lease) -> Result<(), TableError> {
        let write = Write::new()
            .on("leaseCounter = :counter AND checkpoint = :end")
            .value(":counter", number(lease.counter))
            .value(":end", string(Checkpoint::ShardEnd.as_str()));
        match self.leases.delete(lease_key(&lease.key), write).await {
            Ok(Written::Done(_)) => Ok(()),
            Ok(Written::Refused(item)) => Err(self.kind.conflict(item)),
            Err(failure) => Err(self.error(&failure)),
        }
    }

    async fn discard(&self, lease: &Lease) -> Result<(), TableError> {
        let write = Write::new()
            .on("leaseCounter = :counter")
            .value(":counter", number(lease.counter));
        match self.leases.delete(lease_key(&lease.key), write).await {
            Ok(Written::Done(_)) => Ok(()),
            Ok(Written::Refused(item)) => Err(self.kind.conflict(item)),
            Err(failure) => Err(self.error(&failure)),
        }
    }

    async fn kcl3_state(&self) -> Result<Kcl3State, TableError> {
        kcl3::state(&self.table, &self.side_tables).await
    }

    async fn report_worker(&self, worker: &str, now: Timestamp) -> Result<(), TableError> {
        kcl3::report(&self.leases, &self.side_tables, worker, now).await
    }

    async fn retire_worker(&self, worker: &str) -> Result<(), TableError> {
        kcl3::retire(&self.leases, &self.side_tables, worker).await
    }
}
