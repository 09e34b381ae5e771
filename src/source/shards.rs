//! What AWS says of a source: the open shards of a stream, or the shards, leases and next records
//! of an application.

mod all;
mod lane;
mod leases;
mod lists;
mod open;

use std::{collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_consumer::{
    SequenceNumber, ShardId,
    lease::{InvalidSequenceNumber, Lease},
    shards::{Shard, StartFrom, last_sub_sequence_number, to_shard},
};
use kinesis_edge::{Failure, Kind, Service, ShardFilter};

use self::all::AllStreams;
pub(crate) use self::lane::Lane;
#[cfg(test)]
pub(crate) use self::open::Calls;
pub use self::{lane::Place, open::OpenShards};
use crate::{
    error::SourceError,
    source::aws::{Aws, Client, Resource, SharedRows},
    trigger::{ApplicationSource, LeaseTable, Stream, StreamSource, tenant::Tenant},
};

/// Reads of an application, as a seam: [`application`] asks AWS, tests script the answers.
#[async_trait]
pub trait Reads: fmt::Debug + Send + Sync {
    /// All shards within the retention period, all pages; of several streams, stream by stream.
    ///
    /// # Errors
    /// Whenever the list is not known to be whole.
    async fn shards(&self) -> Result<Vec<Shard>, SourceError>;

    /// Are the shards of this one of several streams, `account:name:epoch`, those of an earlier
    /// look?
    fn is_kept(&self, _stream: &str) -> bool {
        false
    }

    /// All leases of the stream, all pages, eventually consistent. `None`: there is no such table.
    ///
    /// # Errors
    /// Whenever they are not known to be all.
    async fn leases(&self) -> Result<Option<Leases>, SourceError>;

    /// An iterator, good for 5 minutes.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn iterator(&self, shard: &str, from: &StartFrom) -> Result<String, ReadError>;

    /// The next record there, if the page has one: GetRecords with a limit of 1.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn peek(&self, iterator: &str) -> Result<Peek, ReadError>;

    /// AWS's own time, by its last answer. `None`: no answer said it.
    async fn time(&self) -> Option<Timestamp>;

    /// Waits until one more shard may be probed. `decided`: it has a verdict; others go first.
    async fn place(&self, _decided: bool) -> Option<Place<'_>> {
        None
    }

    /// May a fetch that failed be repeated before the next refresh?
    fn may_retry(&self, _failed: &SourceError) -> bool {
        true
    }
}

/// The leases of one stream, and what else is in the table.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Keyed by plain shard ids, also those of a multi-stream table.
    pub leases: Vec<Lease>,
    /// Is it a multi-stream table, as far as its leases tell?
    pub is_of_several: bool,
    /// Of a multi-stream table: when the stream was made, in seconds.
    pub epoch: u64,
    /// Rows of other entities, of other streams and of an older stream of this name.
    pub others: usize,
    /// Of a multi-stream table: the accounts of streams of this name.
    pub accounts: Vec<String>,
    /// Broken rows: leases that cannot be read.
    pub broken: usize,
    /// Some of the broken rows: key and what is wrong.
    pub malformed: Vec<(String, String)>,
    /// The shards whose rows are broken.
    pub broken_shards: HashSet<ShardId>,
}

/// One answer of GetRecords with a limit of 1. Nothing of the record's data is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peek {
    /// The record's sequence number and when it arrived.
    pub record: Option<(SequenceNumber, Option<Timestamp>)>,
    /// Of a KPL aggregate, the sub-sequence number of its last user record; else 0.
    pub last_sub: u64,
    /// The iterator of the next page; `None`: the end of a closed shard.
    pub next_iterator: Option<String>,
    /// How far the page's end is behind the tip, in milliseconds.
    pub millis_behind_latest: i64,
}

/// Why a probe of a shard failed.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// The shard's read quota is used up by its readers.
    Throttled,
    /// The iterator is too old.
    ExpiredIterator,
    /// The sequence number is none of this shard's, or older than the retention period.
    InvalidPosition,
    /// The shard is gone.
    Gone,
    /// Any other failure.
    Failed(Box<SourceError>),
}

/// The way to the open shards of a source, on behalf of somebody. Asks nothing yet.
pub fn open_shards(aws: &Arc<Aws>, source: &StreamSource, tenant: &Tenant) -> OpenShards {
    OpenShards::new(aws.kinesis(source), source.stream.clone(), tenant)
}

