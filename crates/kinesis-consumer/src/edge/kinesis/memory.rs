//! A stream in memory, for tests and simulations: shards, splits, merges, records, iterators that
//! expire. Time is tokio's, so a paused clock does.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    edge::kinesis::{Consumer, Kinesis, KinesisError, Page, ShardFilter, StartFrom, Subscription},
    model::{
        keys::ShardId,
        record::Record,
        sequence::SequenceNumber,
        shard::{ChildShard, HashRange, Shard, hash_key},
    },
};

mod subscription;

use subscription::Consumers;

pub use subscription::{MemorySubscription, Place, Pushed};

/// Sequence numbers start here, so that they have the length of real ones.
const FIRST: u128 = 49_600_000_000_000_000_000_000_000_000_000_000_000;

/// A stream in memory that workers can read. Clones share the stream.
///
/// Nothing is forgotten by itself, throttled or out of order; an empty page at the tip says so.
/// Give it with a [`MemoryTable`](crate::test_util::MemoryTable) to
/// [`Worker::over`](crate::Worker::over).
#[derive(Clone)]
pub struct MemoryKinesis(Arc<Mutex<MemoryStream>>);

/// The stream itself, for tests that stand between a worker and its stream.
#[derive(Clone, Debug)]
pub struct MemoryStream {
    shards: Vec<(Shard, Vec<Record>)>,
    /// How many of each shard's records are gone.
    trimmed: Vec<usize>,
    refuses_trimmed: bool,
    next_number: u128,
    began: Instant,
    began_at: Timestamp,
    /// When it was made anew, so long after the first stream of its name began.
    made_anew: Option<Duration>,
    keeps_iterators: bool,
    iterator_life: Duration,
    consumers: Consumers,
}

impl fmt::Debug for MemoryKinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryKinesis")
    }
}

impl MemoryKinesis {
    /// A stream of so many open shards, `shardId-000000000000` and on, with equal shares of the
    /// hash keys.
    ///
    /// # Panics
    /// If `shards` is 0.
    pub fn new(shards: usize) -> Self {
        Self(Arc::new(Mutex::new(MemoryStream::new(shards))))
    }

    /// Puts a record into the open shard of its partition key. Returns the shard, and the record's
    /// sequence number.
    pub fn put(&self, partition_key: &str, data: impl Into<Bytes>) -> (ShardId, SequenceNumber) {
        let mut stream = self.stream();
        let hash_key = hash_key(partition_key);
        let takes = |shard: &Shard| !shard.closed && shard.hash_range.contains(hash_key);
        // The open shards cover all hash keys.
        let shard = stream.shards().find(|shard| takes(shard));
        let shard = shard
            .map(|shard| shard.id.clone())
            .unwrap_or_else(|| unreachable!());
        let number = stream.put(&shard, partition_key, data.into());
        (shard, number)
    }

    /// Splits an open shard in half, or does nothing if it takes one hash key only.
    pub fn split(&self, shard: &ShardId) {
        self.stream().split(shard);
    }

    /// Merges an open shard with the open one to its right, if there is one.
    pub fn merge(&self, shard: &ShardId) {
        self.stream().merge(shard);
    }

    /// All shards, oldest first.
    pub fn shards(&self) -> Vec<Shard> {
        self.stream().list(ShardFilter::All)
    }

    fn stream(&self) -> MutexGuard<'_, MemoryStream> {
        // A test that panicked while it held the lock has said so already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Kinesis for MemoryKinesis {
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        Ok(self.stream().list(filter))
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError> {
        self.stream().iterator(shard, from)
    }

    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError> {
        self.stream().page(iterator, limit as usize, true)
    }

    fn now(&self) -> Option<Timestamp> {
        Some(self.stream().now())
    }

    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, KinesisError> {
        Ok(self.stream().consumer(name))
    }

    async fn register_consumer(&self, name: &str) -> Result<Consumer, KinesisError> {
        self.stream().register_consumer(name)
    }

    async fn subscribe(
        &self,
        consumer: &str,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<Box<dyn Subscription>, KinesisError> {
        let place = self.stream().subscribe(consumer, shard, from)?;
        let kinesis = self.clone();
        let push = move |place: &mut Place, idle| kinesis.stream().push(place, 10_000, idle);
        Ok(Box::new(MemorySubscription::new(place, push)))
    }
}

impl MemoryStream {
    /// As [`MemoryKinesis::new`].
    ///
    /// # Panics
    /// If `shards` is 0.
    pub fn new(shards: usize) -> Self {
        let mut stream = Self {
            shards: Vec::new(),
            trimmed: Vec::new(),
            refuses_trimmed: false,
            next_number: FIRST,
            began: Instant::now(),
            began_at: Timestamp::now(),
            made_anew: None,
            keeps_iterators: false,
            iterator_life: Duration::from_secs(300),
            consumers: Consumers::default(),
        };
        stream.add_all(shards);
        stream
    }

