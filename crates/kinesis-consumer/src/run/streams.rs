//! The streams that the application reads: one, or several that come and go.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    face::error::Error,
    model::keys::{LeaseKey, StreamIdentifier},
    run::stream::Stream,
};

#[derive(Debug)]
pub(crate) struct Streams {
    /// By what their leases' keys begin with; `None`: the only one.
    read: RwLock<BTreeMap<Option<StreamIdentifier>, Arc<Stream>>>,
    are_several: bool,
    /// They changed: wakes the auditor.
    pub(crate) changed: Notify,
    /// Asks for a look which there are.
    pub(crate) look: Notify,
}

/// What changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) came: Vec<StreamIdentifier>,
    pub(crate) went: Vec<StreamIdentifier>,
}

impl Streams {
    /// One stream, which the leases' keys do not name.
    pub(crate) fn one(stream: Stream) -> Self {
        Self::new(BTreeMap::from([(None, Arc::new(stream))]), false)
    }

    /// Several, of which none is known yet.
    pub(crate) fn several() -> Self {
        Self::new(BTreeMap::new(), true)
    }

    fn new(read: BTreeMap<Option<StreamIdentifier>, Arc<Stream>>, are_several: bool) -> Self {
        Self {
            read: RwLock::new(read),
            are_several,
            changed: Notify::new(),
            look: Notify::new(),
        }
    }

    /// Does the application read several, however many there are now?
    pub(crate) fn are_several(&self) -> bool {
        self.are_several
    }

    /// The stream of the lease of that key. `None`: it is not read here.
    pub(crate) fn of(&self, key: &LeaseKey) -> Option<Arc<Stream>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.get(&key.stream).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Stream>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.values().map(Arc::clone).collect()
    }

    /// From now on exactly these are read. `make`: one that was not.
    pub(crate) fn set(
        &self,
        wanted: &[StreamIdentifier],
        make: impl Fn(&StreamIdentifier) -> Stream,
    ) -> Changes {
        let mut changes = Changes::default();
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        read.retain(|id, stream| {
            let went = id.iter().find(|id| !wanted.contains(id));
            if let Some(id) = went {
                changes.went.push(id.clone());
                stream.go();
            }
            went.is_none()
        });
        for id in wanted {
            read.entry(Some(id.clone())).or_insert_with(|| {
                changes.came.push(id.clone());
                Arc::new(make(id))
            });
        }
        changes
    }

    /// May leases of that key be taken?
    pub(crate) fn may_take(&self, key: &LeaseKey) -> bool {
        self.of(key).is_some_and(|stream| !stream.health.rests())
    }

    /// The time there, or this machine's. `None`: nobody has said it.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        let streams = self.all();
        let said = streams.iter().find_map(|stream| stream.kinesis.now());
        let this_machines = |stream: &Arc<Stream>| stream.kinesis.this_machines_time();
        said.or_else(|| streams.iter().find_map(this_machines))
    }

    /// Is it known that the lease table is of what this worker reads?
    pub(crate) fn table_is_ours(&self) -> bool {
        let streams = self.all();
        streams
            .iter()
            .all(|stream| stream.ownership.table_is_ours())
    }

    /// Leases that nobody can read as somebody else finished them, with why.
    pub(crate) fn ended_by_nobody(&self) -> Vec<(String, String)> {
        let streams = self.all().into_iter();
        streams
            .flat_map(|stream| stream.ended_by_nobody())
            .collect()
    }

    /// Whether there are streams, all have failed for so long, and how.
    pub(crate) fn all_failing(&self, patience: Duration) -> Option<Error> {
        let (mut all, mut last) = (self.all().into_iter(), None);
        let is_failing = all.all(|stream| {
            last = stream.health.failing();
            last.as_ref().is_some_and(|(since, _)| *since >= patience)
        });
        last.filter(|_| is_failing).map(|(_, error)| error)
    }
}
