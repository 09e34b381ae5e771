//! What happens in a worker, as one stream that logs, metrics and the demo read.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::model::{
    keys::{LeaseKey, ShardId, StreamIdentifier},
    record::UnfitAggregate,
    sequence::{Checkpoint, Position},
};

mod log;

/// Something that happened. `shard` names the lease: the shard, with its stream where the
/// application reads several.
///
/// Variants and their fields will be added: match with `..` and a `_` arm. (With the feature
/// `test-util` you can make events, to test what you do with them.)
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The worker works from now on: the lease table is there, and is of its stream.
    Admitted,
    /// A KCL 3 leader assigns the leases from now on: this worker reports itself to it, and holds
    /// what it is given.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Led {
        /// The leader's worker id.
        leader: String,
    },
    /// No KCL 3 leader assigns the leases any more: this worker takes them.
    Unled,
    /// The lease is ours.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeaseAcquired {
        /// The lease.
        shard: LeaseKey,
        /// The worker that held it before. `None`: nobody did.
        from: Option<String>,
    },
    /// The lease went to somebody else without our doing.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeaseLost {
        /// The lease.
        shard: LeaseKey,
    },
    /// We asked a worker of this library for its lease.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    HandoverAsked {
        /// The lease.
        shard: LeaseKey,
        /// The worker that holds it.
        holder: String,
    },
    /// We stopped at a checkpoint and gave the lease to a worker of this library that asked for it.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    HandedOver {
        /// The lease.
        shard: LeaseKey,
        /// The worker that holds it now.
        to: String,
    },
    /// We gave the lease up at shutdown: it is anybody's to take.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeaseReleased {
        /// The lease.
        shard: LeaseKey,
    },
    /// The processor is made and initialized; reading starts.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    ShardStarted {
        /// The lease.
        shard: LeaseKey,
        /// Where reading starts.
        checkpoint: Checkpoint,
    },
    /// The shard is closed and processed to its end.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    ShardEnded {
        /// The lease.
        shard: LeaseKey,
        /// The shards of the same stream that go on.
        children: Vec<ShardId>,
    },
    /// User records were read, and taken out of aggregates. Each of them is settled by one other
    /// event: as covered here, or by [`Processed`](Self::Processed),
    /// [`AggregateRejected`](Self::AggregateRejected) or [`GivenBack`](Self::GivenBack). An
    /// aggregate whose user records are not known counts as one.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Fetched {
        /// The lease.
        shard: LeaseKey,
        /// How many.
        records: usize,
        /// How many of them the checkpoint covers: they are read again only to find the next one.
        covered: usize,
    },
    /// User records that were read and did not get to the processor, or were not processed: the
    /// lease goes, or the shard is read anew. Whoever reads it next gets them again.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    GivenBack {
        /// The lease.
        shard: LeaseKey,
        /// How many.
        records: usize,
    },
    /// A closed shard is read to its end, and the processor has not acknowledged all of it:
    /// SHARD_END is not written, the children wait, and
    /// [`shard_ended`](crate::RecordProcessor::shard_ended) is called again after `retry_in`.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    ShardEndWaits {
        /// The lease.
        shard: LeaseKey,
        /// What is acknowledged.
        acknowledged: Checkpoint,
        /// What has to be.
        delivered: Checkpoint,
        /// The wait.
        retry_in: Duration,
    },
    /// The processor took a batch, or acknowledged the first records of one that failed then.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Processed {
        /// The lease.
        shard: LeaseKey,
        /// User records in the batch, the rejected ones included.
        records: usize,
        /// How many of them the processor rejected.
        rejected: usize,
        /// Bytes of their data.
        bytes: usize,
        /// How far behind the shard's tip the batch ended when it was read, in milliseconds.
        millis_behind_latest: i64,
        /// How long the processor took.
        took: Duration,
    },
    /// A consumer for enhanced fan-out is registered, which AWS asks its price for until somebody
    /// deregisters it.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    ConsumerRegistered {
        /// The consumer's name.
        consumer: String,
    },
    /// The shard sends its records from now on: told at the beginning, each five minutes, and when
    /// a subscription broke.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Subscribed {
        /// The lease.
        shard: LeaseKey,
        /// The consumer's ARN.
        consumer: String,
    },
    /// The stream has as many consumers as it may have: the worker polls
    /// ([`FanOut::or_polling`](crate::FanOut::or_polling)).
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    FellBackToPolling {
        /// The name of the consumer that could not be registered.
        consumer: String,
        /// The error's text.
        error: String,
    },
    /// A page or an event without records was read.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Polled {
        /// The lease.
        shard: LeaseKey,
        /// How far behind the shard's tip the page ended, in milliseconds.
        millis_behind_latest: i64,
    },
    /// The lease table has a new checkpoint.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Checkpointed {
        /// The lease.
        shard: LeaseKey,
        /// The last record that is processed.
        checkpoint: Checkpoint,
    },
    /// A call of the lease table, or of another table of KCL 3's, was answered.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    TableUsed {
        /// The operation of DynamoDB, such as `UpdateItem`.
        operation: &'static str,
        /// Read request units, as DynamoDB says them.
        read_units: f64,
        /// Write request units. Of a write whose condition did not hold DynamoDB says nothing: that
        /// is one.
        write_units: f64,
    },
    /// The processor left a record out for good
    /// ([`Checkpointer::reject`](crate::Checkpointer::reject)).
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Rejected {
        /// The lease.
        shard: LeaseKey,
        /// The record's place in the shard.
        position: Position,
        /// Why, in the processor's words.
        reason: String,
    },
    /// A KPL aggregate was left out for good, whole
    /// ([`RecordProcessor::reject_aggregate`](crate::RecordProcessor::reject_aggregate)).
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    AggregateRejected {
        /// The lease.
        shard: LeaseKey,
        /// The place of its last user record.
        position: Position,
        /// How many user records it has; 1 where that is not known.
        records: usize,
        /// Bytes of the aggregate.
        bytes: usize,
        /// Why.
        reason: UnfitAggregate,
    },
    /// The processor failed or panicked; the same records come again after `retry_in`.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    ProcessorFailed {
        /// The lease.
        shard: LeaseKey,
        /// Consecutive failures, from 1.
        attempt: u32,
        /// The error's text, or the panic's.
        error: String,
        /// Zero where it is not tried again, as the lease goes.
        retry_in: Duration,
    },
    /// AWS throttled a call; it is tried again.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Throttled {
        /// The lease whose shard or item it was. `None`: the lease table or the whole stream.
        shard: Option<LeaseKey>,
        /// The operation of AWS, such as `GetRecords`, or of the lease table, such as `renew`.
        operation: &'static str,
    },
    /// A call failed otherwise and is tried again.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Retrying {
        /// The lease whose shard or item it was. `None`: the lease table or the whole stream.
        shard: Option<LeaseKey>,
        /// The operation of AWS, such as `GetRecords`, or of the lease table, such as `renew`.
        operation: &'static str,
        /// The error's text.
        error: String,
    },
    /// The checkpoint, or what a slow worker read last, is older than what Kinesis keeps: records
    /// that came after it may be lost to retention; reading goes on at the oldest one that is left.
    /// A checkpoint of LATEST or AT_TIMESTAMP is a time, and may be older, too.
    /// Or the stream no longer lists the shard, which was not read to its end. Or (with a
    /// checkpoint of SHARD_END) somebody else wrote SHARD_END while the shard was open, and it was
    /// resharded so.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    CheckpointExpired {
        /// The lease.
        shard: LeaseKey,
        /// The last record that is processed, or fetched: the gap begins behind it.
        checkpoint: Checkpoint,
        /// The oldest record that is left, with which the gap ends. `None`: there is none.
        oldest: Option<Position>,
        /// How long ago that record arrived: what is lost is older.
        age: Option<Duration>,
    },
    /// The lease table held no leases, so the application starts at its initial position: it is
    /// new, or somebody deleted the table while no worker ran, and then nobody knows where it
    /// stood.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    StartedAnew {
        /// The initial position.
        position: Checkpoint,
        /// What arrived before is not read. `None`: everything is, or the position is LATEST, and
        /// AWS did not say the time.
        since: Option<Timestamp>,
        /// The stream that the table held no leases of, where the application reads several.
        stream: Option<StreamIdentifier>,
    },
    /// The application reads this stream, too, from now on.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    StreamAdded {
        /// The stream.
        stream: StreamIdentifier,
    },
    /// The application does not read this stream any more: it is not wanted, or it is gone. Its
    /// leases stay, unless [`Streams::delete_leases_after`](crate::Streams::delete_leases_after)
    /// says otherwise.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    StreamRemoved {
        /// The stream.
        stream: StreamIdentifier,
    },
    /// Of an application that reads several streams, entries have no stream. One that comes is read
    /// from its coming on. It is told whenever the entries are others.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    NoStreams {
        /// The patterns that match no stream; where nothing is read, all entries.
        entries: Vec<String>,
        /// Whether nothing is read now.
        reads_none: bool,
    },
    /// One stream of several cannot be looked up or read, and waiting is not known to mend it. It
    /// is tried again; the others go on.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    StreamFailing {
        /// The stream: `account:name:epoch`, or as the application names it where it cannot be
        /// looked up; `all streams` where they cannot be listed, which keeps those that are read.
        stream: String,
        /// The error's text.
        error: String,
    },
    /// What was [`StreamFailing`](Self::StreamFailing) works again.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    StreamRecovered {
        /// The stream, as it was named then.
        stream: String,
    },
    /// Leases were added to the table.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeasesCreated {
        /// The leases.
        shards: Vec<LeaseKey>,
    },
    /// The lease of a finished shard, or of a stream that is not read any more, was deleted from
    /// the table.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeaseDeleted {
        /// The lease.
        shard: LeaseKey,
    },
    /// Somebody deleted unfinished leases, or the whole table: they are back, where they stood when
    /// this worker last saw them.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeasesPutBack {
        /// The leases.
        shards: Vec<LeaseKey>,
    },
    /// Somebody else wrote another checkpoint into a lease that we hold. It is overwritten with
    /// where this worker stands: nothing is skipped or read again.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    CheckpointPutBack {
        /// The lease.
        shard: LeaseKey,
        /// What was there, or why it could not be read.
        found: String,
        /// What is there now.
        checkpoint: Checkpoint,
    },
    /// A call began to fail so that waiting does not mend it. It is tried again (each time is a
    /// [`Retrying`](Self::Retrying)), until the worker gives up.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Failing {
        /// The operation of AWS, such as `GetRecords`, or of the lease table, such as `renew`;
        /// `processor`: user code, with a [`Lasting`](crate::Lasting) error.
        operation: &'static str,
        /// The error's text.
        error: String,
        /// [`Config::give_up_after`](crate::Config::give_up_after).
        gives_up_in: Duration,
    },
    /// Whether a KCL 3 leader assigns the leases cannot be asked. The lease table shows none.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    LeaderUnknown {
        /// The error's text.
        error: String,
    },
    /// These are the leases that nobody can read from now on, which may be none: their shards stand
    /// still.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Unreadable {
        /// Keys, and what is wrong with each.
        leases: Vec<(String, String)>,
    },
    /// What was [`Failing`](Self::Failing) works again.
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Recovered {
        /// The operation.
        operation: &'static str,
    },
}

/// Takes events, at once and in order. Must not block.
pub(crate) type EventSink = Arc<dyn Fn(&Event) + Send + Sync>;