    /// The stream of that name after this one was deleted: its shards have the same ids and later
    /// numbers. Whoever has an iterator of the old one goes on at the oldest record with
    /// `keeps_iterators`; otherwise it has expired.
    ///
    /// # Panics
    /// If `shards` is 0.
    #[must_use]
    pub fn made_anew(&self, shards: usize, keeps_iterators: bool) -> Self {
        let mut stream = Self {
            shards: Vec::new(),
            trimmed: Vec::new(),
            made_anew: Some(self.began.elapsed()),
            keeps_iterators,
            consumers: Consumers::default(),
            ..self.clone()
        };
        stream.add_all(shards);
        stream
    }

    /// With iterators that expire after so long; after 5 minutes otherwise.
    #[must_use]
    pub fn with_iterator_life(self, iterator_life: Duration) -> Self {
        Self {
            iterator_life,
            ..self
        }
    }

    /// The stream's retention takes the oldest records of a shard, up to and including that number.
    /// Whoever asks for one of them then is refused, or gets the oldest one that is left: AWS does
    /// either.
    pub fn trim(&mut self, shard: &ShardId, to: &SequenceNumber, refuse: bool) {
        self.refuses_trimmed = refuse;
        if let Some(index) = self.index(shard) {
            let records = &self.shards[index].1;
            let gone = records.partition_point(|record| record.sequence_number <= *to);
            self.trimmed[index] = gone.max(self.trimmed[index]);
        }
    }

    /// The stream's time.
    pub fn now(&self) -> Timestamp {
        self.began_at + self.began.elapsed()
    }

    /// As if its clock were another one than this machine's.
    #[must_use]
    pub fn with_time(self, began_at: Timestamp) -> Self {
        Self { began_at, ..self }
    }

    /// Its clock goes on by so much, while this machine's does not: who reads it was suspended.
    pub fn pass(&mut self, time: Duration) {
        self.began_at += time;
    }

    /// All shards, oldest first.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(|(shard, _)| shard)
    }

    /// The records of a shard as they were put, aggregates whole. None of an unknown shard.
    pub fn records(&self, shard: &ShardId) -> &[Record] {
        self.index(shard).map_or(&[], |index| &self.shards[index].1)
    }

    /// Puts a record into a shard, whatever its partition key; into no shard if there is none of
    /// that id. Returns its sequence number.
    pub fn put(&mut self, shard: &ShardId, partition_key: &str, data: Bytes) -> SequenceNumber {
        let number = self.number();
        let mut record = Record::new(number.clone(), partition_key, data);
        record.arrival = Some(self.now());
        if let Some(index) = self.index(shard) {
            self.shards[index].1.push(record);
        }
        number
    }

    /// Splits an open shard in half, or does nothing if it takes one hash key only.
    pub fn split(&mut self, shard: &ShardId) {
        let Some(HashRange { start, end }) = self.open_range(shard).filter(|it| it.start < it.end)
        else {
            return;
        };
        let parents = self.close([shard.clone()]);
        let middle = start + (end - start) / 2;
        self.add(&parents, start, middle);
        self.add(&parents, middle + 1, end);
    }

    /// Merges an open shard with the open one to its right, if there is one.
    pub fn merge(&mut self, shard: &ShardId) {
        let Some(HashRange { start, end }) = self.open_range(shard) else {
            return;
        };
        let is_right =
            |other: &&Shard| !other.closed && other.hash_range.start.checked_sub(1) == Some(end);
        let right = self.shards().find(is_right).cloned();
        if let Some(right) = right {
            let parents = self.close([shard.clone(), right.id]);
            self.add(&parents, start, right.hash_range.end);
        }
    }

    /// What `ListShards` answers. There is no telling which shards were open at a time: all are
    /// listed.
    pub fn list(&self, filter: ShardFilter) -> Vec<Shard> {
        let is_listed = |shard: &&Shard| match filter {
            ShardFilter::AtTrimHorizon => shard.parents.is_empty(),
            ShardFilter::AtLatest => !shard.closed,
            ShardFilter::All | ShardFilter::AtTimestamp(_) => true,
        };
        self.shards().filter(is_listed).cloned().collect()
    }

    /// What `GetShardIterator` answers.
    ///
    /// # Errors
    /// No such shard, a number that is gone, or a time that is to come.
    pub fn iterator(&self, shard: &ShardId, from: &StartFrom) -> Result<String, KinesisError> {
        let next = self.position(shard, from)?;
        Ok(self.issue(shard, next))
    }

