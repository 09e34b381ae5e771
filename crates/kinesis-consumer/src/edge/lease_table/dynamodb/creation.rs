//! The table itself: created when absent, checked when there.

use std::time::Duration;

use kinesis_edge::{Description, Kind, Table};
use tokio::time::Instant;

use super::to_error;
use crate::edge::lease_table::TableError;

const POLL: Duration = Duration::from_millis(200);
const LOG_EVERY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(600);

/// Creates the table if it is not there, and waits until it can be used. `true`: it was created by
/// us.
pub(super) async fn ensure_exists(table: &Table) -> Result<bool, TableError> {
    let started = Instant::now();
    let mut logged = started;
    let mut created = false;
    loop {
        let status = match table.describe().await {
            Ok(description) => checked(table.name(), description)?,
            Err(failure) if failure.kind == Kind::NotFound => {
                // Also when a table of that name is gone only now, after its deletion.
                let by_us = table.create("leaseKey").await;
                created |= by_us.map_err(|failure| to_error(table, &failure))?;
                "CREATING".to_owned()
            }
            Err(failure) => return Err(to_error(table, &failure)),
        };
        if ["ACTIVE", "UPDATING"].contains(&status.as_str()) {
            return Ok(created);
        }
        let table = table.name();
        if started.elapsed() >= PATIENCE {
            let text = format!("table {table} is still {status} after {PATIENCE:?}");
            return Err(TableError::Unavailable(text.into()));
        }
        if logged.elapsed() >= LOG_EVERY {
            logged = Instant::now();
            tracing::info!(table, status, waited = ?started.elapsed(), "waiting for the lease table");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The table's status, if it is keyed as a lease table.
fn checked(table: &str, description: Description) -> Result<String, TableError> {
    let Description { status, keys } = description;
    if let [key] = keys.as_slice()
        && (key.name.as_str(), key.role.as_str()) == ("leaseKey", "HASH")
    {
        return Ok(status);
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
