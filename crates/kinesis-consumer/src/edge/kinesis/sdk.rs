//! Kinesis by the AWS SDK.
//!
//! ListShards is retried by the SDK as the client says. GetShardIterator and GetRecords are not
//! retried here at all: their limits are each shard's own, and whoever reads the shard backs off
//! for that shard alone.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kinesis_edge::{AwsClock, ClientSettings, Failure, Kind, KinesisClient, Room, Stream};

use crate::{
    edge::{
        failure::CallError,
        kinesis::{Kinesis, KinesisError, Page, ShardFilter, StartFrom},
    },
    model::{
        keys::ShardId,
        record::Record,
        sequence::InvalidSequenceNumber,
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

/// One stream of AWS.
#[derive(Clone, Debug)]
pub struct SdkKinesis {
    lists: Stream,
    reads: Stream,
    clock: AwsClock,
}

/// AWS refuses signatures that are five minutes off. The SDK corrects the next one by what the
/// answer says, in each client for itself.
const SKEW: SignedDuration = SignedDuration::from_mins(4);

impl SdkKinesis {
    /// The stream of that name or ARN. The client gets [`LISTS`] and [`READS`] where it has none.
    pub fn new(client: KinesisClient, stream: impl Into<String>) -> Self {
        let stream = stream.into();
        let clock = AwsClock::default();
        let client = clock.hear_kinesis(&client);
        Self {
            lists: Stream::new(LISTS.complete_kinesis(&client), stream.as_str()),
            reads: Stream::new(READS.complete_kinesis(&client), stream).heeding_room(),
            clock,
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
        self.clock.now()
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
}

impl SdkKinesis {
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

fn to_error(stream: &str, failure: &Failure) -> KinesisError {
    let asked = format!("{} of {stream}", failure.operation);
    let error = CallError::new(&asked, &format!("stream {stream}"), failure.clone());
    match failure.kind {
        // Credentials may come: the chain is asked again at the next call.
        _ if failure.is_of_credentials() => KinesisError::Unavailable(error),
        Kind::Throttled => KinesisError::Throttled(error),
        Kind::Timeout => KinesisError::Timeout(error),
        Kind::NoRoom => KinesisError::NoRoom(error),
        Kind::ExpiredIterator => KinesisError::ExpiredIterator(error),
        Kind::InvalidPosition => KinesisError::InvalidSequenceNumber(error),
        Kind::NotFound => KinesisError::NotFound(error),
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

fn to_child(child: kinesis_edge::ChildShard) -> ChildShard {
    ChildShard {
        id: child.id.into(),
        parents: child.parents.into_iter().map(ShardId::from).collect(),
        hash_range: HashRange::from(child.hash_range),
    }
}
