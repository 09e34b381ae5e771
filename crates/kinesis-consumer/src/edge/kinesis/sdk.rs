//! Kinesis by the AWS SDK.
//!
//! ListShards is retried by the SDK as the client says. GetShardIterator and GetRecords are not
//! retried here at all: their limits are each shard's own, and whoever reads the shard backs off
//! for that shard alone. So it is with subscriptions, and with the calls about consumers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kinesis_edge::{
    AwsClock, ClientSettings, Consumer, Failure, Gate, Kind, KinesisClient, Room, Stream,
};
use tokio::sync::OnceCell;
use tracing::warn;

use crate::{
    edge::{
        failure::CallError,
        kinesis::{
            Kinesis, KinesisError, Page, ShardFilter, StartFrom, Subscription, SubscriptionEvent,
        },
    },
    model::{
        keys::ShardId,
        record::Record,
        sequence::{InvalidSequenceNumber, SequenceNumber},
        shard::{ChildShard, HashRange, Shard},
    },
};

/// What ListShards gets where the client handed in has no setting of its own.
pub(crate) const LISTS: ClientSettings = ClientSettings {
    connect_timeout: Some(Duration::from_secs(2)),
    read_timeout: None,
    attempt_timeout: Some(Duration::from_secs(5)),
    operation_timeout: Some(Duration::from_secs(15)),
    attempts: None,
};

/// What GetShardIterator and GetRecords get where the client handed in has no setting of its own:
/// one attempt, with the time that 10 MiB take on a slow line.
pub(crate) const READS: ClientSettings = ClientSettings {
    attempt_timeout: Some(Duration::from_secs(30)),
    operation_timeout: Some(Duration::from_secs(30)),
    attempts: Some(1),
    ..LISTS
};

/// What SubscribeToShard gets, and the calls about consumers, where the client handed in has no
/// setting of its own. They end with the beginning of the answer: a subscription has none.
pub(crate) const SUBSCRIPTIONS: ClientSettings = ClientSettings {
    attempts: Some(1),
    ..LISTS
};

/// One stream of AWS.
#[derive(Clone, Debug)]
pub struct SdkKinesis {
    lists: Stream,
    reads: Stream,
    subscriptions: Stream,
    arn: Arc<OnceCell<String>>,
    clock: AwsClock,
    /// Was it told that this machine's clock stands in?
    warned: Arc<AtomicBool>,
}

/// AWS refuses signatures that are five minutes off. The SDK corrects the next one by what the
/// answer says, in each client for itself.
const SKEW: SignedDuration = SignedDuration::from_mins(4);

impl SdkKinesis {
    /// The stream of that name or ARN. The client gets [`LISTS`], [`READS`] and [`SUBSCRIPTIONS`]
    /// where it has none.
    pub fn new(client: KinesisClient, stream: impl Into<String>) -> Self {
        let stream = stream.into();
        let clock = AwsClock::default();
        let client = clock.hear_kinesis(&client);
        Self {
            lists: Stream::new(LISTS.complete_kinesis(&client), stream.as_str()),
            reads: Stream::new(READS.complete_kinesis(&client), stream.as_str()).heeding_room(),
            subscriptions: Stream::new(SUBSCRIPTIONS.complete_kinesis(&client), stream).patient(),
            arn: Arc::default(),
            clock,
            warned: Arc::default(),
        }
    }

    /// The same with a gate before each list of shards.
    #[must_use]
    pub(crate) fn listing_behind(mut self, gate: Arc<dyn Gate>) -> Self {
        self.lists = self.lists.behind(gate);
        self
    }

    /// Another stream of that name or ARN, by the same clients.
    pub(crate) fn another(&self, stream: &str) -> Self {
        Self {
            lists: self.lists.another(stream),
            reads: self.reads.another(stream),
            subscriptions: self.subscriptions.another(stream),
            arn: Arc::default(),
            clock: self.clock.clone(),
            warned: Arc::clone(&self.warned),
        }
    }

