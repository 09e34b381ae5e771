//! The task that fetches one source, decides, and publishes both, until nobody asks any more.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{
    LivePace, Pace,
    decider::Decider,
    lock,
    state::{Facts, Fetching, Snapshot},
    table::{Table, Watched},
};
use crate::{
    error::SourceError,
    source::{
        failure::Failure,
        fetch::{Fetch, FetchRequest},
        snapshot::ApplicationSnapshot,
    },
    trigger::{LeaseTable, StreamSource},
};

/// After a failure the next fetch comes sooner than the next refresh.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// Shards without a verdict are asked again after this, a little earlier than each may be.
const UNDECIDED_PAUSE: Duration = Duration::from_secs(3);

/// So many sources are fetched in a second, by all watchers: more make every refresh longer. A call
/// takes 0.3 ms of CPU, and a number of shards changes within minutes.
const FETCHES_A_SECOND: f64 = 150.0;

/// A watcher that fetches on demand looks so often whether it is still wanted.
const IS_WANTED: Duration = Duration::from_secs(60);

/// A watcher's task.
pub(super) struct Watch<W: Watched> {
    pub(super) decider: Decider<W>,
    pub(super) pace: LivePace,
    pub(super) table: Weak<Mutex<Table>>,
}

impl<W: Watched> Watch<W> {
    /// Fetches and publishes. `pause`: not at once.
    pub(super) async fn run(
        mut self,
        mut fetcher: Box<dyn Fetch<Snapshot = W::Snapshot>>,
        pause: bool,
    ) {
        if pause {
            sleep(jittered(self.backoff(1))).await;
        }
        let demand = Arc::clone(&self.decider.demand);
        let mut whole_at = Instant::now();
        let mut refresh = self.pace.get().refresh;
        let mut took = Duration::ZERO;
        loop {
            let before = std::mem::replace(&mut refresh, self.pace.get().refresh);
            if refresh < before {
                // By the old pace it would come too late.
                whole_at = Instant::now();
            }
            // Whatever was asked for until now is in this request.
            demand.more.notified().now_or_never();
            let request = FetchRequest {
                lag: demand.wants_lag(),
                quick: Instant::now() < whole_at,
            };
            let begun = Instant::now();
            let fetched = self.decider.meanwhile(fetcher.fetch(request)).await;
            if !request.quick {
                took = begun.elapsed();
            }
            let wait = match fetched {
                Ok(snapshot) => {
                    if !request.quick {
                        // A fetch that took long leaves a short pause only.
                        let pause = self.pause_before_whole(&snapshot);
                        let short = Instant::now() + FIRST_BACKOFF.min(pause / 4);
                        whole_at = (begun + jittered(pause)).max(short);
                    }
                    let soon = self.pause_before_quick_fetch(&snapshot);
                    let soon = soon.map(|pause| Instant::now() + jittered(pause));
                    self.decider.fetched(snapshot);
                    if self.decider.looks_soon() {
                        let again = begun + jittered(self.pace.get().second_look);
                        whole_at = whole_at.min(again.max(Instant::now() + FIRST_BACKOFF));
                    }
                    soon.map_or(whole_at, |soon| soon.min(whole_at))
                }
                Err(error) => {
                    // Nothing less than a whole fetch makes it good again.
                    whole_at = Instant::now();
                    let failures = self.decider.failed(error.clone());
                    let mut pause = self.backoff(failures);
                    let refresh = self.refresh();
                    if pause < refresh && !fetcher.may_retry(&error) {
                        pause = refresh;
                    }
                    Instant::now() + jittered(pause)
                }
            };
            let wanted = async {
                tokio::select! {
                    () = sleep_until(wait) => false,
                    () = demand.more.notified() => true,
                }
            };
            let is_wanted = self.decider.meanwhile(wanted).await;
            let ends = match !is_wanted && self.decider.rest(took) {
                true => !self.is_wanted_again().await,
                false => self.end_if_idle(|_| true),
            };
            if ends {
                return;
            }
        }
    }

    /// Until somebody asks. False: nobody did for long, and the watcher has left the table.
    async fn is_wanted_again(&mut self) -> bool {
        let demand = Arc::clone(&self.decider.demand);
        loop {
            let asked = timeout(IS_WANTED.min(self.pace.get().idle), demand.more.notified());
            let is_notified = self.decider.meanwhile(asked).await.is_ok();
            // A pace that changes notifies, too.
            if is_notified && !demand.is_idle() {
                return true;
            }
            if self.end_if_forgotten() {
                return false;
            }
        }
    }

    /// Until the next whole fetch.
    fn pause_before_whole(&self, snapshot: &W::Snapshot) -> Duration {
        let application = snapshot.facts().application;
        match application.is_some_and(|it| it.is_first_look) {
            true => self.pace.get().second_look,
            false => self.refresh(),
        }
    }

    /// Between two whole fetches, as many sources are watched: an answer is still young enough when
    /// one fetch fails.
    fn refresh(&self) -> Duration {
        let Pace {
            refresh, max_stale, ..
        } = self.pace.get();
        let sources = self.table.upgrade().map_or(0, |table| lock(&table).len());
        let round = Duration::from_secs_f64(sources as f64 / FETCHES_A_SECOND);
        refresh.max(round.min(max_stale / 2))
    }

