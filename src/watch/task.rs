//! The task that asks AWS about one source, until nobody wants to know.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{
    Pace, State, Table,
    demand::Demand,
    lock,
    state::{Failure, LastGood},
};
use crate::{
    error::SourceError,
    source::{
        fetch::{Fetch, FetchRequest},
        snapshot::Snapshot,
    },
    trigger::Source,
};

/// After a failure the next question comes sooner than the next refresh.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub(super) source: Source,
    pub(super) fetch: Box<dyn Fetch>,
    pub(super) pace: Pace,
    pub(super) demand: Arc<Demand>,
    pub(super) table: Weak<Mutex<Table>>,
    pub(super) state: watch::Sender<State>,
}

impl Watch {
    /// Asks and publishes. `pause`: not at once.
    pub(super) async fn run(mut self, pause: bool) {
        if pause {
            sleep(jittered(self.backoff(1))).await;
        }
        let mut whole_at = Instant::now();
        loop {
            let request = FetchRequest {
                lag: self.demand.wants_lag(self.pace.idle),
                quick: Instant::now() < whole_at,
            };
            let wait = match self.fetch.fetch(request).await {
                Ok(snapshot) => {
                    if !request.quick {
                        whole_at = Instant::now() + jittered(self.pace.refresh);
                    }
                    let soon = self
                        .soon(&snapshot)
                        .map(|pause| Instant::now() + jittered(pause));
                    self.answered(snapshot);
                    soon.map_or(whole_at, |soon| soon.min(whole_at))
                }
                Err(error) => {
                    // Nothing less than a whole look makes it good again.
                    whole_at = Instant::now();
                    let failures = self.failed(error);
                    Instant::now() + jittered(self.backoff(failures))
                }
            };
            tokio::select! {
                () = sleep_until(wait) => {}
                () = self.demand.more.notified() => {}
            }
            if self.end_if_idle() {
                return;
            }
        }
    }

    /// The pause before a quick look, where one is worth it before the next refresh.
    fn soon(&self, snapshot: &Snapshot) -> Option<Duration> {
        let Snapshot::Application(application) = snapshot else {
            return None;
        };
        let lag = application.lag.as_ref()?;
        if lag.under_way {
            Some(FIRST_BACKOFF)
        } else if self.demand.has_lag_followers() && application.is_idle() {
            Some(self.pace.idle_refresh)
        } else {
            None
        }
    }

    fn answered(&self, snapshot: Snapshot) {
        let at = match &snapshot {
            Snapshot::OpenShards(_) => Instant::now(),
            Snapshot::Application(application) => application.at,
        };
        let Source { stream, region, .. } = &self.source;
        let table = self
            .source
            .lease_table
            .as_ref()
            .map(|table| table.name.as_str());
        self.state.send_if_modified(|state| {
            let before = state.last_good.take();
            let failure = state.failure.take();
            if let Some(failure) = &failure {
                let failures = failure.in_a_row;
                info!(%stream, region, table, failures, "recovered");
            }
            let (what, count) = snapshot.headline();
            let was = before.map(|before| before.snapshot.headline().1);
            match was {
                None => info!(%stream, region, table, count, "first answer: {what}"),
                Some(was) if was != count => {
                    info!(%stream, region, table, count, was, "{what} changed");
                }
                Some(_) => {}
            }
            let changed = failure.is_some()
                || was != Some(count)
                || matches!(snapshot, Snapshot::Application(_));
            state.last_good = Some(LastGood { snapshot, at });
            changed
        });
    }

    /// Says how often in a row.
    fn failed(&self, error: SourceError) -> u32 {
        let mut failures = 0;
        self.state.send_modify(|state| {
            let before = state.failure.take();
            let changed = before
                .as_ref()
                .is_none_or(|before| before.error.code != error.code);
            if changed {
                warn!(stream = %self.source.stream, region = self.source.region, "{error}");
            }
            let failure = Failure::after(before.as_ref(), error);
            failures = failure.in_a_row;
            state.failure = Some(failure);
        });
        failures
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
        if !self.demand.is_idle(self.pace.idle) {
            return false;
        }
        let Source { stream, region, .. } = &self.source;
        info!(%stream, region, "nobody asks any more: no longer watched");
        let its = table.watchers.get(&self.source);
        if its.is_some_and(|watcher| Arc::ptr_eq(&watcher.demand, &self.demand)) {
            table.remove(&self.source);
        }
        true
    }
}

/// ± 10 %, so that watchers started together do not ask together for ever.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}
