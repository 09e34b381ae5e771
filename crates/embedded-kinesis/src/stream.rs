//! A stream: its shards, its state, and the changes that are on their way.
//!
//! Nothing runs in the background. Whoever takes the stream's lock calls [`Stream::settle`] first,
//! which does what has become due: steps of a reshard, and shards past retention.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::millis;
use crate::config::Config;
use crate::consumers::Consumers;
use crate::hash::HashRange;
use crate::protocol::AwsError;
use crate::reshard::Step;
use crate::shard::{self, Parents, Shard};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Provisioned,
    OnDemand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Active,
    Updating,
    Deleting,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// Whose stream, where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn arn(&self) -> String {
        let Self {
            account,
            region,
            name,
        } = self;
        let partition = match region {
            r if r.starts_with("cn-") => "aws-cn",
            r if r.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:kinesis:{region}:{account}:stream/{name}")
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: Key,
    /// Tells a stream from an earlier one of the same name.
    pub(crate) id: u64,
    pub(crate) created: u64,
    pub(crate) mode: Mode,
    /// Milliseconds.
    pub(crate) retention: u64,
    pub(crate) max_record_kib: usize,
    /// When UpdateShardCount was called, in the last 24 h.
    pub(crate) updates: VecDeque<u64>,
    pub(crate) consumers: Consumers,
    shards: BTreeMap<u32, Shard>,
    /// Open shards in order of their ranges.
    open: Vec<(HashRange, u32)>,
    pending: VecDeque<(u64, Step)>,
    creating_until: u64,
    updating_until: u64,
    deleting_until: Option<u64>,
}

impl Stream {
    pub(crate) fn new(
        key: Key,
        mode: Mode,
        shards: usize,
        max_record_kib: usize,
        config: &Config,
        now: u64,
    ) -> Self {
        let mut stream = Self {
            key,
            id: fastrand::u64(..),
            created: now,
            mode,
            retention: millis(config.retention),
            max_record_kib,
            updates: VecDeque::new(),
            consumers: Consumers::default(),
            shards: BTreeMap::new(),
            open: Vec::new(),
            pending: VecDeque::new(),
            creating_until: now + millis(config.creating),
            updating_until: now,
            deleting_until: None,
        };
        for range in HashRange::uniform(shards) {
            stream.add(range, Parents::default(), now / 1000, now);
        }
        stream
    }

    pub(crate) fn settle(&mut self, now: u64) {
        while let Some((_, step)) = self.pending.pop_front_if(|(due, _)| *due <= now) {
            self.apply(step, now);
        }
        self.consumers.settle(now);
        let horizon = self.horizon(now);
        self.shards
            .retain(|_, shard| shard.closed.is_none_or(|closed| closed >= horizon));
    }

    /// Data from before this time is gone.
    pub(crate) fn horizon(&self, now: u64) -> u64 {
        now.saturating_sub(self.retention).max(self.created)
    }

    pub(crate) fn status(&self, now: u64) -> Status {
        match () {
            () if self.deleting_until.is_some() => Status::Deleting,
            () if now < self.creating_until => Status::Creating,
            () if now < self.updating_until => Status::Updating,
            () => Status::Active,
        }
    }

    pub(crate) fn gone(&self, now: u64) -> bool {
        self.deleting_until.is_some_and(|until| until <= now)
    }

    pub(crate) fn delete(&mut self, config: &Config, now: u64) {
        self.deleting_until
            .get_or_insert(now + millis(config.deleting));
        self.wake();
    }

    /// Whoever is subscribed to a shard looks again.
    pub(crate) fn wake(&self) {
        for shard in self.shards.values() {
            shard.changed.notify_waiters();
        }
    }

    /// When the next step of a reshard is due.
    pub(crate) fn next_step(&self) -> Option<u64> {
        self.pending.front().map(|(due, _)| *due)
    }

    /// Changes need an ACTIVE stream.
    pub(crate) fn must_be_active(&self, now: u64) -> Result<(), AwsError> {
        let Key { account, name, .. } = &self.key;
        match self.status(now) {
            Status::Active => Ok(()),
            other => Err(AwsError::in_use(format!(
                "Stream {name} under account {account} not ACTIVE, instead in state {}",
                other.name()
            ))),
        }
    }

    /// Reading and writing need an ACTIVE or UPDATING one: before that, AWS finds none.
    pub(crate) fn must_be_usable(&self, now: u64) -> Result<(), AwsError> {
        match self.status(now) {
            Status::Active | Status::Updating => Ok(()),
            Status::Creating | Status::Deleting => Err(not_found(&self.key)),
        }
    }

