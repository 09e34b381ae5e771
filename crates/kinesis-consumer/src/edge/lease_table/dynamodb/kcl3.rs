//! What KCL 3 keeps beside the leases: in the lease table from 3.5 on, in two tables of the
//! application's own before, or until it is moved (`coordinator/migration/*`).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kinesis_edge::{AttributeValue, DynamoDbClient, Failure, Gate, Kind, Table, Write, Written};
use tokio::time::Instant;

use super::{
    item::{Item, number, string, text},
    to_error,
    usage::Usage,
};
use crate::edge::lease_table::{Kcl3State, LeaderLock, Scan, TableError};

/// For how long a table that is not there is not asked for again.
const ABSENT_FOR: Duration = Duration::from_secs(600);
const MIGRATION: &str = "Migration3.0";
const LEADER: &str = "Leader";
const TABLE_MIGRATION: &str = "TableMigration3.5";
const REPORT: &str = "WORKER_METRIC_STATS";

/// The tables of KCL 3.0 to 3.4, if there are any.
#[derive(Debug)]
pub(super) struct SideTables {
    /// `<application>-CoordinatorState`.
    state: Table,
    /// `<application>-WorkerMetricStats`.
    workers: Table,
    known: Mutex<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// Since when `state` is known to be absent, or denied: how that was said.
    absent_since: Option<(Instant, Option<String>)>,
    /// `state` could be read before: that it is denied is news then.
    was_read: bool,
    /// Workers report themselves to `workers`.
    holds_workers: bool,
    /// Workers report themselves among the leases already: while some do, the migration of the
    /// tables waits for the last report elsewhere.
    workers_among_leases: bool,
    /// A worker of KCL 3 holds a lease.
    shows_kcl3: bool,
}

/// What one table says.
#[derive(Default)]
struct Found {
    state: Kcl3State,
    /// `tm` of `TableMigration3.5`.
    table_migration: Option<String>,
}

impl SideTables {
    pub(super) fn new(client: DynamoDbClient, application: &str, usage: &Arc<Usage>) -> Self {
        let table = |name: &str| {
            let table = Table::new(client.clone(), format!("{application}-{name}"));
            table.metered(usage.meter())
        };
        Self {
            state: table("CoordinatorState"),
            workers: table("WorkerMetricStats"),
            known: Mutex::default(),
        }
    }

