//! Iterators, and pages of records.

use std::ops::RangeInclusive;

use aws_sdk_kinesis::{
    primitives::DateTime,
    types::{self, ShardIteratorType},
};
use bytes::Bytes;
use jiff::Timestamp;

use super::Stream;
use crate::{
    Failure,
    room::{Room, within},
};

/// Where to start reading. `N` holds a sequence number's digits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StartFrom<N = String> {
    /// The oldest record.
    TrimHorizon,
    /// Records that arrive from now on.
    Latest,
    /// The first record that arrived at or after that time.
    AtTimestamp(Timestamp),
    /// That very record.
    AtSequenceNumber(N),
    /// The record after that one.
    AfterSequenceNumber(N),
}

/// One answer of GetRecords.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Records in order, as they came (aggregates whole).
    pub records: Vec<Record>,
    /// Where to go on; `None`: the closed shard's end.
    pub next_iterator: Option<String>,
    /// How far behind the tip the page's end is, in milliseconds.
    pub millis_behind_latest: i64,
    /// The children, at a closed shard's end.
    pub children: Vec<ChildShard>,
}

/// A record, as Kinesis carries it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its digits.
    pub sequence_number: String,
    /// Empty if the producer gave none.
    pub partition_key: String,
    /// At most 10 MiB.
    pub data: Bytes,
    /// About when Kinesis took it in (AWS's clock). Not in order within a shard.
    pub arrival: Option<Timestamp>,
}

/// A child as the last page of a closed shard names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChildShard {
    /// Its id.
    pub id: String,
    /// All its parents.
    pub parents: Vec<String>,
    /// The hash keys that it takes.
    pub hash_range: RangeInclusive<u128>,
}

impl Stream {
    /// An iterator, good for 5 minutes.
    ///
    /// # Errors
    /// AWS gives none.
    pub async fn iterator(
        &self,
        shard: &str,
        from: &StartFrom<impl AsRef<str> + Sync>,
    ) -> Result<String, Failure> {
        const OPERATION: &str = "GetShardIterator";
        use ShardIteratorType as Kind;
        let number = |number: &dyn AsRef<str>| Some(number.as_ref().to_owned());
        let (kind, number, time) = match from {
            StartFrom::TrimHorizon => (Kind::TrimHorizon, None, None),
            StartFrom::Latest => (Kind::Latest, None, None),
            StartFrom::AtTimestamp(time) => (Kind::AtTimestamp, None, Some(to_date_time(*time))),
            StartFrom::AtSequenceNumber(at) => (Kind::AtSequenceNumber, number(at), None),
            StartFrom::AfterSequenceNumber(at) => (Kind::AfterSequenceNumber, number(at), None),
        };
        let request = self
            .client
            .get_shard_iterator()
            .set_stream_name(self.name.clone())
            .set_stream_arn(self.arn.clone())
            .shard_id(shard)
            .shard_iterator_type(kind)
            .set_starting_sequence_number(number)
            .set_timestamp(time);
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let none = || {
            self.calls
                .senseless(OPERATION, "the answer has no ShardIterator")
        };
        answer.shard_iterator.ok_or_else(none)
    }

    /// As [`records`](Self::records), where there is room for it. Only a stream that is
    /// [`heeding_room`](Self::heeding_room), with a client whose HTTP client is its own, asks for
    /// room.
    ///
    /// # Errors
    /// AWS gives none, or there is no room.
    pub async fn records_within(
        &self,
        iterator: &str,
        limit: u32,
        room: Room,
    ) -> Result<Page, Failure> {
        within(room, self.records(iterator, limit)).await
    }

    /// The next page: at most `limit` records and 10 MiB.
    ///
    /// # Errors
    /// AWS gives none.
    pub async fn records(&self, iterator: &str, limit: u32) -> Result<Page, Failure> {
        const OPERATION: &str = "GetRecords";
        let request = self
            .client
            .get_records()
            .set_stream_arn(self.arn.clone())
            .shard_iterator(iterator)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let senseless = |message: &str| self.calls.senseless(OPERATION, message);
        // Without it the answer is none of Kinesis's; its missing iterator would look like the
        // shard's end.
        let behind = answer.millis_behind_latest;
        let millis_behind_latest =
            behind.ok_or_else(|| senseless("the answer has no MillisBehindLatest"))?;
        let children = answer.child_shards.unwrap_or_default().into_iter();
        let children = children.map(to_child).collect::<Option<_>>();
        let children = children.ok_or_else(|| senseless("a child shard has no HashKeyRange"))?;
        Ok(Page {
            records: answer.records.into_iter().map(to_record).collect(),
            next_iterator: answer.next_shard_iterator,
            millis_behind_latest,
            children,
        })
    }
}

pub(super) fn to_child(child: types::ChildShard) -> Option<ChildShard> {
    Some(ChildShard {
        hash_range: to_range(child.hash_key_range.as_ref())?,
        parents: child.parent_shards,
        id: child.shard_id,
    })
}

/// Strings and data move over as they are.
pub(super) fn to_record(record: types::Record) -> Record {
    Record {
        sequence_number: record.sequence_number,
        partition_key: record.partition_key.unwrap_or_default(),
        data: Bytes::from(record.data.into_inner()),
        arrival: record.approximate_arrival_timestamp.and_then(to_timestamp),
    }
}

pub(super) fn to_range(range: Option<&types::HashKeyRange>) -> Option<RangeInclusive<u128>> {
    let range = range?;
    Some(range.starting_hash_key.parse().ok()?..=range.ending_hash_key.parse().ok()?)
}

fn to_timestamp(time: DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

pub(super) fn to_date_time(time: Timestamp) -> DateTime {
    DateTime::from_nanos(time.as_nanosecond())
        .unwrap_or_else(|_| DateTime::from_secs(time.as_second()))
}
