//! One watcher per source: a task that asks AWS at its own pace, decides, and publishes both; RPCs
//! only read.
//!
//! ```text
//! first request ─▶ fetching ─▶ answered ─┬─ refresh ± 10 % ─▶ fetching …
//!                     │                  └─ nobody asked for long ─▶ ended
//!                     └─▶ failed ── backoff, at most refresh ─▶ fetching …
//! ```

mod decider;
mod demand;
mod question;
mod state;
mod table;
mod task;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use right_sizing::Settings;
use tokio::{
    sync::watch::{self, Receiver},
    time::{Instant, timeout_at},
};

use self::{decider::Decider, demand::Demand, question::Question, table::Task};
pub use self::{
    question::Subscription,
    state::{Snapshot, State},
    table::{Table, Watched, Watcher},
};
use crate::{
    config::AwsConfig,
    decision::{
        answer::Answer,
        memories::{Memories, settings},
        record::Recorder,
    },
    error::Error,
    metrics::WatcherCounts,
    source::{fetch::Fetchers, snapshot::ApplicationSnapshot},
    trigger::{ApplicationSource, ScaleOn, Trigger},
};

/// How often, how long, how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two fetches of one source.
    pub refresh: Duration,
    /// Between two fetches for a first record where all is read, while a push stream waits for it.
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
    fetchers: Box<dyn Fetchers>,
    recorder: Option<Arc<Recorder>>,
    table: Arc<Mutex<Table>>,
}

/// The channel of a source's watcher, and where questions about the source are counted.
type Channel<S> = (Receiver<State<S>>, Arc<Demand>);

impl Watchers {
    /// None yet. `recorder`: where what lag is decided from is recorded, if anywhere.
    pub fn new(
        pace: Pace,
        fetchers: impl Fetchers + 'static,
        recorder: Option<Arc<Recorder>>,
    ) -> Self {
        Self {
            pace,
            fetchers: Box::new(fetchers),
            recorder,
            table: Arc::default(),
        }
    }

    /// The answer for a trigger; waits for a first fetch of its source, but not long.
    ///
    /// # Errors
    /// [`Error::NotYet`] while there is no answer, [`Error::Source`] when AWS fails for too long,
    /// [`Error::NoLeases`], [`Error::Exhausted`].
    pub async fn answer(&self, namespace: &str, trigger: &Trigger) -> Result<Answer, Error> {
        let (mut question, _) = self.ask(namespace, trigger)?;
        let give_up = Instant::now() + self.pace.first_answer;
        loop {
            match question.answer(&self.pace) {
                Some(answer) => return answer,
                None if matches!(timeout_at(give_up, question.changed()).await, Ok(Ok(()))) => {}
                None => return Err(question.not_yet()),
            }
        }
    }

    /// Follows a trigger's source; counts as asking until dropped.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub fn subscribe(&self, namespace: &str, trigger: &Trigger) -> Result<Subscription, Error> {
        let (question, demand) = self.ask(namespace, trigger)?;
        Ok(Subscription::new(
            question,
            demand,
            settings(trigger),
            self.pace,
        ))
    }

    /// What is known of a source now, without asking for it; `None`: it is not watched.
    pub fn known<W: Watched>(&self, source: &W) -> Option<State<W::Snapshot>> {
        let table = lock(&self.table);
        let watcher = W::watchers(&table).get(source)?;
        let state = watcher.state.borrow().clone();
        Some(state)
    }

    /// What is known of every application now.
    pub fn applications(&self) -> Vec<(ApplicationSource, Arc<ApplicationSnapshot>)> {
        let table = lock(&self.table);
        let known = table.applications.iter().filter_map(|(source, watcher)| {
            let state = watcher.state.borrow();
            Some((source.clone(), Arc::clone(state.standing(&self.pace)?)))
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
        let table = lock(&self.table);
        for watcher in table.streams.values() {
            watcher.state.borrow().count(&self.pace, &mut counts);
        }
        for watcher in table.applications.values() {
            watcher.state.borrow().count(&self.pace, &mut counts);
        }
        counts
    }

    /// A trigger's question to the watcher of its source.
    fn ask(&self, namespace: &str, trigger: &Trigger) -> Result<(Question, Arc<Demand>), Error> {
        let Trigger {
            stream,
            scale_on,
            shard_count,
        } = trigger;
        match scale_on {
            ScaleOn::OpenShards { activation } => {
                let (state, demand) = self.channel(namespace, stream, None)?;
                let question = Question::OpenShards {
                    stream: stream.clone(),
                    activation: *activation,
                    state,
                };
                Ok((question, demand))
            }
            ScaleOn::Application(work) => {
                let application = work.application(stream);
                let (state, demand) = self.channel(namespace, &application, settings(trigger))?;
                let question = Question::Application {
                    application,
                    work: work.clone(),
                    shard_count: *shard_count,
                    state,
                };
                Ok((question, demand))
            }
        }
    }

    /// The watcher of a source, started if there is none, noted as asked now.
    fn channel<W: Watched>(
        &self,
        namespace: &str,
        source: &W,
        settings: Option<Settings>,
    ) -> Result<Channel<W::Snapshot>, Error> {
        let mut table = lock(&self.table);
        if let Some(watcher) = W::watchers_mut(&mut table).get_mut(source) {
            if watcher.task.0.is_finished() {
                // It panicked: an ended one is not in the table. What it learned still holds.
                let state = watcher.state.borrow().clone();
                (watcher.state, watcher.task) = self.start(source, &watcher.demand, Some(state));
            }
            watcher.demand.ask(settings);
            return Ok((watcher.state.clone(), Arc::clone(&watcher.demand)));
        }
        table.make_room(namespace, self.pace.sources)?;
        let demand = Arc::new(Demand::new(settings));
        let (state, task) = self.start(source, &demand, None);
        let watcher = Watcher {
            state: state.clone(),
            task,
            namespace: namespace.to_owned(),
            demand: Arc::clone(&demand),
        };
        table.insert(source.clone(), watcher);
        Ok((state, demand))
    }

    /// `again`: what a watcher that panicked knew.
    fn start<W: Watched>(
        &self,
        source: &W,
        demand: &Arc<Demand>,
        again: Option<State<W::Snapshot>>,
    ) -> (Receiver<State<W::Snapshot>>, Task) {
        let panicked = again.is_some();
        let (sender, receiver) = watch::channel(again.unwrap_or_default());
        let watch = task::Watch {
            decider: Decider {
                source: source.clone(),
                demand: Arc::clone(demand),
                memories: Memories::default(),
                recorder: self.recorder.clone(),
                state: sender,
            },
            pace: self.pace,
            table: Arc::downgrade(&self.table),
        };
        let fetcher = source.fetcher(&*self.fetchers);
        (receiver, Task(tokio::spawn(watch.run(fetcher, panicked))))
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
