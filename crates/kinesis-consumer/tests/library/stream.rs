//! A stream in memory: shards, splits, merges, records and aggregates, iterators that expire. It knows nothing of workers.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use kinesis_consumer::{
    kinesis::{KinesisError, Page, ShardFilter, StartFrom},
    record::Record,
    sequence::{Checkpoint, Position, SequenceNumber},
    shard::{ChildShard, HashRange, Shard, ShardId},
};
use tokio::time::Instant;

use crate::aggregate;

/// Sequence numbers start here, so that they have the length of real ones.
const FIRST: u128 = 49_600_000_000_000_000_000_000_000_000_000_000_000;

#[derive(Debug)]
pub(crate) struct Stream {
    shards: Vec<StoredShard>,
    next_number: u128,
    began: Instant,
    began_at: Timestamp,
    iterator_life: Duration,
}

#[derive(Debug)]
struct StoredShard {
    shard: Shard,
    carriers: Vec<Record>,
    /// How many user records the carriers before each one hold.
    ordinals: HashMap<(String, u64), usize>,
    users: usize,
}

impl Stream {
    pub(crate) fn new(shards: usize, iterator_life: Duration) -> Self {
        let mut stream = Self {
            shards: Vec::new(),
            next_number: FIRST,
            began: Instant::now(),
            began_at: Timestamp::now(),
            iterator_life,
        };
        let width = u128::MAX / shards as u128;
        for index in 0..shards as u128 {
            let end = if index + 1 == shards as u128 {
                u128::MAX
            } else {
                (index + 1) * width - 1
            };
            stream.add(
                BTreeSet::new(),
                HashRange {
                    start: index * width,
                    end,
                },
            );
        }
        stream
    }

    fn add(&mut self, parents: BTreeSet<ShardId>, hash_range: HashRange) {
        let shard = Shard {
            id: format!("shardId-{:012}", self.shards.len()),
            parents,
            hash_range,
            starting_sequence_number: self.number(),
            closed: false,
        };
        self.shards.push(StoredShard {
            shard,
            carriers: Vec::new(),
            ordinals: HashMap::new(),
            users: 0,
        });
    }

    fn number(&mut self) -> SequenceNumber {
        self.next_number += 1;
        self.next_number.to_string().parse().unwrap()
    }

    fn stored(&self, shard: &str) -> Option<&StoredShard> {
        self.shards.iter().find(|stored| stored.shard.id == shard)
    }

    // === what a producer and an operator do ===

