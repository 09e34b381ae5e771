//! What was delivered, processed and checkpointed, and every broken promise.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use kinesis_consumer::{
    Checkpoint, Event, LeaseKey, Position, Record, SequenceNumber, ShardId, lease::Lease,
};

use crate::stream::Stream;

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) stream: Stream,
    /// Streams of that name that were deleted.
    former: Vec<Stream>,
    /// The stream is deleted, and not there again.
    pub(crate) is_deleted: bool,
    /// The stream was made anew, and the lease table is an older one's: nobody may work on.
    pub(crate) is_outdated: bool,
    /// User records that are told as lost to retention, by shard.
    told_lost: BTreeMap<ShardId, Vec<Range<usize>>>,
    /// How often each user record was processed, by shard.
    processed: BTreeMap<ShardId, Vec<u32>>,
    /// The furthest checkpoint that the table showed.
    checkpoints: HashMap<ShardId, Checkpoint>,
    /// Who delivers: shard → (worker, life of that worker).
    pub(crate) alive: BTreeMap<ShardId, BTreeSet<String>>,
    /// By life.
    accounts: BTreeMap<String, Account>,
    pub(crate) events: BTreeMap<&'static str, u64>,
    pub(crate) trace: u64,
    pub(crate) broken: Vec<String>,
}

/// The user records that one life read, and what became of them.
#[derive(Debug, Default)]
struct Account {
    /// In the pages that it got.
    read: usize,
    fetched: usize,
    covered: usize,
    processed: usize,
    rejected: usize,
    given_back: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            stream,
            former: Vec::new(),
            is_deleted: false,
            is_outdated: false,
            told_lost: BTreeMap::new(),
            processed: BTreeMap::new(),
            checkpoints: HashMap::new(),
            alive: BTreeMap::new(),
            accounts: BTreeMap::new(),
            events: BTreeMap::new(),
            trace: 0,
            broken: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap()
    }
}

impl Ledger {
    pub(crate) fn broke(&mut self, what: String) {
        if self.broken.len() < 10 {
            self.broken.push(what);
        }
    }

    #[expect(clippy::print_stdout, reason = "TRACE asks for it")]
    pub(crate) fn event(&mut self, life: &str, event: &Event) {
        self.account(life, event);
        if let Event::CheckpointExpired {
            shard,
            checkpoint,
            oldest,
            ..
        } = event
        {
            self.tell_lost(&shard.shard, checkpoint, oldest.as_ref());
        }
        let text = match event {
            // The time is this machine's own.
            Event::StartedAnew { position, .. } => format!("{life} StartedAnew {position}"),
            _ => format!("{life} {event:?}"),
        };
        // A fingerprint of all that happened, in order: a seed that replays has the same one.
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        *self.events.entry(name(event)).or_default() += 1;
        if std::env::var_os("TRACE").is_some() {
            println!("{:8.3} {text}", self.stream.elapsed().as_secs_f64());
        }
    }

    /// A page with these records gets to a life.
    pub(crate) fn read(&mut self, life: &str, records: &[Record]) {
        let numbers = records.iter().map(|record| &record.sequence_number);
        let users: usize = numbers.map(|number| self.carried(number).len()).sum();
        self.accounts.entry(life.to_owned()).or_default().read += users;
    }

    fn account(&mut self, life: &str, event: &Event) {
        let account = self.accounts.entry(life.to_owned()).or_default();
        match event {
            Event::Fetched {
                records, covered, ..
            } => {
                account.fetched += records;
                account.covered += covered;
            }
            Event::Processed {
                records, rejected, ..
            } => {
                account.processed += records - rejected;
                account.rejected += rejected;
            }
            Event::AggregateRejected { records, .. } => account.rejected += records,
            Event::GivenBack { records, .. } => account.given_back += records,
            _ => return,
        }
        if account.settled() > account.fetched {
            let what = format!("{life} settled more than it fetched: {account:?}");
            self.broke(what);
        }
    }

    /// A life that has fetched what it has not settled: a processor may work for long.
    pub(crate) fn in_hand(&self) -> Option<&str> {
        let mut accounts = self.accounts.iter();
        let busy = accounts.find(|(_, account)| account.fetched != account.settled());
        busy.map(|(life, _)| life.as_str())
    }

