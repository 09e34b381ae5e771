//! Kinesis by the AWS SDK.
//!
//! ListShards is retried by the SDK as the client says. GetShardIterator and GetRecords are not retried here at all: their limits are
//! each shard's own, and whoever reads the shard backs off for that shard alone.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use aws_sdk_kinesis::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    error::ProvideErrorMetadata,
    primitives::DateTime,
    types,
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    edge::kinesis::{Kinesis, KinesisError, Page, ShardFilter, StartFrom},
    model::{
        record::Record,
        sequence::SequenceNumber,
        shard::{ChildShard, HashRange, Shard, ShardId},
    },
};

mod failure;

use failure::classify;

/// A list of shards is begun anew so often because its token expired (after 300 s).
const LISTINGS: usize = 3;

/// What ListShards gets where the client handed in has no setting of its own.
pub fn list_timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(15))
        .build()
}

/// What GetShardIterator and GetRecords get where the client handed in has no setting of its own: one attempt, with the time that
/// 10 MiB take on a slow line.
pub fn read_timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(30))
        .operation_timeout(Duration::from_secs(30))
        .build()
}

/// One stream of AWS.
#[derive(Clone, Debug)]
pub struct SdkKinesis {
    lists: Client,
    reads: Client,
    name: Option<String>,
    arn: Option<String>,
}

impl SdkKinesis {
    /// The stream of that name or ARN. The client gets [`list_timeouts`] and [`read_timeouts`] where it has none.
    pub fn new(client: Client, stream: impl Into<String>) -> Self {
        let stream = stream.into();
        let (name, arn) = if stream.starts_with("arn:") {
            (None, Some(stream))
        } else {
            (Some(stream), None)
        };
        let set = client
            .config()
            .timeout_config()
            .map(TimeoutConfig::to_builder)
            .unwrap_or_default();
        let with = |timeouts: TimeoutConfig| {
            let timeouts = set.clone().take_unset_from(timeouts.to_builder()).build();
            client.config().to_builder().timeout_config(timeouts)
        };
        Self {
            lists: Client::from_conf(with(list_timeouts()).build()),
            reads: Client::from_conf(
                with(read_timeouts())
                    .retry_config(RetryConfig::disabled())
                    .build(),
            ),
            name,
            arn,
        }
    }

    fn stream(&self) -> &str {
        self.arn
            .as_deref()
            .or(self.name.as_deref())
            .unwrap_or_default()
    }

    /// A whole list; `None`: its token expired on the way.
    async fn list(&self, filter: &types::ShardFilter) -> Result<Option<Vec<Shard>>, KinesisError> {
        let mut shards = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let request = self.lists.list_shards().set_stream_arn(self.arn.clone());
            let request = match token.take() {
                // A token stands for the stream and the filter. (Kinesis refuses name and filter beside it.)
                Some(token) => request.set_stream_arn(None).next_token(token),
                None => request
                    .set_stream_name(self.name.clone())
                    .shard_filter(filter.clone()),
            };
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) if error.code() == Some("ExpiredNextTokenException") => return Ok(None),
                Err(error) => return Err(classify("ListShards", self.stream(), &error)),
            };
            for shard in answer.shards.unwrap_or_default() {
                shards.push(to_shard(shard)?);
            }
            token = answer.next_token;
            if token.is_none() {
                return Ok(Some(shards));
            }
        }
    }
}