    pub(crate) fn open(&self) -> Vec<usize> {
        (0..self.shards.len())
            .filter(|&index| !self.shards[index].shard.closed)
            .collect()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Puts a record of `users` user records: a plain one, or an aggregate.
    pub(crate) fn put(&mut self, index: usize, users: Option<usize>) {
        let sequence_number = self.number();
        let arrival = self.began_at + self.began.elapsed();
        let stored = &mut self.shards[index];
        let first = stored.users;
        let data = match users {
            None => Bytes::copy_from_slice(&(first as u64).to_be_bytes()),
            Some(count) => aggregate::encode(first, count, stored.shard.hash_range.start),
        };
        for sub in 0..users.unwrap_or(1) {
            let number = sequence_number.as_str().to_owned();
            stored.ordinals.insert((number, sub as u64), first + sub);
        }
        stored.users += users.unwrap_or(1);
        stored.carriers.push(Record {
            sequence_number,
            sub_sequence_number: 0,
            aggregated: false,
            partition_key: "key".into(),
            explicit_hash_key: None,
            data,
            arrival: Some(arrival),
        });
    }

    /// Puts a plain record with so many bytes of data.
    pub(crate) fn put_large(&mut self, index: usize, bytes: usize) {
        self.put(index, None);
        let record = self.shards[index].carriers.last_mut().unwrap();
        let mut data = record.data.to_vec();
        data.resize(bytes, 0);
        record.data = data.into();
    }

    pub(crate) fn split(&mut self, index: usize) {
        let HashRange { start, end } = self.shards[index].shard.hash_range;
        if end == start {
            return;
        }
        let parents = self.close([index]);
        let middle = start + (end - start) / 2;
        self.add(parents.clone(), HashRange { start, end: middle });
        self.add(
            parents,
            HashRange {
                start: middle + 1,
                end,
            },
        );
    }

    /// Merges the open shard `index` with its right neighbour, if there is one.
    pub(crate) fn merge(&mut self, index: usize) {
        let HashRange { start, end } = self.shards[index].shard.hash_range;
        let neighbour = self
            .open()
            .into_iter()
            .find(|&other| self.shards[other].shard.hash_range.start.checked_sub(1) == Some(end));
        if let Some(other) = neighbour {
            let end = self.shards[other].shard.hash_range.end;
            let parents = self.close([index, other]);
            self.add(parents, HashRange { start, end });
        }
    }

    fn close<const N: usize>(&mut self, indices: [usize; N]) -> BTreeSet<ShardId> {
        let close = |index: usize| {
            self.shards[index].shard.closed = true;
            self.shards[index].shard.id.clone()
        };
        indices.map(close).into()
    }

    // === what a judge asks ===

    pub(crate) fn ids(&self) -> Vec<ShardId> {
        self.shards
            .iter()
            .map(|stored| stored.shard.id.clone())
            .collect()
    }

    pub(crate) fn parents(&self, shard: &str) -> BTreeSet<ShardId> {
        self.stored(shard)
            .map(|stored| stored.shard.parents.clone())
            .unwrap_or_default()
    }

    pub(crate) fn is_closed(&self, shard: &str) -> bool {
        self.stored(shard).is_some_and(|stored| stored.shard.closed)
    }

    /// How many user records a shard has.
    pub(crate) fn users(&self, shard: &str) -> usize {
        self.stored(shard).map_or(0, |stored| stored.users)
    }

    /// How many user records of the shard a checkpoint covers; `None`: it is of no record.
    pub(crate) fn covered(&self, shard: &str, checkpoint: &Checkpoint) -> Option<usize> {
        match checkpoint {
            Checkpoint::At(position) => self.ordinal(shard, position).map(|ordinal| ordinal + 1),
            Checkpoint::ShardEnd => Some(self.users(shard)),
            _ => Some(0),
        }
    }

    /// The sequence number of a shard's so many-th record.
    pub(crate) fn number_of(&self, shard: &str, carrier: usize) -> SequenceNumber {
        self.stored(shard).unwrap().carriers[carrier]
            .sequence_number
            .clone()
    }

    fn ordinal(&self, shard: &str, position: &Position) -> Option<usize> {
        let key = (
            position.sequence_number.as_str().to_owned(),
            position.sub_sequence_number,
        );
        self.stored(shard)?.ordinals.get(&key).copied()
    }

    // === what Kinesis answers ===

    pub(crate) fn list(&self, filter: ShardFilter) -> Vec<Shard> {
        let shards = self.shards.iter().map(|stored| &stored.shard);
        match filter {
            ShardFilter::AtTrimHorizon => shards
                .filter(|shard| shard.parents.is_empty())
                .cloned()
                .collect(),
            ShardFilter::AtLatest => shards.filter(|shard| !shard.closed).cloned().collect(),
            ShardFilter::All | ShardFilter::AtTimestamp(_) => shards.cloned().collect(),
        }
    }

    pub(crate) fn iterator(&self, shard: &str, from: &StartFrom) -> Result<String, KinesisError> {
        let stored = self
            .stored(shard)
            .ok_or_else(|| KinesisError::NotFound(shard.to_owned()))?;
        let position = |number: &SequenceNumber| {
            stored
                .carriers
                .partition_point(|record| record.sequence_number < *number)
        };
        let next = match from {
            StartFrom::TrimHorizon => 0,
            StartFrom::Latest => stored.carriers.len(),
            StartFrom::AtTimestamp(time) => stored
                .carriers
                .partition_point(|record| record.arrival < Some(*time)),
            StartFrom::AtSequenceNumber(number) => position(number),
            StartFrom::AfterSequenceNumber(number) => stored
                .carriers
                .partition_point(|record| record.sequence_number <= *number),
        };
        Ok(self.issue(shard, next))
    }

    fn issue(&self, shard: &str, next: usize) -> String {
        format!("{shard} {next} {}", self.began.elapsed().as_millis())
    }

    /// A page of at most `limit` carriers. `tell_children`: some emulators do not.
    pub(crate) fn page(
        &self,
        iterator: &str,
        limit: usize,
        tell_children: bool,
    ) -> Result<Page, KinesisError> {
        let parts: Vec<_> = iterator.split(' ').collect();
        let [shard, next, issued] = parts[..] else {
            return Err(KinesisError::Permanent(format!("no iterator: {iterator}")));
        };
        let age = self.began.elapsed().as_millis() - issued.parse::<u128>().unwrap();
        if age > self.iterator_life.as_millis() {
            return Err(KinesisError::ExpiredIterator(iterator.to_owned()));
        }
        let stored = self.stored(shard).unwrap();
        let start: usize = next.parse().unwrap();
        let end = (start + limit).min(stored.carriers.len());
        let at_end = end == stored.carriers.len();
        let is_over = at_end && stored.shard.closed;
        let children = self
            .shards
            .iter()
            .map(|child| &child.shard)
            .filter(|child| child.parents.contains(shard));
        let children = children.map(|child| ChildShard {
            id: child.id.clone(),
            parents: child.parents.clone(),
            hash_range: child.hash_range,
        });
        Ok(Page {
            records: stored.carriers[start..end].to_vec(),
            next_iterator: (!is_over).then(|| self.issue(shard, end)),
            millis_behind_latest: if at_end { 0 } else { 1000 },
            children: if is_over && tell_children {
                children.collect()
            } else {
                Vec::new()
            },
        })
    }
}