    fn error(&self, failure: &Failure) -> KinesisError {
        let is_skewed = self.clock.ahead().is_some_and(|ahead| ahead.abs() > SKEW);
        match to_error(self.reads.as_str(), failure) {
            KinesisError::Permanent(error)
                if is_skewed && failure.kind == Kind::Unauthenticated =>
            {
                KinesisError::Unavailable(error)
            }
            error => error,
        }
    }

    fn odd(&self, operation: &str, what: &InvalidSequenceNumber) -> KinesisError {
        let stream = self.reads.as_str();
        KinesisError::Unavailable(format!("{operation} of {stream}: {what}").into())
    }
}

#[async_trait]
impl Kinesis for SdkKinesis {
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        let shards = self.lists.shards(filter).await;
        let shards = shards.map_err(|failure| self.error(&failure))?;
        let shards: Result<_, _> = shards.into_iter().map(to_shard).collect();
        shards.map_err(|odd| self.odd("ListShards", &odd))
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError> {
        let iterator = self.reads.iterator(shard.as_str(), from).await;
        iterator.map_err(|failure| self.error(&failure))
    }

    fn now(&self) -> Option<Timestamp> {
        if self.clock.is_this_machines() && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                "Kinesis' answers have no Date that can be read: this machine's clock says since when \
                 LATEST stands"
            );
        }
        self.clock.now()
    }

    fn this_machines_time(&self) -> Option<Timestamp> {
        Some(AwsClock::this_machines())
    }

    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError> {
        self.page(self.reads.records(iterator, limit).await)
    }

    async fn records_within(
        &self,
        iterator: &str,
        limit: u32,
        room: Room,
    ) -> Result<Page, KinesisError> {
        self.page(self.reads.records_within(iterator, limit, room).await)
    }

    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, KinesisError> {
        let arn = self.arn().await?;
        let consumer = self.subscriptions.consumer(arn, name).await;
        match consumer.map_err(|failure| self.error(&failure)) {
            Ok(consumer) => Ok(Some(consumer)),
            Err(KinesisError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn register_consumer(&self, name: &str) -> Result<Consumer, KinesisError> {
        let arn = self.arn().await?;
        let consumer = self.subscriptions.register_consumer(arn, name).await;
        consumer.map_err(|failure| self.error(&failure))
    }

    async fn subscribe(
        &self,
        consumer: &str,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<Box<dyn Subscription>, KinesisError> {
        let shard = shard.as_str();
        let subscription = self.subscriptions.subscribe(consumer, shard, from).await;
        let subscription = subscription.map_err(|failure| self.error(&failure))?;
        Ok(Box::new(SdkSubscription {
            kinesis: self.clone(),
            subscription,
        }))
    }
}

/// A subscription of AWS's.
#[derive(Debug)]
struct SdkSubscription {
    kinesis: SdkKinesis,
    subscription: kinesis_edge::Subscription,
}

#[async_trait]
impl Subscription for SdkSubscription {
    async fn arriving(&mut self) -> Result<Option<usize>, KinesisError> {
        let bytes = self.subscription.arriving().await;
        let bytes = bytes.map_err(|failure| self.kinesis.error(&failure))?;
        Ok(bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    fn condemn(&self) {
        self.subscription.condemn();
    }

    async fn event(&mut self) -> Result<Option<SubscriptionEvent>, KinesisError> {
        let event = self.subscription.event().await;
        let event = event.map_err(|failure| self.kinesis.error(&failure))?;
        let event = event.map(to_event).transpose();
        event.map_err(|odd| self.kinesis.odd("SubscribeToShard", &odd))
    }
}

impl SdkKinesis {
    /// The stream's ARN, asked for once where it was not given.
    async fn arn(&self) -> Result<&str, KinesisError> {
        let arn = self.arn.get_or_try_init(|| self.subscriptions.arn()).await;
        let arn = arn.map_err(|failure| self.error(&failure))?;
        Ok(arn)
    }

    fn page(&self, page: Result<kinesis_edge::Page, Failure>) -> Result<Page, KinesisError> {
        let page = page.map_err(|failure| self.error(&failure))?;
        let records: Result<_, _> = page.records.into_iter().map(to_record).collect();
        Ok(Page {
            records: records.map_err(|odd| self.odd("GetRecords", &odd))?,
            next_iterator: page.next_iterator,
            millis_behind_latest: page.millis_behind_latest,
            children: page.children.into_iter().map(to_child).collect(),
        })
    }
}

fn is_of_consumers(failure: &Failure) -> bool {
    let operations = [
        "DescribeStreamConsumer",
        "RegisterStreamConsumer",
        "SubscribeToShard",
    ];
    operations.contains(&failure.operation)
}

pub(crate) fn to_error(stream: &str, failure: &Failure) -> KinesisError {
    let asked = format!("{} of {stream}", failure.operation);
    let of_consumer = is_of_consumers(failure) && failure.operation != "RegisterStreamConsumer";
    let whose = if of_consumer { "consumer of " } else { "" };
    let thing = format!("{whose}stream {stream}");
    let error = CallError::new(&asked, &thing, failure.clone());
    match failure.kind {
        // Credentials may come: the chain is asked again at the next call.
        _ if failure.is_of_credentials() => KinesisError::Unavailable(error),
        Kind::Throttled => KinesisError::Throttled(error),
        Kind::Timeout => KinesisError::Timeout(error),
        Kind::NoRoom => KinesisError::NoRoom(error),
        Kind::ExpiredIterator => KinesisError::ExpiredIterator(error),
        Kind::InvalidPosition => KinesisError::InvalidSequenceNumber(error),
        Kind::NotFound => KinesisError::NotFound(error),
        Kind::InUse if is_of_consumers(failure) => KinesisError::InUse(error),
        Kind::LimitReached => KinesisError::LimitExceeded(error),
        Kind::Invalid | Kind::Denied | Kind::Unauthenticated => KinesisError::Permanent(error),
        _ => KinesisError::Unavailable(error),
    }
}

/// A shard as ListShards has it.
///
/// # Errors
/// Its sequence number is none.
pub fn to_shard(shard: kinesis_edge::Shard) -> Result<Shard, InvalidSequenceNumber> {
    Ok(Shard {
        id: shard.id.into(),
        parents: shard.parents.into_iter().map(ShardId::from).collect(),
        hash_range: HashRange::from(shard.hash_range),
        starting_sequence_number: shard.starting_sequence_number.try_into()?,
        closed: shard.closed,
    })
}

fn to_record(record: kinesis_edge::Record) -> Result<Record, InvalidSequenceNumber> {
    Ok(Record {
        sequence_number: record.sequence_number.try_into()?,
        sub_sequence_number: 0,
        aggregated: false,
        partition_key: record.partition_key,
        explicit_hash_key: None,
        data: record.data,
        arrival: record.arrival,
    })
}

fn to_event(
    event: kinesis_edge::SubscriptionEvent,
) -> Result<SubscriptionEvent, InvalidSequenceNumber> {
    let records: Result<_, _> = event.records.into_iter().map(to_record).collect();
    let continuation = event.continuation.map(SequenceNumber::try_from);
    Ok(SubscriptionEvent {
        records: records?,
        continuation: continuation.transpose()?,
        millis_behind_latest: event.millis_behind_latest,
        children: event.children.into_iter().map(to_child).collect(),
    })
}

fn to_child(child: kinesis_edge::ChildShard) -> ChildShard {
    ChildShard {
        id: child.id.into(),
        parents: child.parents.into_iter().map(ShardId::from).collect(),
        hash_range: HashRange::from(child.hash_range),
    }
}
