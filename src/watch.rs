//! One watcher per source: a task that asks AWS at its own pace, decides, and publishes both; RPCs
//! only read.
//!
//! ```text
//! first request ─▶ fetching ─▶ answered ─┬─ refresh ± 10 % ─▶ fetching …
//!                     │                  └─ nobody asked for long ─▶ ended
//!                     └─▶ failed ── backoff, at most refresh ─▶ fetching …
//! ```
//!
//! An application that no worker runs for is fetched when somebody asks, instead of every refresh,
//! unless that takes longer than a question waits. It is remembered for a day.

mod decider;
mod demand;
mod share;
mod state;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use right_sizing::Settings;
use tokio::{
    sync::watch::{self, Receiver, error::RecvError},
    task::JoinError,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use self::{
    decider::{Decider, Failed},
    demand::Demand,
    verdict::not_yet,
};
pub use self::{
    share::{NoRoom, Shares},
    state::{Facts, Snapshot, State},
    table::{Table, Watched, Watcher},
};
use crate::{
    config::{AwsConfig, Limits},
    decision::{
        answer::{Answer, Question, answer_application, answer_open_shards},
        memories::{Decisions, Memories, settings},
        record::Recorder,
    },
    error::{Error, SourceError, SourceErrorKind},
    metrics::WatcherCounts,
    source::{failure::Failure, fetch::Fetchers, snapshot::ApplicationSnapshot},
    telemetry::SeldomBy,
    trigger::{ApplicationSource, ScaleOn, StreamSource, Trigger, tenant::Tenant},
};

/// How often, how long, how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two fetches of one source.
    pub refresh: Duration,
    /// Between the first two looks at a lease table with owners, which show who of them lives.
    pub second_look: Duration,
    /// Between two fetches for a first record where all is read, while a push stream waits for it.
    pub idle_refresh: Duration,
    /// How long the last good answer may stand in for a failed refresh.
    pub max_stale: Duration,
    /// How long an RPC waits for a source's first answer, and as long again as the second look
    /// takes where the first shows owners. KEDA's loop sets no deadline of its own.
    pub first_answer: Duration,
    /// A source that nobody asked about for this long is no longer watched.
    pub idle: Duration,
    /// The same where nothing is fetched but on demand, and something was learned that a next
    /// question needs: else a question that comes after an idle time would be a first one again.
    pub kept: Duration,
    /// Sources watched at a time.
    pub sources: usize,
}

impl From<&AwsConfig> for Pace {
    fn from(config: &AwsConfig) -> Self {
        Self {
            refresh: config.refresh,
            // KCL renews every 3.3 s.
            second_look: Duration::from_secs(5).min(config.refresh),
            idle_refresh: Duration::from_secs(5).min(config.refresh),
            max_stale: config.max_stale,
            first_answer: Duration::from_secs(2),
            idle: Duration::from_secs(600),
            kept: Duration::from_secs(24 * 3600),
            sources: Limits::default().watchers,
        }
    }
}

/// The pace in force, which a reload of the configuration changes.
#[derive(Clone, Debug)]
struct LivePace(Arc<Mutex<Pace>>);

impl LivePace {
    fn get(&self) -> Pace {
        *lock(&self.0)
    }
}

/// All watchers. Dropping it ends them.
pub struct Watchers {
    pace: LivePace,
    fetchers: Box<dyn Fetchers>,
    recorder: Option<Arc<Recorder>>,
    table: Arc<Mutex<Table>>,
    told: Arc<SeldomBy<Failed>>,
}

/// Follows a trigger's source, which keeps its watcher alive.
#[derive(Debug)]
pub struct Subscription {
    changes: Receiver<()>,
    demand: Arc<Demand>,
    settings: Option<Settings>,
}

impl Watchers {
    /// None yet. `recorder`: where what lag is decided from is recorded, if anywhere.
    pub fn new(
        pace: Pace,
        fetchers: impl Fetchers + 'static,
        recorder: Option<Arc<Recorder>>,
    ) -> Self {
        Self {
            pace: LivePace(Arc::new(Mutex::new(pace))),
            fetchers: Box::new(fetchers),
            recorder,
            table: Arc::default(),
            told: Arc::default(),
        }
    }

