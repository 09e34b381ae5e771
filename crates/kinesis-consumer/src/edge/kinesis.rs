//! What the library asks of Kinesis, as a seam: `sdk` asks AWS, `memory` is for tests.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_edge::Room;

use crate::{
    edge::failure::CallError,
    model::{
        keys::ShardId,
        record::Record,
        sequence::SequenceNumber,
        shard::{ChildShard, Shard},
    },
};

#[cfg(feature = "test-util")]
pub(crate) mod memory;
pub(crate) mod sdk;

pub use kinesis_edge::{Consumer, ConsumerStatus, ShardFilter};

/// Where to start reading. KCL resumes at a sequence number for the rest of an aggregate.
pub type StartFrom = kinesis_edge::StartFrom<SequenceNumber>;

/// One answer of `GetRecords`.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Records in order, as they came: aggregates whole.
    pub records: Vec<Record>,
    /// Where to go on; `None`: the closed shard's end.
    pub next_iterator: Option<String>,
    /// How far behind the tip the page's end is, in milliseconds.
    pub millis_behind_latest: i64,
    /// The children, at a closed shard's end.
    pub children: Vec<ChildShard>,
}

/// What a subscription brings.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionEvent {
    /// Records in order, as they came: aggregates whole; often none.
    pub records: Vec<Record>,
    /// After which number the next subscription goes on; `None`: the closed shard's end.
    pub continuation: Option<SequenceNumber>,
    /// How far behind the tip the event's end is, in milliseconds.
    pub millis_behind_latest: i64,
    /// The children, at a closed shard's end.
    pub children: Vec<ChildShard>,
}

/// Why a call to Kinesis failed, by what is to be done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KinesisError {
    /// A rate of this shard or of the account is exceeded: ask again later.
    #[error("throttled: {0}")]
    Throttled(#[source] CallError),
    /// The iterator is too old: get a new one, after the last fetched record.
    #[error("iterator expired: {0}")]
    ExpiredIterator(#[source] CallError),
    /// The sequence number is not of this shard, or older than the retention period.
    #[error("sequence number refused: {0}")]
    InvalidSequenceNumber(#[source] CallError),
    /// No such stream, shard or consumer.
    #[error("not found: {0}")]
    NotFound(#[source] CallError),
    /// The consumer has another subscription to the shard, or is being made: ask again later.
    #[error("in use: {0}")]
    InUse(#[source] CallError),
    /// The stream has as many consumers as it may have: waiting does not help.
    #[error("{0}")]
    LimitExceeded(#[source] CallError),
    /// Denied, no credentials, KMS key disabled: waiting does not help.
    #[error("{0}")]
    Permanent(#[source] CallError),
    /// No answer in time: ask again, for less.
    #[error("{0}")]
    Timeout(#[source] CallError),
    /// The page is larger than there is room for, and was not read: ask again with more room.
    #[error("{0}")]
    NoRoom(#[source] CallError),
    /// 5xx, broken connection: ask again.
    #[error("{0}")]
    Unavailable(#[source] CallError),
}

impl KinesisError {
    /// AWS's error code, such as `ExpiredIteratorException`. `None`: AWS gave no usable answer.
    pub fn code(&self) -> Option<&str> {
        let (Self::Throttled(error)
        | Self::ExpiredIterator(error)
        | Self::InvalidSequenceNumber(error)
        | Self::NotFound(error)
        | Self::InUse(error)
        | Self::LimitExceeded(error)
        | Self::Permanent(error)
        | Self::Timeout(error)
        | Self::NoRoom(error)
        | Self::Unavailable(error)) = self;
        error.code()
    }

    /// Whether Kinesis finds no sense in the request, such as a time that is to come.
    pub(crate) fn is_of_argument(&self) -> bool {
        matches!(self, Self::Permanent(error) if error.is_of_request())
    }

    /// Whether waiting is not known to mend it.
    pub(crate) fn stands(&self) -> bool {
        match self {
            Self::Permanent(_) | Self::LimitExceeded(_) => true,
            Self::Unavailable(error) => error.is_refusal(),
            Self::Throttled(_)
            | Self::ExpiredIterator(_)
            | Self::InvalidSequenceNumber(_)
            | Self::NotFound(_)
            | Self::InUse(_)
            | Self::Timeout(_)
            | Self::NoRoom(_) => false,
        }
    }
}

/// One stream, as one worker reads it.
#[async_trait]
pub trait Kinesis: fmt::Debug + Send + Sync {
    /// The shards, all pages.
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError>;

    /// An iterator, good for 5 minutes.
    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError>;

    /// The next page: at most `limit` records and 10 MiB.
    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError>;

    /// The same, if there is room for its bytes on the wire. Where those cannot be known before
    /// they are read, `limit` has to do.
    async fn records_within(
        &self,
        iterator: &str,
        limit: u32,
        room: Room,
    ) -> Result<Page, KinesisError> {
        drop(room);
        self.records(iterator, limit).await
    }

    /// The time there, or a little earlier. `None`: nobody has said.
    fn now(&self) -> Option<Timestamp> {
        None
    }

    /// This machine's own time, for where the other turns out to be wrong.
    fn this_machines_time(&self) -> Option<Timestamp> {
        None
    }

    /// The consumer of that name, if the stream has one.
    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, KinesisError> {
        let _ = name;
        Err(no_fan_out())
    }

    /// Registers a consumer of that name.
    async fn register_consumer(&self, name: &str) -> Result<Consumer, KinesisError> {
        let _ = name;
        Err(no_fan_out())
    }

    /// Subscribes a consumer, by its ARN, to a shard.
    async fn subscribe(
        &self,
        consumer: &str,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<Box<dyn Subscription>, KinesisError> {
        let _ = (consumer, shard, from);
        Err(no_fan_out())
    }
}

fn no_fan_out() -> KinesisError {
    KinesisError::Permanent("there is no enhanced fan-out here".into())
}

/// A subscription to a shard; it ends when dropped.
#[async_trait]
pub trait Subscription: fmt::Debug + Send {
    /// Waits for an event to begin: the bytes that it has on the wire, of which none need be read
    /// yet. `None`: the subscription is over.
    async fn arriving(&mut self) -> Result<Option<usize>, KinesisError>;

    /// Nothing comes of it: no other call is to go by its connection.
    fn condemn(&self) {}

    /// The event that has begun. `None`: it is of no kind that matters.
    async fn event(&mut self) -> Result<Option<SubscriptionEvent>, KinesisError>;
}