    /// Where a quick fetch is worth it before the next refresh.
    fn pause_before_quick_fetch(&self, snapshot: &W::Snapshot) -> Option<Duration> {
        let application = snapshot.facts().application?;
        let lag = application.lag.as_ref()?;
        if lag.undecided > 0 && lag.cut_short {
            Some(Duration::ZERO)
        } else if lag.under_way {
            Some(FIRST_BACKOFF)
        } else if lag.undecided > 0 {
            Some(UNDECIDED_PAUSE)
        } else if self.decider.demand.has_lag_followers() && application.is_idle() {
            Some(self.pace.get().idle_refresh)
        } else {
            None
        }
    }

    /// The pause after so many failures in a row: doubling, at most a refresh.
    fn backoff(&self, failures: u32) -> Duration {
        let refresh = self.refresh();
        let first = FIRST_BACKOFF.min(refresh / 4);
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(refresh)
    }

    /// Leaves the table, if nobody asked for a day, or for long and many want places, or nothing
    /// was learned: that there were no leases once says nothing of later.
    fn end_if_forgotten(&self) -> bool {
        let Pace { sources, kept, .. } = self.pace.get();
        let demand = &self.decider.demand;
        let is_of_use = self.decider.has_leases() && !demand.is_unasked_for(kept);
        self.end_if_idle(|table| !is_of_use || table.len() > sources / 2)
    }

    /// Leaves the table, if nobody asked for long and `ends` says so. Whoever asks takes the same
    /// lock, so nobody is left without a watcher.
    fn end_if_idle(&self, ends: impl FnOnce(&Table) -> bool) -> bool {
        let Some(table) = self.table.upgrade() else {
            return true;
        };
        let mut table = lock(&table);
        let Decider { source, demand, .. } = &self.decider;
        if !demand.is_idle() || !ends(&table) {
            return false;
        }
        let StreamSource { stream, region, .. } = source.names().0;
        info!(%stream, region, "nobody asks any more: no longer watched");
        let its = W::watchers(&mut table).get(source);
        if its.is_some_and(|watcher| Arc::ptr_eq(&watcher.demand, demand)) {
            table.remove(source);
        }
        true
    }
}

impl<W: Watched> Decider<W> {
    /// From now on fetched on demand? Where no push stream waits, and no worker runs whose progress
    /// would have to be watched. While somebody asks: where all is known, and what a question finds
    /// is either there in time or young enough. `took`: the last whole fetch; the next one may take
    /// twice as long, where iterators have expired.
    fn rest(&self, took: Duration) -> bool {
        let pace = self.pace.get();
        let is_in_time = took * 2 <= pace.first_answer || self.demand.is_asked_each(pace.max_stale);
        let is_idle = self.demand.is_idle();
        let may_rest = |application: &ApplicationSnapshot| {
            let undecided = application.lag.as_ref().map_or(0, |lag| lag.undecided);
            (is_idle || is_in_time && undecided == 0) && !application.has_workers()
        };
        let mut state = lock(&self.state);
        let application = state.last_good.as_ref();
        let application = application.and_then(|snapshot| snapshot.facts().application);
        let rests = state.failure.is_none()
            && !self.demand.has_followers()
            && application.is_some_and(may_rest);
        if rests {
            state.pace = Fetching::OnDemand;
        }
        rests
    }

    /// Had the lease table leases at the last look?
    fn has_leases(&self) -> bool {
        let state = lock(&self.state);
        let last_good = state.last_good.as_ref();
        let application = last_good.and_then(|snapshot| snapshot.facts().application);
        application.is_some_and(|application| !application.is_new())
    }

    /// Whether a decision waits for what the first pods show.
    fn looks_soon(&self) -> bool {
        let state = lock(&self.state);
        state.decisions.all().any(|decision| decision.look_soon)
    }

    fn fetched(&mut self, snapshot: W::Snapshot) {
        let decisions = lock(&self.state).decisions.clone();
        let decisions = self.decide(&snapshot, &decisions, true);
        let (StreamSource { stream, region, .. }, table) = self.source.names();
        let table = table.map(LeaseTable::as_asked);
        let Facts {
            what,
            count,
            application,
            ..
        } = snapshot.facts();
        let mut state = lock(&self.state);
        let failure = state.failure.take();
        let was_asked = std::mem::take(&mut state.pace) == Fetching::Now;
        if let Some(failure) = &failure {
            let failures = failure.in_a_row;
            info!(%stream, region, table, failures, "recovered");
        }
        let was = state.last_good.as_ref().map(|before| before.facts().count);
        match was {
            None => info!(%stream, region, table, count, "first answer: {what}"),
            Some(was) if was != count => {
                info!(%stream, region, table, count, was, "{what} changed");
            }
            Some(_) => {}
        }
        let is_news = application.is_some() || was != Some(count) || failure.is_some() || was_asked;
        state.last_good = Some(snapshot);
        state.decisions = decisions;
        drop(state);
        if is_news {
            self.changes.send_replace(());
        }
    }

    /// Says how often in a row.
    fn failed(&self, error: SourceError) -> u32 {
        let mut state = lock(&self.state);
        state.pace = Fetching::Steadily;
        let before = state.failure.take();
        let is_news = |before: &Failure| before.error.code != error.code;
        if before.as_ref().is_none_or(is_news)
            && let Some(left_out) = self.told.now((self.tenant.clone(), error.kind))
        {
            let StreamSource { stream, region, .. } = self.source.names().0;
            warn!(%stream, region, left_out, "{error}");
        }
        let failure = Failure::after(before, error);
        let failures = failure.in_a_row;
        state.failure = Some(failure);
        drop(state);
        self.changes.send_replace(());
        failures
    }
}

/// ± 10 %, so that watchers started together do not fetch together for ever.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}
