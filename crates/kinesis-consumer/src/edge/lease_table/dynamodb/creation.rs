//! The table itself: created when absent, checked when there.

use std::time::Duration;

use kinesis_edge::{Description, Kind, Table, remedy_of_status as remedy};
use tokio::time::Instant;

use super::to_error;
use crate::edge::lease_table::TableError;

const POLL: Duration = Duration::from_millis(200);
const LOG_EVERY: Duration = Duration::from_secs(10);
/// A table is made in seconds. Whoever asks again says how long that is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates the table if it is not there, and waits until it can be used. `true`: it was created by
/// us.
pub(super) async fn ensure_exists(table: &Table) -> Result<bool, TableError> {
    let started = Instant::now();
    let mut logged = started;
    let mut created = false;
    loop {
        let status = match table.describe().await {
            Ok(description) if description.is_usable() => {
                return checked(table.name(), &description).map(|()| created);
            }
            Ok(description) => {
                checked(table.name(), &description)?;
                description.status
            }
            Err(failure) if failure.kind == Kind::NotFound => {
                // Also when a table of that name is gone only now, after its deletion.
                let by_us = table.create("leaseKey").await;
                created |= by_us.map_err(|failure| to_error(table, &failure))?;
                "CREATING".to_owned()
            }
            Err(failure) => return Err(to_error(table, &failure)),
        };
        let table = table.name();
        let passes = ["CREATING", "DELETING"].contains(&status.as_str());
        if !passes || started.elapsed() >= PATIENCE {
            let remedy = remedy(&status);
            let text = format!("table {table} is {status}: it cannot be used. {remedy}");
            return Err(TableError::NotActive(text.into()));
        }
        if logged.elapsed() >= LOG_EVERY {
            logged = Instant::now();
            tracing::info!(table, status, waited = ?started.elapsed(), "waiting for the lease table");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Is it keyed as a lease table?
fn checked(table: &str, description: &Description) -> Result<(), TableError> {
    let keys = &description.keys;
    if let [key] = keys.as_slice()
        && (key.name.as_str(), key.role.as_str()) == ("leaseKey", "HASH")
    {
        return Ok(());
    }
    let keys: Vec<_> = keys
        .iter()
        .map(|key| format!("{} ({})", key.name, key.role))
        .collect();
    let text = format!(
        "table {table} has key {}: want leaseKey (HASH) and no sort key. \
         Is it another kind of table? Give the application another lease table",
        keys.join(", ")
    );
    Err(TableError::Permanent(text.into()))
}
