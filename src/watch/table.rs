//! The watched sources. The table is bounded: when it is full, whoever holds more than a fair share
//! gets no more, and whoever holds less takes the place of the largest holder's longest unasked
//! source. See `share`.

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
    share::{NoRoom, Shares},
    state::{Snapshot, State},
};
use crate::{
    error::{Error, shortened},
    source::{
        fetch::{Fetch, Fetchers},
        snapshot::{ApplicationSnapshot, StreamSnapshot},
    },
    trigger::{ApplicationSource, LeaseTable, StreamSource, tenant::Tenant},
};

/// A kind of source: how it is fetched, and where the table has its watchers.
pub trait Watched: Clone + fmt::Debug + Eq + Hash + Send + Sync + 'static {
    /// What is known of it.
    type Snapshot: Snapshot;

    /// The stream, and the lease table of an application.
    fn names(&self) -> (&StreamSource, Option<&LeaseTable>);

    /// A fetcher on behalf of somebody, which asks nothing yet.
    fn fetcher(
        &self,
        fetchers: &dyn Fetchers,
        tenant: &Tenant,
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
        tenant: &Tenant,
    ) -> Box<dyn Fetch<Snapshot = Self::Snapshot>> {
        fetchers.stream(self, tenant)
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
        _: &Tenant,
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
    pub(super) tenant: Tenant,
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
    /// Sources by who asked first.
    shares: Shares,
}

impl Table {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.streams.len() + self.applications.len()
    }

    /// Lets `tenant` have one source more.
    pub(super) fn make_room(&mut self, tenant: &Tenant, most: usize) -> Result<(), Error> {
        if self.len() < most {
            return Ok(());
        }
        match self.shares.yields_to(tenant, most) {
            Ok(largest) => {
                self.remove_longest_unasked(&largest);
                Ok(())
            }
            Err(NoRoom { held, fair }) => Err(Error::Exhausted {
                limit: "watchers",
                why: format!(
                    "this scaler watches {most} sources already (limits.watchers), {held} of them for namespace {:?}, whose fair share is {fair}: delete ScaledObjects that are not needed, raise limits.watchers, or run another scaler",
                    shortened(&tenant.namespace)
                ),
            }),
        }
    }

    fn remove_longest_unasked(&mut self, tenant: &Tenant) {
        let stream = longest_unasked(&self.streams, tenant);
        let application = longest_unasked(&self.applications, tenant);
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
        self.shares.add(&watcher.tenant);
        W::watchers(self).insert(source, watcher);
    }

    pub(super) fn remove<W: Watched>(&mut self, source: &W) {
        let Some(watcher) = W::watchers(self).remove(source) else {
            return;
        };
        self.shares.remove(&watcher.tenant);
    }
}

fn longest_unasked<W: Watched>(
    watchers: &HashMap<W, Watcher<W::Snapshot>>,
    tenant: &Tenant,
) -> Option<(Instant, W)> {
    let its = watchers
        .iter()
        .filter(|(_, watcher)| watcher.tenant == *tenant);
    let last = its.map(|(source, watcher)| (watcher.demand.last(), source));
    last.min_by_key(|(last, _)| *last)
        .map(|(last, source)| (last, source.clone()))
}
