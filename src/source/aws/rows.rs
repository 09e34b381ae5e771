//! The rows of a lease table that several streams share, so that it is scanned once and not once
//! for each of them.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::lease::Parsed;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// What the last scan found, for whoever comes soon after. Held while scanning: the next one finds
/// what this one found.
#[derive(Debug, Default)]
pub(crate) struct SharedRows(Mutex<Option<(Instant, Rows)>>);

/// Rows with their keys.
pub(crate) type Rows = Arc<Vec<(String, Parsed)>>;

/// The turn to scan.
pub(crate) struct Turn<'a>(MutexGuard<'a, Option<(Instant, Rows)>>);

impl SharedRows {
    /// Rows younger than `fresh`, or the turn to scan.
    pub(crate) async fn get(&self, fresh: Duration) -> Result<Rows, Turn<'_>> {
        let shared = self.0.lock().await;
        match &*shared {
            Some((at, rows)) if at.elapsed() < fresh => Ok(Arc::clone(rows)),
            _ => Err(Turn(shared)),
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
            .then(|| (Instant::now(), Arc::clone(rows)));
    }
}

#[cfg(test)]
mod tests {
    use kinesis_consumer::{Checkpoint, lease::Lease};

    use super::*;

    const FRESH: Duration = Duration::from_secs(13);

    fn rows(stream: Option<&str>) -> Rows {
        let mut lease = Lease::new("0", Checkpoint::TrimHorizon);
        lease.key.stream = stream.map(|stream| stream.parse().unwrap());
        Arc::new(vec![("0".to_owned(), Parsed::Lease(Box::new(lease)))])
    }

    async fn scan(shared: &SharedRows, found: &Rows) -> bool {
        match shared.get(FRESH).await {
            Ok(_) => false,
            Err(turn) => {
                turn.share(found);
                true
            }
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
}
