//! The watched sources. The table is bounded: when it is full, whoever holds more than a fair share
//! gets no more, and whoever holds less takes the place of the largest holder's longest unasked
//! source.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex},
};

use tokio::{sync::watch::Receiver, time::Instant};
use tokio_util::task::AbortOnDropHandle;

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

    /// The stream, and the lease table of an application.
    fn names(&self) -> (&StreamSource, Option<&LeaseTable>);

    /// A fetcher for a namespace, which asks nothing yet.
    fn fetcher(
        &self,
        fetchers: &dyn Fetchers,
        namespace: &str,
    ) -> Box<dyn Fetch<Snapshot = Self::Snapshot>>;

    /// The watchers of such sources.
    fn watchers(table: &mut Table) -> &mut HashMap<Self, Watcher<Self::Snapshot>>;
}

impl Watched for StreamSource {
    type Snapshot = StreamSnapshot;

    fn names(&self) -> (&StreamSource, Option<&LeaseTable>) {
        (self, None)
    }

    fn fetcher(
        &self,
        fetchers: &dyn Fetchers,
        namespace: &str,
    ) -> Box<dyn Fetch<Snapshot = Self::Snapshot>> {
        fetchers.stream(self, namespace)
    }

    fn watchers(table: &mut Table) -> &mut HashMap<Self, Watcher<Self::Snapshot>> {
        &mut table.streams
    }
}

impl Watched for ApplicationSource {
    type Snapshot = Arc<ApplicationSnapshot>;

    fn names(&self) -> (&StreamSource, Option<&LeaseTable>) {
        (&self.stream, Some(&self.table))
    }

    fn fetcher(
        &self,
        fetchers: &dyn Fetchers,
        _: &str,
    ) -> Box<dyn Fetch<Snapshot = Self::Snapshot>> {
        fetchers.application(self)
    }

    fn watchers(table: &mut Table) -> &mut HashMap<Self, Watcher<Self::Snapshot>> {
        &mut table.applications
    }
}

/// A watcher as the table knows it. Dropping it ends its task.
#[derive(Debug)]
pub struct Watcher<S> {
    /// Who asked first.
    pub(super) namespace: String,
    pub(super) demand: Arc<Demand>,
    pub(super) state: Arc<Mutex<State<S>>>,
    /// Says when the state changed; closed when the task is gone.
    pub(super) changes: Receiver<()>,
    pub(super) task: AbortOnDropHandle<()>,
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
            "this scaler watches {most} sources already (limits.watchers), {held} of them for namespace {:?}, whose fair share is {fair}: delete ScaledObjects that are not needed, raise limits.watchers, or run another scaler",
            shortened(namespace)
        )))
    }

    fn remove_longest_unasked(&mut self, namespace: &str) {
        let stream = longest_unasked(&self.streams, namespace);
        let application = longest_unasked(&self.applications, namespace);
        let is_stream = match (&stream, &application) {
            (Some((at, _)), Some((other, _))) => at <= other,
            (stream, _) => stream.is_some(),
        };
        match (is_stream, stream, application) {
            (true, Some((_, stream)), _) => self.remove(&stream),
            (_, _, Some((_, application))) => self.remove(&application),
            _ => {}
        }
    }

    pub(super) fn insert<W: Watched>(&mut self, source: W, watcher: Watcher<W::Snapshot>) {
        *self.shares.entry(watcher.namespace.clone()).or_default() += 1;
        W::watchers(self).insert(source, watcher);
    }

    pub(super) fn remove<W: Watched>(&mut self, source: &W) {
        let Some(watcher) = W::watchers(self).remove(source) else {
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
) -> Option<(Instant, W)> {
    let its = watchers
        .iter()
        .filter(|(_, watcher)| watcher.namespace == namespace);
    let last = its.map(|(source, watcher)| (watcher.demand.last(), source));
    last.min_by_key(|(last, _)| *last)
        .map(|(last, source)| (last, source.clone()))
}
