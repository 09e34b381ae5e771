//! The leases of streams that are not read any more: deleted when nobody has touched them for as
//! long as the settings say.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    edge::lease_table::TableError,
    face::event::Event,
    model::{keys::LeaseKey, lease::Lease},
    run::context::Context,
};

pub(crate) struct Sweep {
    context: Arc<Context>,
    /// `None`: never.
    wait: Option<Duration>,
    next: Instant,
    /// Leases of streams that are not read: their counters, and since when those stand still.
    unread: HashMap<LeaseKey, (u64, Instant)>,
}

impl Sweep {
    pub(crate) fn new(context: Arc<Context>, wait: Option<Duration>) -> Self {
        Self {
            context,
            wait,
            next: Instant::now(),
            unread: HashMap::new(),
        }
    }

    /// One sweep, where it is due. It is no matter if it fails: the next one goes on.
    pub(crate) async fn run(&mut self) {
        let Some(wait) = self.wait.filter(|_| self.next <= Instant::now()) else {
            return;
        };
        self.next = Instant::now() + self.context.config.times().shard_sync_interval;
        let scan = match self.context.table.scan().await {
            Ok(scan) => scan,
            Err(error) => return self.context.table_failed(None, "scan", &error),
        };
        for lease in self.due(scan.leases, wait) {
            match self.context.table.discard(&lease).await {
                Ok(()) => {
                    // Or its absence would look like somebody's mistake.
                    self.context.known().forget(&lease.key);
                    let shard = lease.key;
                    self.context.report(Event::LeaseDeleted { shard });
                }
                Err(TableError::Conflict(_)) => {}
                Err(error) => {
                    let key = Some(&lease.key);
                    self.context.table_failed(key, "discard", &error);
                }
            }
        }
    }

    /// The leases that nobody touched for `wait`.
    fn due(&mut self, mut leases: Vec<Lease>, wait: Duration) -> Vec<Lease> {
        let now = Instant::now();
        leases.retain(|lease| self.context.streams.of(&lease.key).is_none());
        let mut before = std::mem::take(&mut self.unread);
        leases.retain(|lease| {
            let seen = before.remove(&lease.key);
            let seen = seen.filter(|(counter, _)| *counter == lease.counter);
            let since = seen.map_or(now, |(_, since)| since);
            let seen = (lease.counter, since);
            self.unread.insert(lease.key.clone(), seen);
            now - since >= wait
        });
        leases
    }
}
