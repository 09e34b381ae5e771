//! The watched sources. The table is bounded: when it is full, whoever holds more than a fair share
//! gets no more, and whoever holds less takes the place of the largest holder's longest unasked
//! source.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    demand::Demand,
    state::{Snapshot, State},
};
use crate::{
    error::{Error, shortened},
    source::{
        fetch::{Fetch, Fetchers},
        snapshot::{ApplicationSnapshot, StreamSnapshot},
    },
    trigger::{ApplicationSource, LeaseTable, StreamSource},
};

/// A kind of source: how it is fetched, and where the table has its watchers.
pub trait Watched: Clone + fmt::Debug + Eq + Hash + Send + Sync + 'static {
    /// What is known of it.
    type Snapshot: Snapshot;

    /// The stream.
    fn stream(&self) -> &StreamSource;

    /// The lease table, of an application.
    fn table(&self) -> Option<&LeaseTable>;

    /// A fetcher, which asks nothing yet.
    fn fetcher(&self, fetchers: &dyn Fetchers) -> Box<dyn Fetch<Snapshot = Self::Snapshot>>;

    /// The watchers of such sources.
    fn watchers(table: &Table) -> &HashMap<Self, Watcher<Self::Snapshot>>;

    /// The same, to change them.
    fn watchers_mut(table: &mut Table) -> &mut HashMap<Self, Watcher<Self::Snapshot>>;
}

impl Watched for StreamSource {
    type Snapshot = StreamSnapshot;

    fn stream(&self) -> &StreamSource {
        self
    }

    fn table(&self) -> Option<&LeaseTable> {
        None
    }

    fn fetcher(&self, fetchers: &dyn Fetchers) -> Box<dyn Fetch<Snapshot = Self::Snapshot>> {
        fetchers.stream(self)
    }

    fn watchers(table: &Table) -> &HashMap<Self, Watcher<Self::Snapshot>> {
        &table.streams
    }

    fn watchers_mut(table: &mut Table) -> &mut HashMap<Self, Watcher<Self::Snapshot>> {
        &mut table.streams
    }
}

impl Watched for ApplicationSource {
    type Snapshot = Arc<ApplicationSnapshot>;

    fn stream(&self) -> &StreamSource {
        &self.stream
    }

    fn table(&self) -> Option<&LeaseTable> {
        Some(&self.table)
    }

    fn fetcher(&self, fetchers: &dyn Fetchers) -> Box<dyn Fetch<Snapshot = Self::Snapshot>> {
        fetchers.application(self)
    }

    fn watchers(table: &Table) -> &HashMap<Self, Watcher<Self::Snapshot>> {
        &table.applications
    }

    fn watchers_mut(table: &mut Table) -> &mut HashMap<Self, Watcher<Self::Snapshot>> {
        &mut table.applications
    }
}

/// A watcher as the table knows it. Dropping it ends its task.
#[derive(Debug)]
pub struct Watcher<S> {
    pub(super) state: watch::Receiver<State<S>>,
    pub(super) task: Task,
    /// Who asked first.
    pub(super) namespace: String,
    pub(super) demand: Arc<Demand>,
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The watched sources.
#[derive(Debug, Default)]
pub struct Table {
    pub(super) streams: HashMap<StreamSource, Watcher<StreamSnapshot>>,
    pub(super) applications: HashMap<ApplicationSource, Watcher<Arc<ApplicationSnapshot>>>,
    /// Sources by the namespace that asked first.
    shares: HashMap<String, usize>,
}

impl Table {
    /// Lets `namespace` have one source more.
    pub(super) fn make_room(&mut self, namespace: &str, most: usize) -> Result<(), Error> {
        if self.streams.len() + self.applications.len() < most {
            return Ok(());
        }
        let held = self.shares.get(namespace).copied().unwrap_or(0);
        let namespaces = self.shares.len() + usize::from(held == 0);
        let fair = most / namespaces.max(1);
        let largest = self.shares.iter().max_by_key(|(_, count)| **count);
        if let Some((largest, _)) = largest.filter(|_| held < fair) {
            let largest = largest.clone();
            self.remove_longest_unasked(&largest);
            return Ok(());
        }
        Err(Error::Exhausted(format!(
            "this scaler watches {most} sources already, {held} of them for namespace {:?}, whose fair share is {fair}: delete ScaledObjects that are not needed, or run another scaler",
            shortened(namespace)
        )))
    }

    fn remove_longest_unasked(&mut self, namespace: &str) {
        let stream = longest_unasked(&self.streams, namespace);
        let application = longest_unasked(&self.applications, namespace);
        match (stream, application) {
            (Some((at, stream)), other) if other.as_ref().is_none_or(|(its, _)| at <= *its) => {
                self.remove(&stream);
            }
            (_, Some((_, application))) => self.remove(&application),
            (_, None) => {}
        }
    }

    pub(super) fn insert<W: Watched>(&mut self, source: W, watcher: Watcher<W::Snapshot>) {
        *self.shares.entry(watcher.namespace.clone()).or_default() += 1;
        W::watchers_mut(self).insert(source, watcher);
    }

    pub(super) fn remove<W: Watched>(&mut self, source: &W) {
        let Some(watcher) = W::watchers_mut(self).remove(source) else {
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

fn longest_unasked<W: Watched>(
    watchers: &HashMap<W, Watcher<W::Snapshot>>,
    namespace: &str,
) -> Option<(tokio::time::Instant, W)> {
    let its = watchers
        .iter()
        .filter(|(_, watcher)| watcher.namespace == namespace);
    let last = its.map(|(source, watcher)| (watcher.demand.last(), source));
    last.min_by_key(|(last, _)| *last)
        .map(|(last, source)| (last, source.clone()))
}