    /// The answer for a trigger; waits for a first fetch of its source, but not long.
    ///
    /// # Errors
    /// [`Error::NotYet`] while there is no answer, [`Error::Source`] when AWS fails for too long,
    /// [`Error::NoLeases`], [`Error::Exhausted`].
    pub async fn answer(
        &self,
        tenant: impl Into<Tenant> + Send,
        trigger: &Trigger,
    ) -> Result<Answer, Error> {
        let (mut changes, _) = self.ask(&tenant.into(), trigger)?;
        let begun = Instant::now();
        loop {
            changes.mark_unchanged();
            if let Some(answer) = self.known_answer(trigger, true) {
                return answer;
            }
            let give_up = begun + self.patience(trigger);
            if !matches!(timeout_at(give_up, changes.changed()).await, Ok(Ok(()))) {
                let last = self.known_answer(trigger, false);
                return last.unwrap_or_else(|| Err(not_yet(&trigger.stream)));
            }
        }
    }

    /// How long a question waits.
    fn patience(&self, trigger: &Trigger) -> Duration {
        let pace = self.pace();
        let second_look = match &trigger.scale_on {
            ScaleOn::Application(work) => {
                let state = self.known(&work.application(&trigger.stream));
                let is_first = |it: &Arc<ApplicationSnapshot>| it.is_first_look;
                state.is_some_and(|state| state.last_good.as_ref().is_some_and(is_first))
            }
            ScaleOn::OpenShards { .. } => false,
        };
        match second_look {
            true => pace.first_answer + pace.second_look,
            false => pace.first_answer,
        }
    }

    /// The answer for a trigger from what is known now, without asking for it; `None`: nothing is
    /// known.
    pub fn current(&self, trigger: &Trigger) -> Option<Result<Answer, Error>> {
        self.known_answer(trigger, false)
    }

    /// The same; `newest`: not while something newer is being fetched because somebody asked.
    fn known_answer(&self, trigger: &Trigger, newest: bool) -> Option<Result<Answer, Error>> {
        let pace = self.pace();
        let stream = &trigger.stream;
        let work = match &trigger.scale_on {
            ScaleOn::OpenShards { activation } => {
                let state = self.known(stream)?;
                let snapshot = state.verdict(stream, &pace, newest)?;
                return Some(snapshot.map(|seen| answer_open_shards(seen, *activation)));
            }
            ScaleOn::Application(work) => work,
        };
        let application = work.application(stream);
        let state = self.known(&application)?;
        let snapshot = match state.verdict(&application, &pace, newest)? {
            Ok(snapshot) => snapshot,
            Err(error) => return Some(Err(error)),
        };
        let is_soon_known =
            snapshot.lag.is_none() || newest && snapshot.is_first_look && state.failure.is_none();
        if is_soon_known && settings(trigger).is_some() {
            // It is being fetched.
            return None;
        }
        let question = Question {
            stream,
            work,
            shard_count: trigger.shard_count,
            max_stale: pace.max_stale,
        };
        Some(answer_application(&question, snapshot, &state.decisions))
    }