#[async_trait]
impl Kinesis for SdkKinesis {
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        let (kind, time) = match filter {
            ShardFilter::All => (types::ShardFilterType::FromTrimHorizon, None),
            ShardFilter::AtTrimHorizon => (types::ShardFilterType::AtTrimHorizon, None),
            ShardFilter::AtLatest => (types::ShardFilterType::AtLatest, None),
            ShardFilter::AtTimestamp(time) => (
                types::ShardFilterType::AtTimestamp,
                Some(to_date_time(time)),
            ),
        };
        let filter = types::ShardFilter::builder()
            .r#type(kind)
            .set_timestamp(time)
            .build();
        let filter = filter.map_err(|error| KinesisError::Permanent(error.to_string()))?;
        for _ in 0..LISTINGS {
            if let Some(shards) = self.list(&filter).await? {
                return Ok(shards);
            }
        }
        Err(KinesisError::Unavailable(format!(
            "ListShards of {}: ExpiredNextTokenException, {LISTINGS} times in a row",
            self.stream()
        )))
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError> {
        use types::ShardIteratorType as Kind;
        let (kind, sequence_number, time) = match from {
            StartFrom::TrimHorizon => (Kind::TrimHorizon, None, None),
            StartFrom::Latest => (Kind::Latest, None, None),
            StartFrom::AtTimestamp(time) => (Kind::AtTimestamp, None, Some(to_date_time(*time))),
            StartFrom::AtSequenceNumber(number) => (
                Kind::AtSequenceNumber,
                Some(number.as_str().to_owned()),
                None,
            ),
            StartFrom::AfterSequenceNumber(number) => (
                Kind::AfterSequenceNumber,
                Some(number.as_str().to_owned()),
                None,
            ),
        };
        let request = self
            .reads
            .get_shard_iterator()
            .set_stream_arn(self.arn.clone())
            .set_stream_name(self.name.clone())
            .shard_id(shard)
            .shard_iterator_type(kind)
            .set_starting_sequence_number(sequence_number)
            .set_timestamp(time);
        let answer = request
            .send()
            .await
            .map_err(|error| classify("GetShardIterator", self.stream(), &error))?;
        let missing = || {
            KinesisError::Unavailable(format!(
                "GetShardIterator of {}: no iterator",
                self.stream()
            ))
        };
        answer.shard_iterator.ok_or_else(missing)
    }

    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError> {
        let request = self
            .reads
            .get_records()
            .set_stream_arn(self.arn.clone())
            .shard_iterator(iterator);
        let answer = request
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await;
        let answer = answer.map_err(|error| classify("GetRecords", self.stream(), &error))?;
        // Without it the answer is none of Kinesis's; its missing iterator would look like the shard's end.
        let odd = || {
            KinesisError::Unavailable(format!(
                "GetRecords of {}: no MillisBehindLatest",
                self.stream()
            ))
        };
        let millis_behind_latest = answer.millis_behind_latest.ok_or_else(odd)?;
        Ok(Page {
            records: answer
                .records
                .into_iter()
                .map(to_record)
                .collect::<Result<_, _>>()?,
            next_iterator: answer.next_shard_iterator,
            millis_behind_latest,
            children: answer
                .child_shards
                .unwrap_or_default()
                .into_iter()
                .map(to_child)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Strings and data move over as they are.
fn to_record(record: types::Record) -> Result<Record, KinesisError> {
    Ok(Record {
        sequence_number: to_sequence_number(record.sequence_number)?,
        sub_sequence_number: 0,
        aggregated: false,
        partition_key: record.partition_key.unwrap_or_default(),
        explicit_hash_key: None,
        data: Bytes::from(record.data.into_inner()),
        arrival: record.approximate_arrival_timestamp.and_then(to_timestamp),
    })
}

/// A shard as ListShards tells it.
///
/// # Errors
/// It lacks what every shard has.
pub fn to_shard(shard: types::Shard) -> Result<Shard, KinesisError> {
    let odd = |what: &str| {
        KinesisError::Unavailable(format!(
            "ListShards: shard {} without {what}",
            shard.shard_id
        ))
    };
    let numbers = shard
        .sequence_number_range
        .as_ref()
        .ok_or_else(|| odd("SequenceNumberRange"))?;
    Ok(Shard {
        hash_range: to_range(shard.hash_key_range.as_ref())
            .ok_or_else(|| odd("a HashKeyRange of 128-bit numbers"))?,
        starting_sequence_number: to_sequence_number(numbers.starting_sequence_number.clone())?,
        closed: numbers.ending_sequence_number.is_some(),
        id: shard.shard_id,
        parents: [shard.parent_shard_id, shard.adjacent_parent_shard_id]
            .into_iter()
            .flatten()
            .collect(),
    })
}

fn to_child(child: types::ChildShard) -> Result<ChildShard, KinesisError> {
    let range = to_range(child.hash_key_range.as_ref());
    let odd = || {
        KinesisError::Unavailable(format!(
            "GetRecords: child shard {} without HashKeyRange",
            child.shard_id
        ))
    };
    Ok(ChildShard {
        hash_range: range.ok_or_else(odd)?,
        parents: child.parent_shards.into_iter().collect::<BTreeSet<_>>(),
        id: child.shard_id,
    })
}

fn to_range(range: Option<&types::HashKeyRange>) -> Option<HashRange> {
    let range = range?;
    Some(HashRange {
        start: range.starting_hash_key.parse().ok()?,
        end: range.ending_hash_key.parse().ok()?,
    })
}

fn to_sequence_number(text: String) -> Result<SequenceNumber, KinesisError> {
    SequenceNumber::try_from(text).map_err(|error| KinesisError::Unavailable(error.to_string()))
}

fn to_timestamp(time: DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

fn to_date_time(time: Timestamp) -> DateTime {
    DateTime::from_nanos(time.as_nanosecond())
        .unwrap_or_else(|_| DateTime::from_secs(time.as_second()))
}
