//! What befalls a stream and a lease table: retention, other applications, a stream made anew.

use std::time::Duration;

use kinesis_consumer::{
    Checkpoint, Error, InitialPosition,
    test_util::{MemoryTable, Scan},
};
use tokio::{
    task::JoinError,
    time::{Instant, sleep},
};

use super::{MOST_WORKERS, Scenario};
use crate::{simulation::ledger::Shared, stream::Stream};

/// Who finds another stream's leases, or another kind of table, ends within this time.
const SECONDS: Duration = Duration::from_secs(5);
/// Who works on the leases of a stream that was made anew, however many of its calls fail.
const SOON: Duration = Duration::from_secs(120);

/// The worker ended by itself, and says why that concerns its stream.
pub(super) fn names_what_it_found(result: &Result<Result<(), Error>, JoinError>) -> bool {
    let Ok(result) = result else { return false };
    match result {
        Err(Error::Stream { .. } | Error::StreamRecreated { .. } | Error::OtherStream { .. }) => {
            true
        }
        // It was told to stop.
        Ok(()) => true,
        Err(_) => false,
    }
}

impl Scenario {
    // === retention ===

    /// The stream forgets what is checkpointed of a shard.
    pub(super) fn expire(&mut self) {
        let leases = self.table.leases();
        if let Some(lease) = self.rng.choice(&leases)
            && let Checkpoint::At(done) = &lease.checkpoint
        {
            let mut ledger = self.ledger.lock();
            let refuse = self.rng.bool();
            let covered = ledger.stream.covered(&lease.key.shard, &lease.checkpoint);
            if covered == Some(ledger.stream.carried(&done.sequence_number).end) {
                ledger
                    .stream
                    .trim(&lease.key.shard, &done.sequence_number, refuse);
            }
        }
    }

    /// The stream forgets records of a shard that nobody may have read. They are a day old: whoever
    /// reads was suspended for so long.
    pub(super) fn cut(&mut self) {
        let leases = self.table.leases();
        let Some(lease) = self.rng.choice(&leases) else {
            return;
        };
        let (shard, Checkpoint::At(done)) = (&lease.key.shard, &lease.checkpoint) else {
            return;
        };
        let mut ledger = self.ledger.lock();
        let records = ledger.stream.records(shard);
        let next = records.partition_point(|it| it.sequence_number <= done.sequence_number);
        // The newest one stays.
        if next + 1 < records.len() && self.cut.insert(shard.clone()) {
            let last = self.rng.usize(next..records.len() - 1);
            let to = records[last].sequence_number.clone();
            let refuse = self.rng.bool();
            ledger.stream.pass(Duration::from_hours(24));
            ledger.stream.trim(shard, &to, refuse);
        }
    }

    // === a table shared by mistake ===

    /// A worker of another stream comes with this application's name, or one of this stream while
    /// an application of several streams uses the table.
    pub(super) async fn intrude(&mut self) {
        if self.table.leases().is_empty() || self.nodes.len() >= MOST_WORKERS {
            return;
        }
        let of_several = self.rng.bool();
        let (stream, ledger) = if of_several {
            self.was_shared = true;
            let why = "a lease of an application that reads several streams".to_owned();
            self.table.set_oddities(Scan {
                foreign: vec![("1:orders:2:shardId-0".to_owned(), why)],
                ..Scan::default()
            });
            ("stream", self.ledger.clone())
        } else {
            let mut other = Stream::new(self.rng.usize(1..=4), Duration::from_secs(60));
            other.put(0, None);
            ("other-stream", Shared::new(other))
        };
        let config = self.config(stream, format!("intruder-{}", self.workers));
        let intruder = self.start(config, &ledger, true);
        let began = Instant::now();
        while !intruder.has_ended() && began.elapsed() < SOON {
            sleep(Duration::from_millis(100)).await;
            self.reap().await;
        }
        let in_time = began.elapsed() < if self.calm { SECONDS } else { SOON };
        let result = match intruder.has_ended() {
            true => intruder.ended().await,
            false => return self.broke("an intruder works on"),
        };
        if of_several {
            self.table.set_oddities(Scan::default());
        }
        let is_told = match &result {
            Ok(Err(Error::ForeignTable { .. })) => of_several,
            Ok(Err(Error::OtherStream { .. })) => !of_several,
            _ => false,
        };
        if !is_told || !in_time {
            self.broke(&format!(
                "an intruder ended after {:?}: {result:?}",
                began.elapsed()
            ));
        }
        if !of_several {
            let mut other = ledger.lock();
            let broken = std::mem::take(&mut other.broken);
            broken.iter().for_each(|what| self.broke(what));
        }
    }

    // === a stream made anew ===

    /// The stream is deleted and made anew under its name, while workers run or while none does.
    /// All of them end, and say why, until the application has a new lease table.
    pub(super) async fn make_anew(&mut self) {
        self.made_anew = false;
        self.resume();
        if self.rng.bool() {
            self.end_all().await;
        }
        self.ledger.lock().is_deleted = true;
        sleep(Duration::from_secs(self.rng.u64(..20))).await;
        let (shards, keeps_iterators) = (self.rng.usize(1..=8), self.rng.bool());
        self.ledger.lock().make_anew(shards, keeps_iterators);
        self.cut.clear();
        // As a kubelet starts them again.
        self.join(None);
        let deadline = Instant::now() + SOON;
        while !self.nodes.is_empty() && Instant::now() < deadline {
            match self.rng.u8(..8) {
                0 => self.split(),
                1 => self.merge(),
                2 => self.resume(),
                _ => self.put(),
            }
            sleep(Duration::from_millis(self.rng.u64(..1000))).await;
            self.reap().await;
        }
        if !self.nodes.is_empty() {
            let workers: Vec<_> = self.nodes.iter().map(|node| &node.worker).collect();
            self.broke(&format!(
                "work on with the leases of a deleted stream: {workers:?}"
            ));
            self.end_all().await;
        }
        // What whoever is told that does: another name for the application.
        self.table = MemoryTable::new();
        self.position = InitialPosition::TrimHorizon;
        self.ledger.lock().start_over();
        self.join(None);
    }

    async fn end_all(&mut self) {
        for node in std::mem::take(&mut self.nodes) {
            node.kill().await;
        }
    }

    fn broke(&self, what: &str) {
        self.ledger.lock().broke(what.to_owned());
    }
}