    pub(super) fn behind(self, gate: Arc<dyn Gate>) -> Self {
        Self {
            state: self.state.behind(Arc::clone(&gate)),
            workers: self.workers.behind(gate),
            ..self
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a scan of the leases shows. `reports`: of workers.
    pub(super) fn learn(&self, scan: &Scan, reports: bool) {
        let known = &mut *self.known();
        known.workers_among_leases = reports;
        if scan.shows_kcl3 && !std::mem::replace(&mut known.shows_kcl3, true) {
            known.absent_since = None;
        }
    }
}

/// One call, of one item, where KCL 3 never was and there is no side table; three at most.
///
/// The lock is read only where a version is: in a fleet without KCL 3 each worker looks once a
/// minute, and pays for each item.
pub(super) async fn state(table: &Table, side: &SideTables) -> Result<Kcl3State, TableError> {
    let among_leases = async |name| {
        let found = read(table, "leaseKey", &[name]).await;
        found.map_err(|failure| to_error(table, &failure))
    };
    let mut found = among_leases(MIGRATION).await?.state;
    if found.client_version.is_some() {
        found.leader = among_leases(LEADER).await?.state.leader;
        if found.leader.is_some() {
            side.known().holds_workers = false;
            return Ok(found);
        }
    }
    let known = side.known().absent_since.clone();
    if let Some((_, denied)) = known.filter(|(since, _)| since.elapsed() < ABSENT_FOR) {
        return Ok(Kcl3State { denied, ..found });
    }
    match read(&side.state, "key", &[MIGRATION, LEADER, TABLE_MIGRATION]).await {
        Ok(aside) => {
            let migration = aside.table_migration.as_deref();
            let is_over = matches!(
                migration,
                Some("TABLE_MIGRATION_STATUS_PENDING" | "TABLE_MIGRATION_STATUS_COMPLETE")
            );
            {
                let known = &mut *side.known();
                known.absent_since = None;
                known.was_read = true;
                known.holds_workers = !is_over;
            }
            let aside = aside.state;
            if found.client_version.is_none()
                && aside.client_version.is_some()
                && aside.leader.is_none()
            {
                found.leader = among_leases(LEADER).await?.state.leader;
            }
            Ok(Kcl3State {
                client_version: found.client_version.or(aside.client_version),
                leader: found.leader.or(aside.leader),
                denied: None,
            })
        }
        // A policy for this application alone does not name a table that only KCL 3 makes.
        Err(failure)
            if matches!(failure.kind, Kind::NotFound | Kind::Denied)
                && !failure.is_of_credentials()
                && !(failure.kind == Kind::Denied && side.known().was_read) =>
        {
            let table = side.state.name();
            let denied =
                (failure.kind == Kind::Denied).then(|| format!("table {table}: {failure}"));
            let known = &mut *side.known();
            known.absent_since = Some((Instant::now(), denied.clone()));
            known.holds_workers = false;
            Ok(Kcl3State { denied, ..found })
        }
        Err(failure) => Err(to_error(&side.state, &failure)),
    }
}

/// `key`: the name of the table's key.
async fn read(table: &Table, key: &str, names: &[&str]) -> Result<Found, Failure> {
    let keys = names.iter();
    let keys = keys.map(|name| Item::from([(key.to_owned(), string(*name))]));
    let mut found = Found::default();
    for item in &table.get_each(keys.collect()).await? {
        match text(item, key) {
            Some(MIGRATION) => found.state.client_version = text(item, "cv").map(str::to_owned),
            Some(LEADER) => found.state.leader = leader(item),
            Some(TABLE_MIGRATION) => found.table_migration = text(item, "tm").map(str::to_owned),
            _ => {}
        }
    }
    Ok(found)
}

fn leader(item: &Item) -> Option<LeaderLock> {
    Some(LeaderLock {
        owner: text(item, "ownerName")?.to_owned(),
        version: text(item, "recordVersionNumber")?.to_owned(),
        lease_millis: text(item, "leaseDuration")?.parse().ok()?,
    })
}

/// Where a worker's report is: the table, and its key's name.
fn place<'a>(leases: &'a Table, side: &'a SideTables) -> (&'a Table, &'static str) {
    let known = side.known();
    if known.holds_workers && !known.workers_among_leases {
        (&side.workers, "wid")
    } else {
        (leases, "leaseKey")
    }
}

/// Whether the item is a worker's report.
pub(super) fn is_report(item: &Item) -> bool {
    text(item, "entityType") == Some(REPORT)
}

/// A write of the worker's report. Among leases: never over anything else that has its id for a
/// key.
fn report_of(write: Write, key: &'static str) -> Write {
    let write = write.value(":kind", string(REPORT));
    match key {
        "leaseKey" => write.on("attribute_not_exists(leaseKey) OR entityType = :kind"),
        _ => write,
    }
}

/// The simplest report that a leader accepts, as KCL's own where it can measure nothing.
pub(super) async fn report(
    leases: &Table,
    side: &SideTables,
    worker: &str,
    now: Timestamp,
) -> Result<(), TableError> {
    let (table, key) = place(leases, side);
    let write = Write::new()
        .change(
            "SET entityType = :kind, lut = :now, slu = :now, sup = :one, sts = :none, opr = :none",
        )
        .value(":now", number(now.as_second()))
        .value(":one", number(1))
        .value(":none", AttributeValue::M(Item::new()));
    let item = Item::from([(key.to_owned(), string(worker))]);
    match table.update(item, report_of(write, key)).await {
        Ok(Written::Done(_)) => Ok(()),
        Ok(Written::Refused(_)) => {
            let name = table.name();
            let text = format!(
                "UpdateItem on {name}: the item of key {worker}, which is this worker's id, is \
                 something else: want a worker id that nothing else in the table has for a key"
            );
            Err(TableError::Unavailable(text.into()))
        }
        Err(failure) => Err(to_error(table, &failure)),
    }
}

pub(super) async fn retire(
    leases: &Table,
    side: &SideTables,
    worker: &str,
) -> Result<(), TableError> {
    let (table, key) = place(leases, side);
    let item = Item::from([(key.to_owned(), string(worker))]);
    let write = match key {
        "leaseKey" => report_of(Write::new(), key),
        _ => Write::new(),
    };
    match table.delete(item, write).await {
        Ok(Written::Done(_) | Written::Refused(_)) => Ok(()),
        Err(failure) => Err(to_error(table, &failure)),
    }
}
