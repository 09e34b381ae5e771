//! Why a worker stopped by itself.

use crate::edge::{kinesis::KinesisError, lease_table::TableError};

/// Why [`crate::run::worker::Worker::run`] ended other than by its shutdown future.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense.
    #[error("{0}")]
    InvalidConfig(String),
    /// The lease table cannot be used.
    #[error("lease table {table}: {source}")]
    Table {
        /// Its name.
        table: String,
        /// Why.
        source: TableError,
    },
    /// The stream cannot be read.
    #[error("stream {stream}: {source}")]
    Stream {
        /// Its name or ARN.
        stream: String,
        /// Why.
        source: KinesisError,
    },
    /// The leases are of an older stream of the same name.
    #[error(
        "lease table {table} is of an older stream named {stream}: shard {shard} starts after its checkpoint. \
         Delete the table, or use another application name, to start over"
    )]
    StreamRecreated {
        /// The stream.
        stream: String,
        /// The lease table.
        table: String,
        /// A shard that shows it.
        shard: String,
    },
    /// Another process took a lease of ours under our worker id.
    #[error(
        "another process runs as worker {worker} of application {application}: it took the lease of {shard}. Give each worker an id of \
         its own, such as its pod's name"
    )]
    WorkerIdInUse {
        /// The application.
        application: String,
        /// The worker id of both.
        worker: String,
        /// A shard whose lease it took.
        shard: String,
    },
    /// KCL 3 workers assign the leases of this application.
    #[error(
        "application {application} is led by the KCL 3 worker {leader} ({client_version}): stop the KCL 3 workers, or run them with \
         CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X, before this worker joins"
    )]
    LedByKcl3 {
        /// The application.
        application: String,
        /// The leader's worker id.
        leader: String,
        /// `cv` of `Migration3.0`.
        client_version: String,
    },
}
