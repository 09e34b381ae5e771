//! Consumers with enhanced fan-out, and subscriptions to a stream in memory.
//!
//! As AWS has it: a consumer is being made for a second; a second subscription of one to a shard is
//! refused for five seconds, and takes over afterwards; each ends after five minutes; an event
//! comes each five seconds, if only to say that nothing came. Its continuation is a number that no
//! record need have.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::MemoryStream;
use crate::{
    edge::kinesis::{
        Consumer, ConsumerStatus, KinesisError, StartFrom, Subscription, SubscriptionEvent,
    },
    model::{
        keys::ShardId,
        sequence::SequenceNumber,
        shard::{ChildShard, Shard},
    },
};

const MADE_IN: Duration = Duration::from_secs(1);
const APART: Duration = Duration::from_secs(5);
const SESSION: Duration = Duration::from_secs(300);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How soon a record is on its way.
const TICK: Duration = Duration::from_millis(100);

/// Consumers and subscriptions of a stream.
#[derive(Clone, Debug)]
pub(super) struct Consumers {
    most: usize,
    /// By ARN: when each was registered.
    registered: BTreeMap<String, Duration>,
    /// By consumer and shard: the newest one's number, and when it began.
    subscriptions: BTreeMap<(String, ShardId), (u64, Duration)>,
    next: u64,
}

impl Default for Consumers {
    fn default() -> Self {
        Self {
            most: 20,
            registered: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            next: 0,
        }
    }
}

/// Where a subscription to a stream in memory stands.
#[derive(Clone, Debug)]
pub struct Place {
    of: (String, ShardId),
    number: u64,
    /// By the stream's clock: it goes on while who reads is suspended.
    began: Timestamp,
    /// The record that comes next.
    next: usize,
}

/// What a stream in memory has for a subscription.
#[derive(Clone, Debug)]
pub enum Pushed {
    /// That is sent.
    Event(SubscriptionEvent),
    /// Nothing came.
    Nothing,
    /// The subscription is over.
    Over,
}

impl MemoryStream {
    /// The stream may have so many consumers; 20 otherwise.
    #[must_use]
    pub fn with_most_consumers(mut self, most: usize) -> Self {
        self.consumers.most = most;
        self
    }

    /// What `DescribeStreamConsumer` answers.
    pub fn consumer(&self, name: &str) -> Option<Consumer> {
        let arn = arn(name);
        let registered = self.consumers.registered.get(&arn)?;
        let is_made = self.began.elapsed() >= *registered + MADE_IN;
        Some(Consumer {
            arn,
            status: if is_made {
                ConsumerStatus::Active
            } else {
                ConsumerStatus::Creating
            },
        })
    }

    /// What `RegisterStreamConsumer` answers.
    ///
    /// # Errors
    /// There is one of that name, or as many as there may be.
    pub fn register_consumer(&mut self, name: &str) -> Result<Consumer, KinesisError> {
        let arn = arn(name);
        let Consumers {
            registered, most, ..
        } = &mut self.consumers;
        if registered.contains_key(&arn) {
            return Err(KinesisError::InUse(format!("{arn} is registered").into()));
        }
        if registered.len() >= *most {
            let text = format!("the stream has {most} consumers");
            return Err(KinesisError::LimitExceeded(text.into()));
        }
        registered.insert(arn.clone(), self.began.elapsed());
        Ok(Consumer {
            arn,
            status: ConsumerStatus::Creating,
        })
    }

    /// Somebody deregisters a consumer: its subscriptions end.
    pub fn deregister_consumer(&mut self, name: &str) {
        let arn = arn(name);
        self.consumers.registered.remove(&arn);
        let subscriptions = &mut self.consumers.subscriptions;
        subscriptions.retain(|(consumer, _), _| *consumer != arn);
    }

