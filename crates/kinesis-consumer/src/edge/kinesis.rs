//! What the library asks of Kinesis, as a seam: `sdk` asks AWS, tests script it.

use std::fmt;

use async_trait::async_trait;

use crate::model::{
    record::Record,
    sequence::SequenceNumber,
    shard::{ChildShard, Shard, ShardId},
};

pub mod sdk;

pub use kinesis_edge::ShardFilter;

/// Where to start reading. KCL resumes at a sequence number for the rest of an aggregate.
pub type StartFrom = kinesis_edge::StartFrom<SequenceNumber>;

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
