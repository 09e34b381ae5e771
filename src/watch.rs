//! One watcher per source: a task that asks AWS at its own pace and publishes what it learns; RPCs only read.
//!
//! ```text
//! first request ─▶ asking ─▶ answered ─┬─ refresh ± 10 % ─▶ asking …
//!                     │                └─ nobody asked for long ─▶ ended
//!                     └─▶ failed ── backoff, at most refresh ─▶ asking …
//! ```
//! The table is bounded. When it is full, who holds more than a fair share gets no more, and who holds less takes the place
//! of the largest holder's longest unasked source.

mod demand;
mod state;
mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use self::demand::Demand;
pub use self::state::State;
use crate::{
    config::AwsConfig,
    error::{Error, shortened},
    metrics::WatcherCounts,
    source::{
        fetch::Fetch,
        snapshot::{Application, Snapshot},
    },
    trigger::{ScaleOn, Source, Trigger},
};

/// Makes the fetcher on a source, without asking anything yet.
pub type Open = dyn Fn(&Source) -> Box<dyn Fetch> + Send + Sync;

/// How often, how long, how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two questions to AWS about one source.
    pub refresh: Duration,
    /// Between two looks for a first record where all is read, while a push stream waits for it.
    pub idle_refresh: Duration,
    /// How long the last good answer may stand in for a failed refresh.
    pub max_stale: Duration,
    /// How long an RPC waits for a source's first answer. KEDA sets no deadline of its own.
    pub first_answer: Duration,
    /// A source that nobody asked about for this long is no longer watched.
    pub idle: Duration,
    /// Sources watched at a time.
    pub sources: usize,
}

impl From<&AwsConfig> for Pace {
    fn from(config: &AwsConfig) -> Self {
        Self {
            refresh: config.refresh,
            idle_refresh: Duration::from_secs(5).min(config.refresh),
            max_stale: config.max_stale,
            first_answer: Duration::from_secs(2),
            idle: Duration::from_secs(600),
            sources: 5_000,
        }
    }
}

/// All watchers. Dropping it ends them.
pub struct Watchers {
    pace: Pace,
    open: Box<Open>,
    table: Arc<Mutex<Table>>,
}

/// The watched sources.
#[derive(Default)]
struct Table {
    watchers: HashMap<Source, Watcher>,
    /// Sources by the namespace that asked first.
    shares: HashMap<String, usize>,
}

/// A watcher as the table knows it. Dropping it ends its task.
struct Watcher {
    namespace: String,
    state: watch::Receiver<State>,
    demand: Arc<Demand>,
    task: JoinHandle<()>,
}

/// A look at one source that keeps its watcher alive.
#[derive(Debug)]
pub struct Subscription {
    state: watch::Receiver<State>,
    demand: Arc<Demand>,
    lag: bool,
    pace: Pace,
}

impl Watchers {
    /// None yet.
    pub fn new(
        pace: Pace,
        open: impl Fn(&Source) -> Box<dyn Fetch> + Send + Sync + 'static,
    ) -> Self {
        Self {
            pace,
            open: Box::new(open),
            table: Arc::default(),
        }
    }

    /// What a trigger's source looked like last; waits for a first look, but not long.
    ///
    /// # Errors
    /// [`Error::NotYet`] while there is no answer, [`Error::Source`] when AWS fails for too long, [`Error::Exhausted`].
    pub async fn snapshot(&self, namespace: &str, trigger: &Trigger) -> Result<Snapshot, Error> {
        let Trigger { source, .. } = trigger;
        let lag = wants_lag(trigger);
        let (mut state, _) = self.ask(namespace, source, lag)?;
        let give_up = Instant::now() + self.pace.first_answer;
        loop {
            let verdict = state.borrow_and_update().verdict(source, lag, &self.pace);
            match verdict {
                Some(verdict) => return verdict,
                None if matches!(timeout_at(give_up, state.changed()).await, Ok(Ok(()))) => {}
                None => return Err(state::not_yet(source)),
            }
        }
    }