    /// Follows a trigger's source; counts as asking until dropped.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub fn subscribe(
        &self,
        tenant: impl Into<Tenant>,
        trigger: &Trigger,
    ) -> Result<Subscription, Error> {
        let (changes, demand) = self.ask(&tenant.into(), trigger)?;
        let settings = demand.follow(settings(trigger));
        Ok(Subscription {
            changes,
            demand,
            settings,
        })
    }

    /// What is known of a source now, without asking for it; `None`: it is not watched.
    pub fn known<W: Watched>(&self, source: &W) -> Option<State<W::Snapshot>> {
        let mut table = lock(&self.table);
        let watcher = W::watchers(&mut table).get(source)?;
        let state = lock(&watcher.state).clone();
        Some(state)
    }

    /// What is known of every application that is asked about, and decided, always in one order.
    pub fn applications(&self) -> Vec<(ApplicationSource, Arc<ApplicationSnapshot>, Decisions)> {
        let pace = self.pace();
        let table = lock(&self.table);
        let asked = table.applications.iter();
        let asked = asked.filter(|(_, watcher)| !watcher.demand.is_idle());
        let known = asked.filter_map(|(source, watcher)| {
            let state = lock(&watcher.state);
            let snapshot = Arc::clone(state.shown(&pace)?);
            Some((source.clone(), snapshot, state.decisions.clone()))
        });
        let mut known: Vec<_> = known.collect();
        // Of those that no label tells apart a scrape shows the first: always the same.
        known.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        known
    }

    /// How often, how long, how many.
    pub fn pace(&self) -> Pace {
        self.pace.get()
    }

    /// Changes the pace. Watchers that wait longer than the new one has it fetch now.
    pub fn set_pace(&self, pace: Pace) {
        let before = std::mem::replace(&mut *lock(&self.pace.0), pace);
        if pace.refresh >= before.refresh {
            return;
        }
        let table = lock(&self.table);
        let streams = table.streams.values().map(|watcher| &watcher.demand);
        let applications = table.applications.values().map(|watcher| &watcher.demand);
        for demand in streams.chain(applications) {
            demand.more.notify_one();
        }
    }

    /// How the watchers could answer now.
    pub fn counts(&self) -> WatcherCounts {
        let mut counts = WatcherCounts::default();
        let pace = self.pace();
        let table = lock(&self.table);
        for watcher in table.streams.values() {
            lock(&watcher.state).count(&pace, &mut counts);
        }
        for watcher in table.applications.values() {
            lock(&watcher.state).count(&pace, &mut counts);
        }
        counts
    }

    /// Asks about a trigger's source: where its watcher says that something changed.
    fn ask(
        &self,
        tenant: &Tenant,
        trigger: &Trigger,
    ) -> Result<(Receiver<()>, Arc<Demand>), Error> {
        match &trigger.scale_on {
            ScaleOn::OpenShards { .. } => self.ask_about(tenant, &trigger.stream, None),
            ScaleOn::Application(work) => {
                let application = work.application(&trigger.stream);
                self.ask_about(tenant, &application, settings(trigger))
            }
        }
    }

    /// The same; starts a watcher if there is none.
    fn ask_about<W: Watched>(
        &self,
        tenant: &Tenant,
        source: &W,
        settings: Option<Settings>,
    ) -> Result<(Receiver<()>, Arc<Demand>), Error> {
        let pace = self.pace();
        let mut table = lock(&self.table);
        let known = W::watchers(&mut table).get_mut(source);
        if let Some(watcher) = known {
            watcher.demand.ask(settings);
            if lock(&watcher.state).ask(&pace) {
                watcher.demand.more.notify_one();
            }
            // It panicked: who comes to the end is not in the table. What it learned holds.
            if let Some(ended) = (&mut watcher.task).now_or_never() {
                let state = Arc::clone(&watcher.state);
                Self::panicked(source, &state, ended);
                *watcher = self.start(&watcher.tenant, source, &watcher.demand, state, true);
            }
            return Ok((watcher.changes.clone(), Arc::clone(&watcher.demand)));
        }
        let (stream, lease_table) = source.names();
        let _admitted = self.fetchers.admit(stream, lease_table, tenant)?;
        table.make_room(tenant, pace.sources)?;
        let demand = Arc::new(Demand::new(pace.idle));
        demand.ask(settings);
        let watcher = self.start(tenant, source, &demand, Arc::default(), false);
        let changes = watcher.changes.clone();
        table.insert(source.clone(), watcher);
        Ok((changes, demand))
    }

    /// Says why there is no answer, as it says that AWS gave none.
    fn panicked<W: Watched>(
        source: &W,
        state: &Mutex<State<W::Snapshot>>,
        ended: Result<(), JoinError>,
    ) {
        let StreamSource { stream, region, .. } = source.names().0;
        let error = SourceError {
            kind: SourceErrorKind::Unavailable,
            operation: "Watching",
            resource: format!("stream {stream}"),
            region: region.clone(),
            code: "Panicked".to_owned(),
            message: ended
                .err()
                .map_or_else(String::new, |error| error.to_string()),
            hint: "That is a fault of the scaler's own: please report this line. It looks again"
                .to_owned(),
            statement: None,
        };
        warn!(%stream, region, "{error}");
        let mut state = lock(state);
        state.failure = Some(Failure::after(state.failure.take(), error));
    }

    /// `pause`: not at once.
    fn start<W: Watched>(
        &self,
        tenant: &Tenant,
        source: &W,
        demand: &Arc<Demand>,
        state: Arc<Mutex<State<W::Snapshot>>>,
        pause: bool,
    ) -> Watcher<W::Snapshot> {
        let (sender, changes) = watch::channel(());
        let watch = task::Watch {
            decider: Decider {
                source: source.clone(),
                tenant: tenant.clone(),
                told: Arc::clone(&self.told),
                demand: Arc::clone(demand),
                memories: Memories::default(),
                recorder: self.recorder.clone(),
                pace: self.pace.clone(),
                state: Arc::clone(&state),
                changes: sender,
            },
            pace: self.pace.clone(),
            table: Arc::downgrade(&self.table),
        };
        let fetcher = source.fetcher(&*self.fetchers, tenant);
        Watcher {
            tenant: tenant.clone(),
            demand: Arc::clone(demand),
            state,
            changes,
            task: AbortOnDropHandle::new(tokio::spawn(watch.run(fetcher, pause))),
        }
    }
}

impl Subscription {
    /// Waits until something changed.
    ///
    /// # Errors
    /// The watcher is gone: subscribe again.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.changes.changed().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.demand.unfollow(self.settings);
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("pace", &self.pace())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