    // === streams made anew ===

    /// The stream is there again, with other shards and no records.
    pub(crate) fn make_anew(&mut self, shards: usize, keeps_iterators: bool) {
        let stream = self.stream.made_anew(shards, keeps_iterators);
        self.former
            .push(std::mem::replace(&mut self.stream, stream));
        self.processed.clear();
        self.told_lost.clear();
        (self.is_deleted, self.is_outdated) = (false, true);
    }

    /// The application has a lease table of its own again, an empty one.
    pub(crate) fn start_over(&mut self) {
        self.processed.clear();
        self.told_lost.clear();
        self.checkpoints.clear();
        self.is_outdated = false;
    }

    /// How many streams of that name came before the one that the record is of.
    pub(crate) fn generation(&self, record: &SequenceNumber) -> usize {
        let former = self.former.iter().position(|stream| stream.has(record));
        former.unwrap_or(self.former.len())
    }

    pub(crate) fn current(&self) -> usize {
        self.former.len()
    }

    /// The ordinals of the user records that a record carries.
    pub(crate) fn carried(&self, record: &SequenceNumber) -> Range<usize> {
        let mut streams = self.former.iter().chain([&self.stream]);
        let stream = streams.find(|stream| stream.has(record)).unwrap();
        stream.carried(record)
    }

    /// Was that so of a stream that is deleted? Its shards also end where the new one lacks them,
    /// for a moment or for good.
    fn was(&self, shard: &ShardId, checkpoint: &Checkpoint) -> bool {
        let is_closed = self.stream.is_closed(shard);
        self.former.iter().any(|stream| match checkpoint {
            Checkpoint::At(done) => stream.has(&done.sequence_number),
            Checkpoint::ShardEnd => stream.is_closed(shard) || !is_closed,
            _ => true,
        })
    }

    // === retention ===

    fn tell_lost(&mut self, shard: &ShardId, from: &Checkpoint, oldest: Option<&Position>) {
        let Some(from) = self.stream.covered(shard, from) else {
            return;
        };
        let gone = self.stream.gone(shard);
        let to = oldest.map(|oldest| self.stream.carried(&oldest.sequence_number).start);
        if from > gone || to.is_some_and(|to| to > gone) {
            self.broke(format!(
                "told as lost of {shard}: {from} to {to:?}, but only {gone} are gone"
            ));
        }
        let lost = from..to.unwrap_or(gone);
        self.told_lost.entry(shard.clone()).or_default().push(lost);
    }

    /// The shard had records, and the retention took all of them.
    pub(crate) fn has_lost_all(&self, shard: &ShardId) -> bool {
        let gone = self.stream.gone(shard);
        gone > 0 && gone == self.stream.users(shard)
    }

    /// The retention took it before anybody processed it, and that is told.
    pub(crate) fn is_lost(&self, shard: &ShardId, ordinal: usize) -> bool {
        let told = self.told_lost.get(shard);
        ordinal < self.stream.gone(shard)
            && told.is_some_and(|told| told.iter().any(|lost| lost.contains(&ordinal)))
    }

    fn is_settled(&self, shard: &ShardId, ordinal: usize) -> bool {
        self.is_processed(shard, ordinal) || self.is_lost(shard, ordinal)
    }

    // === what was processed ===

    pub(crate) fn is_processed(&self, shard: &ShardId, ordinal: usize) -> bool {
        self.times(shard, ordinal) > 0
    }

    pub(crate) fn times(&self, shard: &ShardId, ordinal: usize) -> u32 {
        self.processed
            .get(shard)
            .and_then(|times| times.get(ordinal))
            .copied()
            .unwrap_or(0)
    }

    /// `of`: the first of the records, which may be of a stream that is deleted.
    pub(crate) fn process(
        &mut self,
        shard: &ShardId,
        of: &SequenceNumber,
        ordinals: impl Iterator<Item = usize>,
    ) {
        if self.generation(of) != self.current() {
            return;
        }
        let times = self.processed.entry(shard.clone()).or_default();
        for ordinal in ordinals {
            if times.len() <= ordinal {
                times.resize(ordinal + 1, 0);
            }
            times[ordinal] += 1;
        }
    }

