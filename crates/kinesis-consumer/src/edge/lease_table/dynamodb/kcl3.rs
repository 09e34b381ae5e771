//! What KCL 3 left: `Migration3.0` and `Leader`, in the lease table (from 3.5 on) or in `<application>-CoordinatorState`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::{Client, error::ProvideErrorMetadata, types::KeysAndAttributes};
use tokio::time::Instant;

use super::{
    failure::classify,
    item::{Item, string, text},
};
use crate::edge::lease_table::{Kcl3State, LeaderLock, TableError};

/// For how long a table that is not there is not asked for again.
const ABSENT_FOR: Duration = Duration::from_secs(600);
const MIGRATION: &str = "Migration3.0";
const LEADER: &str = "Leader";

/// `<application>-CoordinatorState` of KCL 3.0 to 3.4, if there is one.
#[derive(Debug)]
pub(super) struct SideTable {
    name: String,
    absent_since: Mutex<Option<Instant>>,
}

impl SideTable {
    pub(super) fn new(application: &str) -> Self {
        Self {
            name: format!("{application}-CoordinatorState"),
            absent_since: Mutex::new(None),
        }
    }

    fn absent_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.absent_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two calls at most; one where there is no side table.
pub(super) async fn state(
    client: &Client,
    table: &str,
    side: &SideTable,
) -> Result<Kcl3State, TableError> {
    let found = read(client, table, "leaseKey")
        .await
        .map_err(|(_, error)| error)?;
    let known_absent = side
        .absent_since()
        .is_some_and(|since| since.elapsed() < ABSENT_FOR);
    if known_absent || (found.client_version.is_some() && found.leader.is_some()) {
        return Ok(found);
    }
    match read(client, &side.name, "key").await {
        Ok(aside) => Ok(Kcl3State {
            client_version: found.client_version.or(aside.client_version),
            leader: found.leader.or(aside.leader),
        }),
        // A policy for this application alone does not name a table that only KCL 3 makes.
        Err((Some(code), error)) => {
            *side.absent_since() = Some(Instant::now());
            tracing::debug!(table = side.name, code, %error, "taken for absent, as is usual without KCL 3");
            Ok(found)
        }
        Err((None, error)) => Err(error),
    }
}

async fn read(
    client: &Client,
    table: &str,
    key: &str,
) -> Result<Kcl3State, (Option<&'static str>, TableError)> {
    let keys = [MIGRATION, LEADER].map(|name| Item::from([(key.to_owned(), string(name))]));
    let unusable = |reason: String| {
        (
            None,
            TableError::Unavailable(format!("BatchGetItem on {table}: {reason}")),
        )
    };
    let keys = KeysAndAttributes::builder()
        .set_keys(Some(keys.into()))
        .consistent_read(true)
        .build();
    let keys = keys.map_err(|error| unusable(error.to_string()))?;
    let answer = client
        .batch_get_item()
        .request_items(table, keys)
        .send()
        .await
        .map_err(|error| {
            let known = ["ResourceNotFoundException", "AccessDeniedException"];
            let code = known.into_iter().find(|code| error.code() == Some(code));
            (code, classify("BatchGetItem", table, &error))
        })?;
    if answer
        .unprocessed_keys()
        .is_some_and(|keys| !keys.is_empty())
    {
        return Err((
            None,
            TableError::Throttled(format!("BatchGetItem on {table}: UnprocessedKeys")),
        ));
    }
    let mut state = Kcl3State::default();
    for item in answer
        .responses()
        .and_then(|tables| tables.get(table))
        .into_iter()
        .flatten()
    {
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
