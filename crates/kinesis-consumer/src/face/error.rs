//! Why a worker stopped by itself.

use crate::{
    edge::{kinesis::KinesisError, lease_table::TableError},
    model::keys::{LeaseKey, ShardId},
};

/// Why [`Worker::run`](crate::Worker::run) ended other than by its shutdown future. The text of
/// each says what is wrong and what mends it, causes included.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense.
    #[error("{0}")]
    InvalidConfig(String),
    /// The lease table cannot be used.
    #[error("lease table {table}: {source}")]
    #[non_exhaustive]
    Table {
        /// Its name.
        table: String,
        /// Why.
        source: TableError,
    },
    /// The stream cannot be read.
    #[error("stream {stream}: {source}")]
    #[non_exhaustive]
    Stream {
        /// Its name or ARN.
        stream: String,
        /// Why.
        source: KinesisError,
    },
    /// The processor failed with what waiting does not mend: [`Lasting`](crate::Lasting).
    #[error("the processor of {shard}: {error}")]
    #[non_exhaustive]
    Processor {
        /// Its lease.
        shard: LeaseKey,
        /// The error's text.
        error: String,
    },
    /// The leases are of an older stream of the same name.
    #[error(
        "lease table {table} is of an older stream named {stream}: {shard} is another shard than the \
         one that its lease is of. {mend}"
    )]
    #[non_exhaustive]
    StreamRecreated {
        /// The stream's name or ARN.
        stream: String,
        /// The lease table.
        table: String,
        /// A shard that shows it.
        shard: ShardId,
        /// What mends it.
        mend: String,
    },
    /// The lease is of this stream, and its checkpoint is no sequence number of the shard: somebody
    /// changed it.
    #[error(
        "lease table {table}: {checkpoint}, the checkpoint of {shard}, is no sequence number of that \
         shard, although the lease is of this stream: somebody changed it. Set it to the last record \
         that is processed, or to TRIM_HORIZON to read all that is left"
    )]
    #[non_exhaustive]
    WrongCheckpoint {
        /// The lease table.
        table: String,
        /// The lease.
        shard: LeaseKey,
        /// Its checkpoint, as the lease has it.
        checkpoint: String,
    },
    /// The leases are of another stream. Nothing was written.
    #[error(
        "lease table {table} is of another stream than {stream}: {found}. Nothing was changed. {mend}"
    )]
    #[non_exhaustive]
    OtherStream {
        /// The name or ARN of the stream that this worker reads.
        stream: String,
        /// The lease table.
        table: String,
        /// What shows it.
        found: String,
        /// What mends it.
        mend: String,
    },
    /// The table is of another kind of application, or of another library. Nothing was written.
    #[error(
        "table {table} is not the lease table of an application that reads {reads}: {found}. \
         Nothing was changed. Give this application another name, or another lease table"
    )]
    #[non_exhaustive]
    ForeignTable {
        /// The table.
        table: String,
        /// What this worker reads: `one stream`, or `several streams`.
        reads: &'static str,
        /// An item that shows it.
        found: String,
    },
    /// Another process took a lease of ours under our worker id.
    #[error(
        "another process runs as worker {worker} of application {application}: it took the lease of \
         {shard}. Give each worker an id of its own, such as its pod's name"
    )]
    #[non_exhaustive]
    WorkerIdInUse {
        /// The application.
        application: String,
        /// The worker id of both.
        worker: String,
        /// The lease that it took.
        shard: LeaseKey,
    },
}

impl Error {
    /// Whether it is of one stream, so that others can be read.
    pub(crate) fn is_of_stream(&self) -> bool {
        match self {
            Self::Stream { .. }
            | Self::StreamRecreated { .. }
            | Self::WrongCheckpoint { .. }
            | Self::OtherStream { .. } => true,
            Self::InvalidConfig(_)
            | Self::Table { .. }
            | Self::Processor { .. }
            | Self::ForeignTable { .. }
            | Self::WorkerIdInUse { .. } => false,
        }
    }

    /// AWS's error code, such as `AccessDeniedException`, where a call to AWS is the cause.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Table { source, .. } => source.code(),
            Self::Stream { source, .. } => source.code(),
            Self::InvalidConfig(_)
            | Self::Processor { .. }
            | Self::StreamRecreated { .. }
            | Self::WrongCheckpoint { .. }
            | Self::OtherStream { .. }
            | Self::ForeignTable { .. }
            | Self::WorkerIdInUse { .. } => None,
        }
    }
}
