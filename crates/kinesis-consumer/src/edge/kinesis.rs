//! What the library asks of Kinesis, as a seam: `sdk` asks AWS, tests script it.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::{
    record::Record,
    sequence::SequenceNumber,
    shard::{ChildShard, Shard, ShardId},
};

pub mod sdk;

/// Which shards `ListShards` shall tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShardFilter {
    /// All within the retention period.
    All,
    /// Open at the trim horizon.
    AtTrimHorizon,
    /// Open now.
    AtLatest,
    /// Open at that time.
    AtTimestamp(Timestamp),
}

/// Where to start reading.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StartFrom {
    /// The oldest record.
    TrimHorizon,
    /// Records that arrive from now on.
    Latest,
    /// The first record that arrived at or after that time.
    AtTimestamp(Timestamp),
    /// That very record (KCL resumes so, for the rest of an aggregate).
    AtSequenceNumber(SequenceNumber),
    /// The record after that one.
    AfterSequenceNumber(SequenceNumber),
}

/// One answer of `GetRecords`.
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

/// Why a Kinesis call failed, by what is to be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KinesisError {
    /// Slower, please: of this shard or of the account.
    #[error("throttled: {0}")]
    Throttled(String),
    /// Get a new iterator, after the last fetched record.
    #[error("iterator expired: {0}")]
    ExpiredIterator(String),
    /// The sequence number is not of this shard, or older than the retention period.
    #[error("sequence number refused: {0}")]
    InvalidSequenceNumber(String),
    /// No such stream or shard.
    #[error("not found: {0}")]
    NotFound(String),
    /// Denied, no credentials, KMS key disabled, a hard limit: waiting does not help, and it is told.
    #[error("{0}")]
    Permanent(String),
    /// 5xx, timeout, broken connection: ask again.
    #[error("{0}")]
    Unavailable(String),
}

/// The stream of one worker.
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
}