    /// The stream is UPDATING from now on; `steps` come one by one, the last at the end.
    pub(crate) fn update(&mut self, steps: Vec<Step>, config: &Config, now: u64) {
        let updating = millis(config.updating);
        let count = steps.len() as u64;
        let due = (1..).map(|i| now + updating * i / count.max(1));
        self.pending.extend(due.zip(steps));
        self.updating_until = now + updating;
        self.settle(now);
        // Steps that come later are done by whoever looks then.
        self.wake();
    }

    fn apply(&mut self, step: Step, now: u64) {
        match step {
            Step::Split { range, at } => {
                let Some(parent) = self.close(range, now) else {
                    return;
                };
                let (left, right) = range.cut(at);
                let parents = Parents {
                    parent: Some(parent),
                    adjacent: None,
                };
                let second = self.second_after(&[parent], now);
                self.add(left, parents, second, now);
                self.add(right, parents, second, now);
            }
            Step::Merge { shard, adjacent } => {
                let (Some(first), Some(second)) =
                    (self.close(shard, now), self.close(adjacent, now))
                else {
                    return;
                };
                let range = HashRange {
                    start: shard.start.min(adjacent.start),
                    end: shard.end.max(adjacent.end),
                };
                let parents = Parents {
                    parent: Some(first),
                    adjacent: Some(second),
                };
                let created_second = self.second_after(&[first, second], now);
                self.add(range, parents, created_second, now);
            }
        }
    }

    fn close(&mut self, range: HashRange, now: u64) -> Option<u32> {
        let at = self
            .open
            .binary_search_by_key(&range, |(open, _)| *open)
            .ok()?;
        let (_, number) = self.open.remove(at);
        let shard = self.shards.get_mut(&number)?;
        shard.closed = Some(now);
        shard.changed.notify_waiters();
        Some(number)
    }

    /// The second that the youngest shard counts as created in.
    pub(crate) fn latest_second(&self) -> u64 {
        let seconds = self.shards.values().map(|it| it.created_second);
        seconds.max().unwrap_or(0)
    }

    /// Before anything is written: its shards count as created in that second at the earliest, as
    /// those of a stream that is made anew, which takes AWS longer than a second.
    pub(crate) fn begin_at(&mut self, second: u64) {
        for shard in self.shards.values_mut() {
            shard.created_second = shard.created_second.max(second);
        }
    }

    /// So that a child's sequence numbers are greater than its parents'.
    fn second_after(&self, parents: &[u32], now: u64) -> u64 {
        let latest = parents
            .iter()
            .filter_map(|it| self.shards.get(it))
            .map(|it| it.created_second)
            .max();
        (now / 1000).max(latest.map_or(0, |second| second + 1))
    }

    fn add(&mut self, range: HashRange, parents: Parents, created_second: u64, now: u64) {
        // Numbers are never used twice, even when the latest shards are past retention: the open
        // ones are later still.
        let number = self.shards.last_key_value().map_or(0, |(last, _)| last + 1);
        let at = self
            .open
            .partition_point(|(open, _)| open.start < range.start);
        self.open.insert(at, (range, number));
        self.shards.insert(
            number,
            Shard::new(number, range, parents, created_second, now),
        );
    }

    /// Nothing is open while the stream is CREATING.
    pub(crate) fn open_count(&self, now: u64) -> usize {
        if self.status(now) == Status::Creating {
            0
        } else {
            self.open.len()
        }
    }

    pub(crate) fn open_ranges(&self) -> Vec<HashRange> {
        self.open.iter().map(|(range, _)| *range).collect()
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values()
    }

    /// The open shard that takes a hash key.
    pub(crate) fn shard_for(&mut self, hash_key: u128) -> Option<&mut Shard> {
        let at = self.open.partition_point(|(range, _)| range.end < hash_key);
        let (range, number) = self.open.get(at)?;
        debug_assert!(range.contains(hash_key), "{hash_key} is in no open range");
        self.shards.get_mut(number)
    }

    pub(crate) fn shard_by_id(&mut self, id: &str) -> Result<&mut Shard, AwsError> {
        let missing = || {
            let Key { account, name, .. } = &self.key;
            AwsError::not_found(format!(
                "Shard {id} in stream {name} under account {account} does not exist"
            ))
        };
        let missing = missing();
        shard::number(id)
            .and_then(|number| self.shards.get_mut(&number))
            .ok_or(missing)
    }

    /// The shards made of a shard.
    pub(crate) fn children(&self, number: u32) -> impl Iterator<Item = &Shard> {
        self.shards.values().filter(move |it| {
            it.parents.parent == Some(number) || it.parents.adjacent == Some(number)
        })
    }
}

pub(crate) fn not_found(key: &Key) -> AwsError {
    AwsError::not_found(format!(
        "Stream {} under account {} not found.",
        key.name, key.account
    ))
}