/// The way to an application's shards, leases and records. Asks nothing yet.
pub fn application(aws: &Arc<Aws>, source: &ApplicationSource) -> Arc<dyn Reads> {
    let ApplicationSource { stream, table, .. } = source;
    let tables = aws.dynamodb(table);
    let application = Application {
        kinesis: aws.kinesis(stream),
        rows: tables.rows(table),
        tables,
        stream: stream.stream.clone(),
        table: table.clone(),
        lane: Lane::default(),
    };
    match stream.stream {
        Stream::All => Arc::new(AllStreams::new(application)),
        Stream::Name(_) | Stream::Arn(_) => Arc::new(application),
    }
}

#[derive(Debug)]
struct Application {
    kinesis: Arc<Client>,
    tables: Arc<Client>,
    stream: Stream,
    table: LeaseTable,
    rows: Arc<SharedRows>,
    lane: Lane,
}

impl Application {
    async fn aws_stream(&self) -> kinesis_edge::Stream {
        self.kinesis.stream(&self.stream).await
    }

    async fn shards_of(&self, stream: &Stream) -> Result<Vec<Shard>, Failure> {
        let shards = self.kinesis.stream(stream).await;
        let shards = shards.shards(ShardFilter::All).await;
        shards.and_then(refuse_none).and_then(|shards| {
            let shards = shards.into_iter().map(to_shard).collect::<Result<_, _>>();
            shards.map_err(|odd| senseless("ListShards", &odd))
        })
    }

    fn error(&self, failure: &Failure) -> SourceError {
        self.kinesis.error(Resource::Stream(&self.stream), failure)
    }

    fn read_error(&self, failure: &Failure) -> ReadError {
        self.read_error_of(&self.stream, failure)
    }

    fn read_error_of(&self, stream: &Stream, failure: &Failure) -> ReadError {
        match failure.kind {
            Kind::Throttled => ReadError::Throttled,
            Kind::NotFound => ReadError::Gone,
            Kind::ExpiredIterator => ReadError::ExpiredIterator,
            Kind::InvalidPosition | Kind::Invalid => ReadError::InvalidPosition,
            _ => {
                let error = self.kinesis.error(Resource::Stream(stream), failure);
                ReadError::Failed(Box::new(error))
            }
        }
    }
}

#[async_trait]
impl Reads for Application {
    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        let shards = self.shards_of(&self.stream).await;
        shards.map_err(|failure| self.error(&failure))
    }

    async fn leases(&self) -> Result<Option<Leases>, SourceError> {
        leases::leases(&self.tables, &self.stream, &self.table, &self.rows).await
    }

    async fn iterator(&self, shard: &str, from: &StartFrom) -> Result<String, ReadError> {
        let iterator = self.aws_stream().await.iterator(shard, from).await;
        iterator.map_err(|failure| self.read_error(&failure))
    }

    async fn peek(&self, iterator: &str) -> Result<Peek, ReadError> {
        // One at the most: the shard's readers share its quota with us.
        let stream = self.aws_stream().await;
        let call = |room| stream.records_within(iterator, 1, room);
        let page = self.kinesis.bytes().within(call).await;
        let peek = page.and_then(|page| {
            let last_sub = |record: &kinesis_edge::Record| last_sub_sequence_number(&record.data);
            let last_sub = page.records.first().map_or(0, last_sub);
            let record = page.records.into_iter().next().map(|record| {
                let number = SequenceNumber::try_from(record.sequence_number);
                let number = number.map_err(|odd| senseless("GetRecords", &odd))?;
                Ok((number, record.arrival))
            });
            Ok(Peek {
                record: record.transpose()?,
                last_sub,
                next_iterator: page.next_iterator,
                millis_behind_latest: page.millis_behind_latest,
            })
        });
        peek.map_err(|failure| self.read_error(&failure))
    }

    async fn time(&self) -> Option<Timestamp> {
        self.kinesis.aws_time().await
    }

    async fn place(&self, decided: bool) -> Option<Place<'_>> {
        Some(self.lane.enter(&self.kinesis.probes, decided).await)
    }

    fn may_retry(&self, failed: &SourceError) -> bool {
        let client = match failed.operation {
            leases::OPERATION => &self.tables,
            _ => &self.kinesis,
        };
        client.share.retries.take()
    }
}

/// Every stream has shards once it is made. Without this a stream that is being made would be an
/// idle one.
fn refuse_none<T>(shards: Vec<T>) -> Result<Vec<T>, Failure> {
    if shards.is_empty() {
        return Err(Failure::not_ready("ListShards"));
    }
    Ok(shards)
}

fn senseless(operation: &'static str, odd: &InvalidSequenceNumber) -> Failure {
    Failure::senseless(Service::Kinesis, operation, &odd.to_string())
}