    /// What `SubscribeToShard` answers.
    ///
    /// # Errors
    /// No such consumer or shard, a position that is gone, or another subscription that is new.
    pub fn subscribe(
        &mut self,
        consumer: &str,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<Place, KinesisError> {
        let now = self.began.elapsed();
        let registered = self.consumers.registered.get(consumer);
        let unknown = || KinesisError::NotFound(format!("no consumer {consumer}").into());
        if now < *registered.ok_or_else(unknown)? + MADE_IN {
            return Err(KinesisError::InUse("it is being made".into()));
        }
        let next = self.position(shard, from)?;
        let of = (consumer.to_owned(), shard.clone());
        let standing = self.consumers.subscriptions.get(&of);
        if standing.is_some_and(|(_, began)| now < *began + APART) {
            return Err(KinesisError::InUse("another subscription is new".into()));
        }
        self.consumers.next += 1;
        let number = self.consumers.next;
        let subscriptions = &mut self.consumers.subscriptions;
        subscriptions.insert(of.clone(), (number, now));
        Ok(Place {
            of,
            number,
            began: self.now(),
            next,
        })
    }

    /// What comes to a subscription: at most `limit` records. `idle`: an event also where nothing
    /// came.
    ///
    /// # Errors
    /// Another subscription took over, or there is no such consumer any more.
    pub fn push(
        &self,
        place: &mut Place,
        limit: usize,
        idle: bool,
    ) -> Result<Pushed, KinesisError> {
        match self.consumers.subscriptions.get(&place.of) {
            None => return Err(KinesisError::NotFound("no such consumer".into())),
            Some((number, _)) if *number != place.number => {
                return Err(KinesisError::InUse("another subscription took over".into()));
            }
            Some(_) if self.now() >= place.began + SESSION => return Ok(Pushed::Over),
            Some(_) => {}
        }
        let unknown = || KinesisError::NotFound(place.of.1.as_str().into());
        let index = self.index(&place.of.1).ok_or_else(unknown)?;
        let (shard, records) = &self.shards[index];
        let start = place.next.max(self.trimmed[index]);
        let end = (start + limit).min(records.len());
        let at_end = end == records.len();
        let is_over = at_end && shard.closed;
        if at_end && start == end && !is_over && !idle {
            return Ok(Pushed::Nothing);
        }
        place.next = end;
        let is_child = |child: &&Shard| is_over && child.parents.contains(&shard.id);
        Ok(Pushed::Event(SubscriptionEvent {
            records: records[start..end].to_vec(),
            continuation: (!is_over).then(|| self.continuation(index, end)),
            millis_behind_latest: if at_end { 0 } else { 1000 },
            children: self
                .shards()
                .filter(is_child)
                .map(ChildShard::from)
                .collect(),
        }))
    }

    /// After which number reading goes on at that record.
    fn continuation(&self, shard: usize, next: usize) -> SequenceNumber {
        let (shard, records) = &self.shards[shard];
        if next == records.len() {
            // All later numbers are larger.
            return self.last_number();
        }
        let before = next.checked_sub(1).map(|before| &records[before]);
        before.map_or_else(
            || shard.starting_sequence_number.clone(),
            |record| record.sequence_number.clone(),
        )
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:kinesis:memory:consumer/{name}")
}

/// A subscription to a stream in memory, which `push` reaches: what [`MemoryStream::push`] says of
/// the place, `true` where an event is due.
pub struct MemorySubscription<F> {
    push: F,
    place: Place,
    event: Option<SubscriptionEvent>,
    pushed: Instant,
}

impl<F> fmt::Debug for MemorySubscription<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MemorySubscription");
        shown.field("place", &self.place).finish_non_exhaustive()
    }
}

impl<F: FnMut(&mut Place, bool) -> Result<Pushed, KinesisError>> MemorySubscription<F> {
    /// One that has just begun there.
    pub fn new(place: Place, push: F) -> Self {
        Self {
            push,
            place,
            event: None,
            pushed: Instant::now(),
        }
    }
}

#[async_trait]
impl<F> Subscription for MemorySubscription<F>
where
    F: FnMut(&mut Place, bool) -> Result<Pushed, KinesisError> + Send,
{
    async fn arriving(&mut self) -> Result<Option<usize>, KinesisError> {
        loop {
            let is_due = self.pushed.elapsed() >= HEARTBEAT;
            match (self.push)(&mut self.place, is_due)? {
                Pushed::Event(event) => {
                    let data = event.records.iter().map(|record| record.data.len());
                    let bytes = data.sum();
                    self.pushed = Instant::now();
                    self.event = Some(event);
                    return Ok(Some(bytes));
                }
                Pushed::Nothing => sleep(TICK).await,
                Pushed::Over => return Ok(None),
            }
        }
    }

    async fn event(&mut self) -> Result<Option<SubscriptionEvent>, KinesisError> {
        Ok(self.event.take())
    }
}