    /// Which of the shard's records comes first.
    fn position(&self, shard: &ShardId, from: &StartFrom) -> Result<usize, KinesisError> {
        let unknown = || KinesisError::NotFound(shard.as_str().into());
        let index = self.index(shard).ok_or_else(unknown)?;
        let ((listed, records), trimmed) = (&self.shards[index], self.trimmed[index]);
        if let StartFrom::AtSequenceNumber(number) | StartFrom::AfterSequenceNumber(number) = from {
            let last = records[..trimmed].last();
            let is_gone = |last: &Record| *number <= last.sequence_number;
            if *number < listed.starting_sequence_number
                || self.refuses_trimmed && last.is_some_and(is_gone)
            {
                return Err(KinesisError::InvalidSequenceNumber(number.as_str().into()));
            }
        }
        Ok(match from {
            StartFrom::TrimHorizon => 0,
            StartFrom::Latest => records.len(),
            StartFrom::AtTimestamp(time) if *time > self.now() => {
                let text = format!("{time} is later than the time there");
                return Err(KinesisError::Permanent(text.into()));
            }
            StartFrom::AtTimestamp(time) => {
                records.partition_point(|record| record.arrival < Some(*time))
            }
            StartFrom::AtSequenceNumber(number) => {
                records.partition_point(|record| record.sequence_number < *number)
            }
            StartFrom::AfterSequenceNumber(number) => {
                records.partition_point(|record| record.sequence_number <= *number)
            }
        })
    }

    /// What `GetRecords` answers: at most `limit` records. `tell_children`: at a closed shard's
    /// end, as AWS does and some emulators do not.
    ///
    /// # Errors
    /// It is no shard's iterator, or one that has expired.
    pub fn page(
        &self,
        iterator: &str,
        limit: usize,
        tell_children: bool,
    ) -> Result<Page, KinesisError> {
        let (shard, next, issued) = self
            .read(iterator)
            .ok_or_else(|| KinesisError::NotFound(format!("no shard of: {iterator}").into()))?;
        let is_old = self.made_anew.is_some_and(|made_anew| issued <= made_anew);
        if self.began.elapsed().saturating_sub(issued) > self.iterator_life
            || is_old && !self.keeps_iterators
        {
            return Err(KinesisError::ExpiredIterator(iterator.into()));
        }
        let start = if is_old { 0 } else { next };
        let start = start.max(self.trimmed[shard]);
        let (shard, records) = &self.shards[shard];
        let end = (start + limit).min(records.len());
        let at_end = end == records.len();
        let is_over = at_end && shard.closed;
        Ok(Page {
            records: records[start..end].to_vec(),
            next_iterator: (!is_over).then(|| self.issue(&shard.id, end)),
            millis_behind_latest: if at_end { 0 } else { 1000 },
            children: if is_over && tell_children {
                let is_child = |child: &&Shard| child.parents.contains(&shard.id);
                self.shards()
                    .filter(is_child)
                    .map(ChildShard::from)
                    .collect()
            } else {
                Vec::new()
            },
        })
    }

    fn issue(&self, shard: &ShardId, next: usize) -> String {
        format!("{shard} {next} {}", self.began.elapsed().as_millis())
    }

    fn read(&self, iterator: &str) -> Option<(usize, usize, Duration)> {
        let mut parts = iterator.split(' ');
        let shard = self.index(&parts.next()?.into())?;
        let (next, issued) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((shard, next, Duration::from_millis(issued)))
    }

    fn add_all(&mut self, shards: usize) {
        let width = u128::MAX / shards as u128;
        for index in 0..shards as u128 {
            let is_last = index + 1 == shards as u128;
            let end = if is_last {
                u128::MAX
            } else {
                (index + 1) * width - 1
            };
            self.add(&BTreeSet::new(), index * width, end);
        }
    }

    fn add(&mut self, parents: &BTreeSet<ShardId>, start: u128, end: u128) {
        let shard = Shard {
            id: format!("shardId-{:012}", self.shards.len()).into(),
            parents: parents.clone(),
            hash_range: HashRange { start, end },
            starting_sequence_number: self.number(),
            closed: false,
        };
        self.shards.push((shard, Vec::new()));
        self.trimmed.push(0);
    }

    fn close<const N: usize>(&mut self, shards: [ShardId; N]) -> BTreeSet<ShardId> {
        for (shard, _) in &mut self.shards {
            shard.closed |= shards.contains(&shard.id);
        }
        shards.into()
    }

    fn open_range(&self, shard: &ShardId) -> Option<HashRange> {
        let found = self.shards().find(|it| it.id == *shard && !it.closed);
        found.map(|shard| shard.hash_range)
    }

    fn index(&self, shard: &ShardId) -> Option<usize> {
        self.shards().position(|it| it.id == *shard)
    }

    fn number(&mut self) -> SequenceNumber {
        self.next_number += 1;
        self.last_number()
    }

    fn last_number(&self) -> SequenceNumber {
        SequenceNumber::try_from(self.next_number.to_string()).unwrap_or_else(|_| unreachable!())
    }
}
