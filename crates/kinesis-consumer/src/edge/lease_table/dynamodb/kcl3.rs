//! What KCL 3 left: `Migration3.0` and `Leader`, in the lease table (from 3.5 on) or in
//! `<application>-CoordinatorState`.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kinesis_edge::{Failure, Kind, Table};
use tokio::time::Instant;

use super::{
    item::{Item, string, text},
    to_error,
};
use crate::edge::lease_table::{Kcl3State, LeaderLock, TableError};

/// For how long a table that is not there is not asked for again.
const ABSENT_FOR: Duration = Duration::from_secs(600);
const MIGRATION: &str = "Migration3.0";
const LEADER: &str = "Leader";

/// `<application>-CoordinatorState` of KCL 3.0 to 3.4, if there is one.
#[derive(Debug)]
pub(super) struct SideTable {
    table: Table,
    /// Since when it is known to be absent, or denied: how that was said.
    absent_since: Mutex<Option<(Instant, Option<String>)>>,
}

impl SideTable {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            absent_since: Mutex::new(None),
        }
    }

    fn absent_since(&self) -> MutexGuard<'_, Option<(Instant, Option<String>)>> {
        self.absent_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two calls at most; one where there is no side table.
pub(super) async fn state(table: &Table, side: &SideTable) -> Result<Kcl3State, TableError> {
    let found = read(table, "leaseKey").await;
    let found = found.map_err(|failure| to_error(table, &failure))?;
    if found.client_version.is_some() && found.leader.is_some() {
        return Ok(found);
    }
    let known = side.absent_since().clone();
    if let Some((_, denied)) = known.filter(|(since, _)| since.elapsed() < ABSENT_FOR) {
        return Ok(Kcl3State { denied, ..found });
    }
    match read(&side.table, "key").await {
        Ok(aside) => Ok(Kcl3State {
            client_version: found.client_version.or(aside.client_version),
            leader: found.leader.or(aside.leader),
            denied: None,
        }),
        // A policy for this application alone does not name a table that only KCL 3 makes.
        Err(failure)
            if matches!(failure.kind, Kind::NotFound | Kind::Denied)
                && !failure.is_of_credentials() =>
        {
            let table = side.table.name();
            let denied =
                (failure.kind == Kind::Denied).then(|| format!("table {table}: {failure}"));
            *side.absent_since() = Some((Instant::now(), denied.clone()));
            Ok(Kcl3State { denied, ..found })
        }
        Err(failure) => Err(to_error(&side.table, &failure)),
    }
}

async fn read(table: &Table, key: &str) -> Result<Kcl3State, Failure> {
    let keys = [MIGRATION, LEADER].map(|name| Item::from([(key.to_owned(), string(name))]));
    let mut state = Kcl3State::default();
    for item in &table.get_each(keys.into()).await? {
        match text(item, key) {
            Some(MIGRATION) => state.client_version = text(item, "cv").map(str::to_owned),
            Some(LEADER) => state.leader = leader(item),
            _ => {}
        }
    }
    Ok(state)
}

fn leader(item: &Item) -> Option<LeaderLock> {
    Some(LeaderLock {
        owner: text(item, "ownerName")?.to_owned(),
        version: text(item, "recordVersionNumber")?.to_owned(),
        lease_millis: text(item, "leaseDuration")?.parse().ok()?,
    })
}