    /// Follows a trigger's source; counts as asking until dropped.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub fn subscribe(&self, namespace: &str, trigger: &Trigger) -> Result<Subscription, Error> {
        let lag = wants_lag(trigger);
        let (state, demand) = self.ask(namespace, &trigger.source, lag)?;
        demand.follow(lag);
        Ok(Subscription {
            state,
            demand,
            lag,
            pace: self.pace,
        })
    }

    /// What is known of a source now, without asking for it; `None`: it is not watched, or not known yet.
    pub fn known(&self, source: &Source) -> Option<State> {
        let table = lock(&self.table);
        table
            .watchers
            .get(source)
            .map(|watcher| watcher.state.borrow().clone())
    }

    /// What is known of every application now.
    pub fn applications(&self) -> Vec<(Source, Arc<Application>)> {
        let table = lock(&self.table);
        let known = table.watchers.iter().filter_map(|(source, watcher)| {
            match watcher.state.borrow().standing(&self.pace) {
                Some(Snapshot::Application(application)) => Some((source.clone(), application)),
                _ => None,
            }
        });
        known.collect()
    }

    /// How often, how long, how many.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// How the watchers could answer now.
    pub fn counts(&self) -> WatcherCounts {
        let mut counts = WatcherCounts::default();
        for watcher in lock(&self.table).watchers.values() {
            watcher.state.borrow().count(&self.pace, &mut counts);
        }
        counts
    }

    /// The watcher of a source, started if there is none, noted as asked now.
    fn ask(
        &self,
        namespace: &str,
        source: &Source,
        lag: bool,
    ) -> Result<(watch::Receiver<State>, Arc<Demand>), Error> {
        let mut table = lock(&self.table);
        if let Some(watcher) = table.watchers.get_mut(source) {
            if watcher.task.is_finished() {
                // It panicked: an ended one is not in the table. What it learned still holds.
                let state = watcher.state.borrow().clone();
                let (state, task) = self.start(source, &watcher.demand, Some(state));
                (watcher.state, watcher.task) = (state, task);
            }
            watcher.demand.now(lag);
            return Ok((watcher.state.clone(), Arc::clone(&watcher.demand)));
        }
        table.make_room(namespace, self.pace.sources)?;
        let demand = Arc::new(Demand::new(lag));
        let (state, task) = self.start(source, &demand, None);
        let watcher = Watcher {
            namespace: namespace.to_owned(),
            state: state.clone(),
            demand: Arc::clone(&demand),
            task,
        };
        table.insert(source.clone(), watcher);
        Ok((state, demand))
    }

    fn start(
        &self,
        source: &Source,
        demand: &Arc<Demand>,
        again: Option<State>,
    ) -> (watch::Receiver<State>, JoinHandle<()>) {
        let panicked = again.is_some();
        let (sender, receiver) = watch::channel(again.unwrap_or_default());
        let watch = task::Watch {
            source: source.clone(),
            fetch: (self.open)(source),
            pace: self.pace,
            demand: Arc::clone(demand),
            table: Arc::downgrade(&self.table),
            state: sender,
        };
        (receiver, tokio::spawn(watch.run(panicked)))
    }
}

impl Subscription {
    /// What the source looked like last, where that is good enough to answer an RPC with.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        self.state.borrow_and_update().standing(&self.pace)
    }

    /// Waits until something changed.
    ///
    /// # Errors
    /// The watcher is gone: subscribe again.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.state.changed().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.demand.unfollow(self.lag);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Table {
    /// Lets `namespace` have one source more.
    fn make_room(&mut self, namespace: &str, most: usize) -> Result<(), Error> {
        if self.watchers.len() < most {
            return Ok(());
        }
        let held = self.shares.get(namespace).copied().unwrap_or(0);
        let namespaces = self.shares.len() + usize::from(held == 0);
        let fair = most / namespaces.max(1);
        let largest = self.shares.iter().max_by_key(|(_, count)| **count);
        let longest_unasked = largest.filter(|_| held < fair).and_then(|(largest, _)| {
            let its = self
                .watchers
                .iter()
                .filter(|(_, watcher)| watcher.namespace == *largest);
            its.min_by_key(|(_, watcher)| watcher.demand.last())
                .map(|(source, _)| source.clone())
        });
        match longest_unasked {
            Some(source) => {
                self.remove(&source);
                Ok(())
            }
            None => Err(Error::Exhausted(format!(
                "this scaler watches {most} sources already, {held} of them for namespace {:?}, whose fair share is {fair}: delete ScaledObjects that are not needed, or run another scaler",
                shortened(namespace)
            ))),
        }
    }

    fn insert(&mut self, source: Source, watcher: Watcher) {
        *self.shares.entry(watcher.namespace.clone()).or_default() += 1;
        self.watchers.insert(source, watcher);
    }

    fn remove(&mut self, source: &Source) {
        let Some(watcher) = self.watchers.remove(source) else {
            return;
        };
        if let Some(share) = self.shares.get_mut(&watcher.namespace) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&watcher.namespace);
            }
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

fn wants_lag(trigger: &Trigger) -> bool {
    matches!(trigger.scale_on, ScaleOn::Lag { .. })
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
