//! The task that asks AWS about one source, until nobody wants to know.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    Pace, State, Table,
    asked::Asked,
    lock,
    state::{Failure, Snapshot},
};
use crate::{error::SourceError, shards::ShardCounter, trigger::Source};

/// After a failure the next question comes sooner than the next refresh.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub(super) source: Source,
    pub(super) counter: Arc<dyn ShardCounter>,
    pub(super) pace: Pace,
    pub(super) asked: Arc<Asked>,
    pub(super) table: Weak<Mutex<Table>>,
    pub(super) state: watch::Sender<State>,
}

impl Watch {
    /// Asks and publishes. `pause`: not at once.
    pub(super) async fn run(self, pause: bool) {
        if pause {
            sleep(jittered(self.backoff(1))).await;
        }
        loop {
            match self.counter.open_shards().await {
                Ok(open_shards) => self.answered(open_shards),
                Err(error) => self.failed(error),
            }
            let failures = self.state.borrow().failure.as_ref().map(|it| it.in_a_row);
            let wait = failures.map_or(self.pace.refresh, |failures| self.backoff(failures));
            sleep(jittered(wait)).await;
            if self.end_if_idle() {
                return;
            }
        }
    }

    fn answered(&self, open_shards: i64) {
        let Source { stream, region, .. } = &self.source;
        self.state.send_if_modified(|state| {
            let before = state.snapshot.replace(Snapshot {
                open_shards,
                at: Instant::now(),
            });
            let failure = state.failure.take();
            let was = before.map(|before| before.open_shards);
            if let Some(failure) = &failure {
                let failures = failure.in_a_row;
                info!(%stream, region, open_shards, failures, "recovered");
            }
            match was {
                None => info!(%stream, region, open_shards, "first answer"),
                Some(was) if was != open_shards => {
                    info!(%stream, region, open_shards, was, "open shards changed");
                }
                Some(_) => {}
            }
            failure.is_some() || was != Some(open_shards)
        });
    }

    fn failed(&self, error: SourceError) {
        self.state.send_modify(|state| {
            let before = state.failure.take();
            let changed = before
                .as_ref()
                .is_none_or(|before| before.error.code != error.code);
            if changed {
                warn!(stream = %self.source.stream, region = self.source.region, "{error}");
            }
            state.failure = Some(Failure::after(before.as_ref(), error));
        });
    }

    /// The pause after so many failures in a row: doubling, at most a refresh.
    fn backoff(&self, failures: u32) -> Duration {
        let first = FIRST_BACKOFF.min(self.pace.refresh / 4);
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.pace.refresh)
    }

    /// Leaves the table, if nobody asked for long. Whoever asks takes the same lock, so nobody is left without a watcher.
    fn end_if_idle(&self) -> bool {
        let Some(table) = self.table.upgrade() else {
            return true;
        };
        let mut table = lock(&table);
        if !self.asked.is_idle(self.pace.idle) {
            return false;
        }
        let Source { stream, region, .. } = &self.source;
        info!(%stream, region, "nobody asks any more: no longer watched");
        let its = table.watchers.get(&self.source);
        if its.is_some_and(|watcher| Arc::ptr_eq(&watcher.asked, &self.asked)) {
            table.remove(&self.source);
        }
        true
    }
}

/// ± 10 %, so that watchers started together do not ask together for ever.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}
