//! An account in memory, for tests: streams that come, go and are made anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    edge::{
        account::{Account, FoundStream},
        failure::CallError,
        kinesis::{Kinesis, KinesisError, Page, ShardFilter, StartFrom},
    },
    model::{
        keys::{ShardId, StreamIdentifier},
        shard::Shard,
    },
};

/// The account's number.
const ACCOUNT: &str = "123456789012";

/// An account in memory. Clones share its streams.
#[derive(Clone, Default)]
pub struct MemoryAccount(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    streams: BTreeMap<String, (FoundStream, Arc<dyn Kinesis>)>,
    refusals: BTreeMap<String, KinesisError>,
    unlisted: BTreeSet<String>,
    calls: BTreeMap<&'static str, u64>,
}

impl fmt::Debug for MemoryAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryAccount")
    }
}

impl MemoryAccount {
    /// An account without streams.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a stream there, made at `epoch`, in seconds since 1970. Returns what its leases' keys
    /// begin with.
    pub fn put(&self, name: &str, epoch: u64, stream: impl Kinesis + 'static) -> StreamIdentifier {
        let id = StreamIdentifier {
            account: ACCOUNT.to_owned(),
            name: name.to_owned(),
            epoch,
        };
        let arn = format!("arn:aws:kinesis:eu-west-1:{ACCOUNT}:stream/{name}");
        let found = FoundStream {
            id: id.clone(),
            arn,
        };
        let stream = (found, Arc::new(stream) as Arc<dyn Kinesis>);
        self.inner().streams.insert(name.to_owned(), stream);
        id
    }

    /// Deletes the stream of that name: it is not found any more.
    pub fn delete(&self, name: &str) {
        self.inner().streams.remove(name);
    }

    /// From now on looks for the stream of that name fail so; of the list of all, for `*`. `None`:
    /// they do not.
    pub fn refuse(&self, name: &str, error: Option<KinesisError>) {
        let refusals = &mut self.inner().refusals;
        match error {
            Some(error) => drop(refusals.insert(name.to_owned(), error)),
            None => drop(refusals.remove(name)),
        }
    }

    /// From now on the list of all leaves these streams out, although they are there.
    pub fn leave_out(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned());
        self.inner().unlisted = names.collect();
    }

    /// How often each call was made.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.inner().calls.clone()
    }
}

#[async_trait]
impl Account for MemoryAccount {
    async fn streams(&self) -> Result<Vec<FoundStream>, KinesisError> {
        let mut inner = self.inner();
        *inner.calls.entry("streams").or_default() += 1;
        if let Some(error) = inner.refusals.get("*") {
            return Err(error.clone());
        }
        let is_listed = |stream: &&FoundStream| !inner.unlisted.contains(&stream.id.name);
        let streams = inner.streams.values().map(|(stream, _)| stream);
        Ok(streams.filter(is_listed).cloned().collect())
    }

    async fn stream(&self, stream: &str) -> Result<FoundStream, KinesisError> {
        let mut inner = self.inner();
        *inner.calls.entry("stream").or_default() += 1;
        let name = stream.rsplit('/').next().unwrap_or(stream);
        if let Some(error) = inner.refusals.get(name) {
            return Err(error.clone());
        }
        let found = inner.streams.get(name).map(|(found, _)| found.clone());
        found.ok_or_else(|| KinesisError::NotFound(CallError::missing(format!("no {stream}"))))
    }

    fn open(&self, stream: &FoundStream) -> Arc<dyn Kinesis> {
        let inner = self.inner();
        match inner.streams.get(&stream.id.name) {
            Some((_, kinesis)) => Arc::clone(kinesis),
            None => Arc::new(Gone),
        }
    }
}

/// A stream that was deleted between two calls.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl Kinesis for Gone {
    async fn list_shards(&self, _: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        Err(gone())
    }

    async fn shard_iterator(&self, _: &ShardId, _: &StartFrom) -> Result<String, KinesisError> {
        Err(gone())
    }

    async fn records(&self, _: &str, _: u32) -> Result<Page, KinesisError> {
        Err(gone())
    }
}

fn gone() -> KinesisError {
    KinesisError::NotFound(CallError::missing("no such stream"))
}
