//! The rows of a lease table that several streams share, so that it is scanned once and not once
//! for each of them.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::lease::Parsed;
use kinesis_edge::Failure;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// A table that is too large is not read anew for this long: each try costs as much as a scan.
const TOO_LARGE_HOLDS: Duration = Duration::from_secs(600);

/// What the last scan found, for whoever comes soon after. Held while scanning: the next one finds
/// what this one found.
#[derive(Debug, Default)]
pub(crate) struct SharedRows(Mutex<Option<(Instant, Found)>>);

/// Rows with their keys.
pub(crate) type Rows = Arc<Vec<(String, Parsed)>>;

#[derive(Debug)]
enum Found {
    Rows(Rows),
    TooLarge(Failure),
}

/// What is known of the table.
pub(crate) enum Known<'a> {
    /// Its rows, young enough.
    Rows(Rows),
    /// It was too large a while ago, as this says.
    TooLarge(Failure),
    /// Nothing: it is one's turn to scan.
    Nothing(Turn<'a>),
}

/// The turn to scan.
pub(crate) struct Turn<'a>(MutexGuard<'a, Option<(Instant, Found)>>);

impl SharedRows {
    /// Rows younger than `fresh`, or the turn to scan.
    pub(crate) async fn get(&self, fresh: Duration) -> Known<'_> {
        let shared = self.0.lock().await;
        match &*shared {
            Some((at, Found::Rows(rows))) if at.elapsed() < fresh => Known::Rows(Arc::clone(rows)),
            Some((at, Found::TooLarge(failure))) if at.elapsed() < TOO_LARGE_HOLDS => {
                Known::TooLarge(failure.clone())
            }
            _ => Known::Nothing(Turn(shared)),
        }
    }
}

impl Turn<'_> {
    /// Leaves them to the others, if there may be others: only a multi-stream application's table
    /// is scanned for several sources.
    pub(crate) fn share(mut self, rows: &Rows) {
        let is_shared = |(_, row): &(String, Parsed)| matches!(row, Parsed::Lease(lease) if lease.key.stream.is_some());
        *self.0 = rows
            .iter()
            .any(is_shared)
            .then(|| (Instant::now(), Found::Rows(Arc::clone(rows))));
    }

    /// Nobody shall scan again in vain for a while.
    pub(crate) fn remember_too_large(mut self, failure: &Failure) {
        *self.0 = Some((Instant::now(), Found::TooLarge(failure.clone())));
    }
}

#[cfg(test)]
mod tests {
    use kinesis_consumer::{Checkpoint, lease::Lease};
    use kinesis_edge::Service;

    use super::*;

    const FRESH: Duration = Duration::from_secs(13);

    fn rows(stream: Option<&str>) -> Rows {
        let mut lease = Lease::new("0", Checkpoint::TrimHorizon);
        lease.key.stream = stream.map(|stream| stream.parse().unwrap());
        Arc::new(vec![("0".to_owned(), Parsed::Lease(Box::new(lease)))])
    }

    async fn scan(shared: &SharedRows, found: &Rows) -> bool {
        match shared.get(FRESH).await {
            Known::Nothing(turn) => {
                turn.share(found);
                true
            }
            Known::Rows(_) | Known::TooLarge(_) => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_multi_stream_table_is_scanned_once_a_refresh() {
        let shared = SharedRows::default();
        let found = rows(Some("111122223333:orders:1"));
        assert!(scan(&shared, &found).await);
        assert!(!scan(&shared, &found).await);
        tokio::time::advance(FRESH).await;
        assert!(scan(&shared, &found).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_of_one_stream_is_not_kept() {
        let shared = SharedRows::default();
        let found = rows(None);
        assert!(scan(&shared, &found).await);
        assert!(scan(&shared, &found).await);
        assert_eq!(Arc::strong_count(&found), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_is_too_large_is_not_read_at_each_try() {
        let shared = SharedRows::default();
        let failure = Failure::too_large(Service::DynamoDb, "Scan", "101 MB");
        let Known::Nothing(turn) = shared.get(FRESH).await else {
            panic!("nobody has scanned");
        };
        turn.remember_too_large(&failure);
        tokio::time::advance(TOO_LARGE_HOLDS - Duration::from_millis(1)).await;
        match shared.get(FRESH).await {
            Known::TooLarge(known) => assert_eq!(known.to_string(), failure.to_string()),
            Known::Rows(_) | Known::Nothing(_) => panic!("scanned again"),
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(scan(&shared, &rows(None)).await);
    }
}