    /// The first user record of the shard that nobody processed, and that is not told as lost.
    pub(crate) fn unprocessed(&self, shard: &ShardId) -> Option<usize> {
        (0..self.stream.users(shard)).find(|&ordinal| !self.is_settled(shard, ordinal))
    }

    /// A processor got its last call.
    pub(crate) fn stopped(&mut self, shard: &ShardId, processor: &str) {
        if let Some(alive) = self.alive.get_mut(shard) {
            alive.remove(processor);
        }
    }

    /// A process is gone, with nothing in hand.
    pub(crate) fn forget(&mut self, life: &str) {
        let account = self.accounts.remove(life).unwrap_or_default();
        // A page that was not taken apart to its end is not fetched to its end.
        if account.fetched > account.read || account.fetched != account.settled() {
            self.broke(format!("{life} does not account for all: {account:?}"));
        }
        for alive in self.alive.values_mut() {
            alive.remove(life);
        }
    }

    /// Judges a lease as the table has it.
    pub(crate) fn see(&mut self, lease: &Lease) {
        let Lease {
            key: LeaseKey { shard: key, .. },
            checkpoint,
            ..
        } = lease;
        let before = self.checkpoints.insert(key.clone(), checkpoint.clone());
        if before.as_ref() == Some(checkpoint) {
            return;
        }
        if before.as_ref().is_some_and(|before| before > checkpoint) {
            self.broke(format!(
                "the checkpoint of {key} went back from {before:?} to {checkpoint}"
            ));
        }
        if self.is_outdated && self.was(key, checkpoint) {
            return;
        }
        let Some(covered) = self.stream.covered(key, checkpoint) else {
            return self.broke(format!(
                "the checkpoint of {key}, {checkpoint}, is of no record"
            ));
        };
        if *checkpoint == Checkpoint::ShardEnd && !self.stream.is_closed(key) {
            self.broke(format!("{key} is finished but open"));
        }
        // Records are processed in order, so the newest ones tell.
        let missed = (0..covered)
            .rev()
            .find(|&ordinal| !self.is_settled(key, ordinal));
        if let Some(ordinal) = missed {
            self.broke(format!("the checkpoint of {key}, {checkpoint}, passes record {ordinal}, which nobody processed"));
        }
    }
}

impl Account {
    fn settled(&self) -> usize {
        self.covered + self.processed + self.rejected + self.given_back
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Admitted => "Admitted",
        Event::LeaseAcquired { .. } => "LeaseAcquired",
        Event::LeaseLost { .. } => "LeaseLost",
        Event::HandoverAsked { .. } => "HandoverAsked",
        Event::HandedOver { .. } => "HandedOver",
        Event::LeaseReleased { .. } => "LeaseReleased",
        Event::ShardStarted { .. } => "ShardStarted",
        Event::ShardEnded { .. } => "ShardEnded",
        Event::ShardEndWaits { .. } => "ShardEndWaits",
        Event::Fetched { .. } => "Fetched",
        Event::GivenBack { .. } => "GivenBack",
        Event::AggregateRejected { .. } => "AggregateRejected",
        Event::Processed { .. } => "Processed",
        Event::Polled { .. } => "Polled",
        Event::ConsumerRegistered { .. } => "ConsumerRegistered",
        Event::Subscribed { .. } => "Subscribed",
        Event::FellBackToPolling { .. } => "FellBackToPolling",
        Event::Checkpointed { .. } => "Checkpointed",
        Event::ProcessorFailed { .. } => "ProcessorFailed",
        Event::Throttled { .. } => "Throttled",
        Event::Retrying { .. } => "Retrying",
        Event::CheckpointExpired { .. } => "CheckpointExpired",
        Event::Unreadable { .. } => "Unreadable",
        Event::StartedAnew { .. } => "StartedAnew",
        Event::LeasesCreated { .. } => "LeasesCreated",
        Event::LeaseDeleted { .. } => "LeaseDeleted",
        _ => "other",
    }
}
