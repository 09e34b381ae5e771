//! The library's stream in memory, with records that know how many user records came before them.

use std::{
    collections::{BTreeSet, HashMap},
    ops::{Deref, Range},
    time::Duration,
};

use bytes::Bytes;
use kinesis_consumer::{Checkpoint, Position, SequenceNumber, ShardId, test_util::MemoryStream};
use tokio::time::Instant;

use crate::aggregate;

#[derive(Debug)]
pub(crate) struct Stream {
    stream: MemoryStream,
    began: Instant,
    /// How many user records of its shard come before each one.
    ordinals: HashMap<Position, usize>,
    /// The user records that each record carries.
    carried: HashMap<SequenceNumber, Range<usize>>,
    users: HashMap<ShardId, usize>,
    /// How many of each shard's user records the retention took.
    gone: HashMap<ShardId, usize>,
}

/// What Kinesis answers is the library's.
impl Deref for Stream {
    type Target = MemoryStream;

    fn deref(&self) -> &MemoryStream {
        &self.stream
    }
}

impl Stream {
    pub(crate) fn new(shards: usize, iterator_life: Duration) -> Self {
        let stream = MemoryStream::new(shards).with_iterator_life(iterator_life);
        Self::over(stream, Instant::now())
    }

    fn over(stream: MemoryStream, began: Instant) -> Self {
        Self {
            stream,
            began,
            ordinals: HashMap::new(),
            carried: HashMap::new(),
            users: HashMap::new(),
            gone: HashMap::new(),
        }
    }

    /// The stream of that name after this one was deleted.
    pub(crate) fn made_anew(&self, shards: usize, keeps_iterators: bool) -> Self {
        Self::over(self.stream.made_anew(shards, keeps_iterators), self.began)
    }

    /// As if its clock were so many seconds ahead of this machine's.
    pub(crate) fn ahead(self, seconds: i64) -> Self {
        // Whole seconds, as the Date of an answer: what is made of it replays.
        let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds);
        let time = time.unwrap();
        Self {
            stream: self.stream.with_time(time),
            ..self
        }
    }

    /// Consumers and subscriptions are the library's, too.
    pub(crate) fn memory(&mut self) -> &mut MemoryStream {
        &mut self.stream
    }

    /// It has as many consumers as it may have.
    pub(crate) fn allow_no_consumer(&mut self) {
        self.stream = self.stream.clone().with_most_consumers(0);
    }

    // === what a producer and an operator do ===

    pub(crate) fn open(&self) -> Vec<usize> {
        let shards = self.shards().enumerate();
        shards
            .filter(|(_, shard)| !shard.closed)
            .map(|(index, _)| index)
            .collect()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn len(&self) -> usize {
        self.shards().count()
    }

    /// Puts a record of `users` user records: a plain one, or an aggregate.
    pub(crate) fn put(&mut self, index: usize, users: Option<usize>) {
        let shard = self.shards().nth(index).unwrap();
        let (id, hash_key) = (shard.id.clone(), shard.hash_range.start);
        let first = self.users(&id);
        let data = match users {
            None => Bytes::copy_from_slice(&(first as u64).to_be_bytes()),
            Some(count) => aggregate::encode(first, &vec![hash_key; count]),
        };
        self.put_data(&id, data, users.unwrap_or(1));
    }

    /// Puts an aggregate whose last user record belongs to another shard, if there is one.
    pub(crate) fn put_straddling(&mut self, index: usize, users: usize) {
        let shard = self.shards().nth(index).unwrap();
        let (id, range) = (shard.id.clone(), shard.hash_range);
        let mut hash_keys = vec![range.start; users];
        if let Some(elsewhere) = range.start.checked_sub(1).or(range.end.checked_add(1)) {
            hash_keys[users - 1] = elsewhere;
        }
        let data = aggregate::encode(self.users(&id), &hash_keys);
        self.put_data(&id, data, users);
    }

    /// The stream's retention takes what is up to a record.
    pub(crate) fn trim(&mut self, shard: &ShardId, to: &SequenceNumber, refuse: bool) {
        self.stream.trim(shard, to, refuse);
        let gone = self.gone.entry(shard.clone()).or_default();
        *gone = self.carried[to].end.max(*gone);
    }

    /// Its clock goes on, while this machine's does not.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.stream.pass(time);
    }

    /// Puts a plain record with so many bytes of data.
    pub(crate) fn put_large(&mut self, index: usize, bytes: usize) {
        let id = self.ids().swap_remove(index);
        let mut data = (self.users(&id) as u64).to_be_bytes().to_vec();
        data.resize(bytes, 0);
        self.put_data(&id, data.into(), 1);
    }

    fn put_data(&mut self, shard: &ShardId, data: Bytes, users: usize) {
        let sequence_number = self.stream.put(shard, "key", data);
        let count = self.users.entry(shard.clone()).or_default();
        self.carried
            .insert(sequence_number.clone(), *count..*count + users);
        for sub_sequence_number in 0..users as u64 {
            let sequence_number = sequence_number.clone();
            let position = Position {
                sequence_number,
                sub_sequence_number,
            };
            self.ordinals.insert(position, *count);
            *count += 1;
        }
    }

    pub(crate) fn split(&mut self, index: usize) {
        let id = self.ids().swap_remove(index);
        self.stream.split(&id);
    }

    /// Merges the open shard `index` with its right neighbour, if there is one.
    pub(crate) fn merge(&mut self, index: usize) {
        let id = self.ids().swap_remove(index);
        self.stream.merge(&id);
    }

    // === what a judge asks ===

    pub(crate) fn ids(&self) -> Vec<ShardId> {
        self.shards().map(|shard| shard.id.clone()).collect()
    }

    pub(crate) fn parents(&self, shard: &ShardId) -> BTreeSet<ShardId> {
        let found = self.shards().find(|it| it.id == *shard);
        found.map(|shard| shard.parents.clone()).unwrap_or_default()
    }

    pub(crate) fn is_closed(&self, shard: &ShardId) -> bool {
        self.shards().any(|it| it.id == *shard && it.closed)
    }

    /// How many user records a shard has.
    pub(crate) fn users(&self, shard: &ShardId) -> usize {
        self.users.get(shard).copied().unwrap_or(0)
    }

    /// The ordinals of the user records that a record carries.
    pub(crate) fn carried(&self, record: &SequenceNumber) -> Range<usize> {
        self.carried[record].clone()
    }

    /// Is the record one of this stream's?
    pub(crate) fn has(&self, record: &SequenceNumber) -> bool {
        self.carried.contains_key(record)
    }

    /// How many of the shard's user records the retention took.
    pub(crate) fn gone(&self, shard: &ShardId) -> usize {
        self.gone.get(shard).copied().unwrap_or(0)
    }

    /// How many user records of the shard a checkpoint covers; `None`: it is of no record.
    pub(crate) fn covered(&self, shard: &ShardId, checkpoint: &Checkpoint) -> Option<usize> {
        match checkpoint {
            Checkpoint::At(position) => self.ordinals.get(position).map(|ordinal| ordinal + 1),
            Checkpoint::ShardEnd => Some(self.users(shard)),
            _ => Some(0),
        }
    }

    /// The sequence number of a shard's so many-th record.
    pub(crate) fn number_of(&self, shard: &ShardId, carrier: usize) -> SequenceNumber {
        self.records(shard)[carrier].sequence_number.clone()
    }
}
