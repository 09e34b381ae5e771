//! What was put, and who says that it processed it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Result, ensure};
use tokio::{sync::watch, time::Instant};

/// What a record carries. Of one length: the last line of a killed worker may be cut.
pub(crate) fn data(number: u32) -> String {
    format!("r{number:08}")
}

/// The account of a scenario.
#[derive(Debug)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    put: BTreeSet<String>,
    read: BTreeMap<String, Vec<Read>>,
    said: Vec<Said>,
    /// Lines that are not understood.
    odd: Vec<String>,
}

/// A worker says that it processed a record.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// Which worker, by the order of their starts.
    pub(crate) worker: usize,
    pub(crate) shard: String,
    pub(crate) sub: u64,
    pub(crate) at: Instant,
}

/// A worker says something else, such as `ended shardId-000000000000`.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) worker: usize,
    pub(crate) what: String,
    pub(crate) shard: String,
}

/// How often the records were processed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) put: usize,
    /// Processed more than once, counted each further time.
    pub(crate) again: usize,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn put(&self, records: &[String]) {
        self.inner().put.extend(records.iter().cloned());
    }

    /// Takes in a line that a worker printed.
    pub(crate) fn line(&self, worker: usize, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let mut inner = self.inner();
        match words[..] {
            ["record", shard, _, sub, carried] if carried.len() == data(0).len() => {
                let (shard, sub) = (shard.to_owned(), sub.parse().unwrap_or(u64::MAX));
                let at = Instant::now();
                inner
                    .read
                    .entry(carried.to_owned())
                    .or_default()
                    .push(Read {
                        worker,
                        shard,
                        sub,
                        at,
                    });
            }
            [what, shard] if what != "record" && shard.contains("shardId-") => {
                let (what, shard) = (what.to_owned(), shard.to_owned());
                inner.said.push(Said {
                    worker,
                    what,
                    shard,
                });
            }
            _ => inner.odd.push(format!("{worker}: {line}")),
        }
        drop(inner);
        self.changed.send_replace(());
    }

    /// Records that nobody has processed.
    pub(crate) fn missing(&self) -> Vec<String> {
        let inner = self.inner();
        let missing = inner.put.iter().filter(|it| !inner.read.contains_key(*it));
        missing.cloned().collect()
    }

    /// The shards of which a worker has processed a record since then.
    pub(crate) fn read_since(&self, worker: usize, since: Instant) -> BTreeSet<String> {
        let inner = self.inner();
        let read = inner.read.values().flatten();
        read.filter(|it| it.worker == worker && it.at >= since)
            .map(|it| it.shard.clone())
            .collect()
    }

    /// Who processed this, and when.
    pub(crate) fn readings(&self, record: &str) -> Vec<Read> {
        self.inner().read.get(record).cloned().unwrap_or_default()
    }

    /// The shards about which a worker said this.
    pub(crate) fn said(&self, worker: usize, what: &str) -> BTreeSet<String> {
        let inner = self.inner();
        let said = inner.said.iter();
        said.filter(|it| it.worker == worker && it.what == what)
            .map(|it| it.shard.clone())
            .collect()
    }

    /// Every record at least once, and nothing that was never put.
    pub(crate) fn close(&self) -> Result<Totals> {
        let missing = self.missing();
        ensure!(missing.is_empty(), "never processed: {missing:?}");
        let inner = self.inner();
        let invented: Vec<_> = inner
            .read
            .keys()
            .filter(|it| !inner.put.contains(*it))
            .collect();
        ensure!(invented.is_empty(), "processed, never put: {invented:?}");
        Ok(Totals {
            put: inner.put.len(),
            again: again(&inner),
        })
    }

    /// How often a record was processed once more, so far.
    pub(crate) fn again(&self) -> usize {
        again(&self.inner())
    }

    /// Lines that are not understood, but for what a kill cuts off.
    pub(crate) fn odd(&self) -> Vec<String> {
        self.inner().odd.clone()
    }
}

fn again(inner: &Inner) -> usize {
    inner.read.values().map(|it| it.len() - 1).sum()
}
