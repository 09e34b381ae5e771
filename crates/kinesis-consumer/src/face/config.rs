//! A worker's settings. Failover time, initial position, records per call and steals have KCL's
//! defaults.

use std::{num::NonZero, time::Duration};

use jiff::Timestamp;

use crate::{
    edge::turns::Connections,
    face::{
        error::Error,
        pace::{Pace, Times, UNSAID_FAILOVER},
        placement::Placement,
        streams::Streams,
    },
    model::sequence::Checkpoint,
};

/// What is done again and again without a pause keeps a core busy.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// The silence between two events of a subscription that nothing came of.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
/// Longer times overflow clocks.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where an application starts on a stream that it has no leases for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InitialPosition {
    /// The oldest record.
    TrimHorizon,
    /// Records that arrive from now on (also while no worker runs: the lease remembers since when).
    Latest,
    /// Records that arrived at or after that time.
    AtTimestamp(Timestamp),
}

/// How records come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Retrieval {
    /// Each shard is asked again and again, by GetRecords: its 2 MiB a second are shared by all who
    /// poll it.
    #[default]
    Polling,
    /// Each shard sends what comes, by SubscribeToShard: 2 MiB a second for this application alone,
    /// at AWS's price for it.
    FanOut(FanOut),
}

/// Enhanced fan-out. The default is good: `Retrieval::FanOut(FanOut::default())`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FanOut {
    /// The registered consumer: its name, or the ARN of one that somebody registered. One that the
    /// stream does not have is registered by its name, and stays: AWS asks its price until
    /// somebody deregisters it. Applications that share one take each other's shards away. `None`:
    /// the application's name.
    pub consumer: Option<String>,
    /// Poll where the stream has as many consumers as it may have (20), until the worker is started
    /// again. Default: the worker ends with the error after [`Config::give_up_after`].
    pub or_polling: bool,
    /// A subscription that brings nothing for so long is begun anew: its connection is dead. AWS
    /// sends something each few seconds, if only that nothing came. Default 20 s.
    pub idle_deadline: Duration,
}

/// A worker's settings. [`Config::new`] gives the defaults; change fields as wanted. Settings that
/// make no sense are refused by [`Worker::run`](crate::Worker::run).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Stream name or ARN. Empty where the application reads several.
    pub stream: String,
    /// The streams of an application that reads several. Default: none, it reads `stream`.
    pub streams: Option<Streams>,
    /// The application's name: workers of one name share the stream.
    pub application: String,
    /// This worker's name: unique in the application, and best stable over restarts (a pod's name).
    pub worker_id: String,
    /// The lease table's name. Default: the application's name.
    pub lease_table: String,
    /// Where to start. Default: LATEST, as KCL.
    pub initial_position: InitialPosition,
    /// What the worker costs, against how soon it notices: the default of each time below that is
    /// an `Option`, of which one that is set wins. Workers of one application may differ. Default:
    /// balanced.
    pub pace: Pace,
    /// A lease of this worker's that is not renewed for so long may be taken by others, which see
    /// in the lease how long that is. Set, it is also the time of those that do not say theirs:
    /// KCL's workers, whose `failoverTimeMillis` must be the same, and of earlier versions. Default
    /// by the pace 25 s, 10 s or 5 s, and 10 s of others.
    pub failover_time: Option<Duration>,
    /// The time between scans of the table while leases are coming to this worker. Default by the
    /// pace 4 s, 2 s or 1 s.
    pub peer_scan_interval: Option<Duration>,
    /// The time between scans of the table by the one worker that looks after all; the others scan
    /// each 2 min, or each 12 times `failover_time` where that is set, or more seldom where they
    /// are many. Default by the pace 80 s, 40 s or 20 s.
    pub scan_interval: Option<Duration>,
    /// The time between comparisons of shards and leases. Default by the pace 5 min, 2 min or
    /// 1 min.
    pub shard_sync_interval: Option<Duration>,
    /// Hold at most so many leases. Default: no limit. While a KCL 3 leader assigns them, its own
    /// limit counts.
    pub max_leases: usize,
    /// Steal at most so many leases of KCL 2.x workers in two failover times. Default 1, as KCL.
    pub max_steals: usize,
    /// By what leases are dealt. Default: by number, as KCL.
    pub placement: Placement,
    /// So many batches can be in work at full speed at a time; what `busy` in the leases is a part
    /// of. Default: the cores that the process may use. Fewer where something else is scarce, such
    /// as 1 for a quota downstream that the shards share.
    pub parallelism: usize,
    /// Connections to Kinesis and DynamoDB at a time, of all shards, but for those of enhanced
    /// fan-out. Default 64: 36 to Kinesis and 28 to DynamoDB. As many calls are under way, and the
    /// others wait for their turn: it bounds how often many shards can be asked over a long line,
    /// to 32 reads in the time that one takes. Clients of your own make no more calls, and may open
    /// more connections in a burst than they need.
    pub max_connections: usize,
    /// How records come. Default: by polling. The settings of GetRecords below are for that alone.
    pub retrieval: Retrieval,
    /// Records of one GetRecords call. Default 10,000, the most there is.
    pub max_records: u32,
    /// The time between GetRecords calls of one shard at the tip when no records have come for a
    /// while. Default by the pace 2 s, 1 s or 500 ms.
    pub idle_between_reads: Option<Duration>,
    /// The time between GetRecords calls of one shard at the tip while records come; it grows to
    /// `idle_between_reads`, which also bounds it, within some 20 s of silence. Default by the pace
    /// 1 s, 400 ms or 250 ms: 400 ms is half of the quota, so that another application can have the
    /// other half.
    pub tip_read_interval: Option<Duration>,
    /// The shortest time between GetRecords calls of one shard while behind. Default 200 ms: the
    /// quota is 5 calls a second.
    pub min_read_interval: Duration,
    /// Bytes read of one shard per second: most of one second's ahead, where AWS allows it, and on
    /// average no more. Default 2 MiB: the quota.
    pub read_bytes_per_second: u64,
    /// Memory for all that is fetched and not processed, of all shards, in bytes: answers while
    /// they are read, records, and what aggregates are taken apart into. Default 96 MiB. The
    /// largest page may take a third of it for a moment. What your processor makes of records is
    /// not in it, nor is a record that is only looked at, as a position is judged by it.
    pub memory_bytes: usize,
    /// Of it, memory of one shard's fetched records, in bytes, about. Default 4 MiB: 10,000 small
    /// records. While they are processed one more page is fetched, however large.
    pub prefetch_bytes: usize,
    /// Deliver the user records of a KPL aggregate although some of them belong to another shard,
    /// and as it came an aggregate that cannot be taken apart. Default: they are set aside, by
    /// [`RecordProcessor::reject_aggregate`](crate::RecordProcessor::reject_aggregate).
    pub deliver_unfit_aggregates: bool,
    /// The time between a child's questions whether its parents are finished. Default 1 s.
    pub parent_poll_interval: Duration,
    /// The longest time that an acknowledgement waits to be written. Default by the pace 10 s, 5 s
    /// or 2 s. Renewals carry what is acknowledged, and come each 35 % of `failover_time`: with the
    /// defaults, a busy shard is written as often as an idle one.
    pub checkpoint_interval: Option<Duration>,
    /// An acknowledgement is written at once when so many records were processed since the last
    /// checkpoint. Default 10,000.
    pub checkpoint_records: u64,
    /// The first wait after a processor failure; doubles up to a minute. Default 500 ms.
    pub processor_backoff: Duration,
    /// At shutdown, how long a batch in work may take before it is abandoned without a checkpoint.
    /// Default 20 s.
    pub shutdown_deadline: Duration,
    /// How long what waiting does not mend is tried: a permission that was withdrawn, a key that
    /// was disabled, a lease table that cannot be made anew, a processor's
    /// [`Lasting`](crate::Lasting) error. Then the worker ends with the error. Default 5 min.
    pub give_up_after: Duration,
    /// Room in `latestSince`, which is AWS's time to a second. Default 5 s.
    pub clock_skew: Duration,
}

impl Config {
    /// The shortest `failover_time`: less leaves a renewal no time for a second attempt.
    pub const LEAST_FAILOVER: Duration = Duration::from_millis(500);

    /// The least `max_connections`: one for each kind of call.
    pub const LEAST_CONNECTIONS: usize = Connections::LEAST;

    /// The defaults, for a stream (name or ARN), an application and a worker.
    pub fn new(
        stream: impl Into<String>,
        application: impl Into<String>,
        worker_id: impl Into<String>,
    ) -> Self {
        let application = application.into();
        Self {
            stream: stream.into(),
            streams: None,
            lease_table: application.clone(),
            application,
            worker_id: worker_id.into(),
            initial_position: InitialPosition::Latest,
            pace: Pace::default(),
            failover_time: None,
            peer_scan_interval: None,
            scan_interval: None,
            shard_sync_interval: None,
            max_leases: usize::MAX,
            max_steals: 1,
            placement: Placement::Number,
            parallelism: std::thread::available_parallelism().map_or(1, NonZero::get),
            max_connections: 64,
            retrieval: Retrieval::Polling,
            max_records: 10_000,
            idle_between_reads: None,
            tip_read_interval: None,
            min_read_interval: Duration::from_millis(200),
            read_bytes_per_second: 2 << 20,
            memory_bytes: 96 << 20,
            prefetch_bytes: 4 << 20,
            deliver_unfit_aggregates: false,
            parent_poll_interval: Duration::from_secs(1),
            checkpoint_interval: None,
            checkpoint_records: 10_000,
            processor_backoff: Duration::from_millis(500),
            shutdown_deadline: Duration::from_secs(20),
            give_up_after: Duration::from_secs(300),
            clock_skew: Duration::from_secs(5),
        }
    }

    /// The same, for an application that reads several streams, which come and go.
    pub fn of_streams(
        streams: Streams,
        application: impl Into<String>,
        worker_id: impl Into<String>,
    ) -> Self {
        Self {
            streams: Some(streams),
            ..Self::new("", application, worker_id)
        }
    }

    /// The times that are in force: those that are set, and the pace's.
    pub fn times(&self) -> Times {
        let of_pace = self.pace.times();
        Times {
            failover_time: self.failover_time.unwrap_or(of_pace.failover_time),
            peer_scan_interval: self
                .peer_scan_interval
                .unwrap_or(of_pace.peer_scan_interval),
            scan_interval: self.scan_interval.unwrap_or(of_pace.scan_interval),
            shard_sync_interval: self
                .shard_sync_interval
                .unwrap_or(of_pace.shard_sync_interval),
            idle_between_reads: self
                .idle_between_reads
                .unwrap_or(of_pace.idle_between_reads),
            tip_read_interval: self.tip_read_interval.unwrap_or(of_pace.tip_read_interval),
            checkpoint_interval: self
                .checkpoint_interval
                .unwrap_or(of_pace.checkpoint_interval),
        }
    }

    /// The failover time of workers that do not say theirs, and by which they judge this one's
    /// leases.
    pub(crate) fn unsaid_failover(&self) -> Duration {
        self.failover_time.unwrap_or(UNSAID_FAILOVER)
    }

    /// What the application reads, for people.
    pub(crate) fn reads(&self) -> &'static str {
        match self.streams {
            None => "one stream",
            Some(_) => "several streams",
        }
    }

    /// Settings that cannot work.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if let Some(streams) = &self.streams {
            if !self.stream.is_empty() {
                let text = format!(
                    "stream is {:?} and streams is set: want one of them",
                    self.stream
                );
                return Err(Error::InvalidConfig(text));
            }
            streams.validate(self.times().failover_time)?;
        }
        let named = [
            ("stream", &self.stream),
            ("application", &self.application),
            ("worker_id", &self.worker_id),
            ("lease_table", &self.lease_table),
        ];
        let is_unset = |(name, value): &&(&str, &String)| {
            value.is_empty() && !(*name == "stream" && self.streams.is_some())
        };
        if let Some((name, _)) = named.iter().find(is_unset) {
            return Err(Error::InvalidConfig(format!(
                "{name} is empty: want a name"
            )));
        }
        let in_force = self.times();
        let times = [
            (
                "failover_time",
                in_force.failover_time,
                Self::LEAST_FAILOVER,
            ),
            (
                "peer_scan_interval",
                in_force.peer_scan_interval,
                LEAST_PAUSE,
            ),
            ("scan_interval", in_force.scan_interval, LEAST_PAUSE),
            (
                "shard_sync_interval",
                in_force.shard_sync_interval,
                LEAST_PAUSE,
            ),
            (
                "idle_between_reads",
                in_force.idle_between_reads,
                LEAST_PAUSE,
            ),
            ("tip_read_interval", in_force.tip_read_interval, LEAST_PAUSE),
            (
                "parent_poll_interval",
                self.parent_poll_interval,
                LEAST_PAUSE,
            ),
            ("processor_backoff", self.processor_backoff, LEAST_PAUSE),
            ("min_read_interval", self.min_read_interval, Duration::ZERO),
            ("shutdown_deadline", self.shutdown_deadline, Duration::ZERO),
            ("give_up_after", self.give_up_after, Duration::ZERO),
            (
                "checkpoint_interval",
                in_force.checkpoint_interval,
                Duration::ZERO,
            ),
            ("clock_skew", self.clock_skew, Duration::ZERO),
        ];
        for (name, got, least) in times {
            if !(least..=LONGEST).contains(&got) {
                return Err(Error::InvalidConfig(format!(
                    "{name} is {got:?}: want {least:?} to 365 days"
                )));
            }
        }
        let positive = [
            ("parallelism", self.parallelism as u64),
            ("max_leases", self.max_leases as u64),
            ("memory_bytes", self.memory_bytes as u64),
            ("prefetch_bytes", self.prefetch_bytes as u64),
            ("read_bytes_per_second", self.read_bytes_per_second),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::InvalidConfig(format!("{name} is 0: want 1 or more")));
        }
        if self.max_connections < Self::LEAST_CONNECTIONS {
            let (got, least) = (self.max_connections, Self::LEAST_CONNECTIONS);
            return Err(Error::InvalidConfig(format!(
                "max_connections is {got}: want {least} or more, such as 64"
            )));
        }
        if let Retrieval::FanOut(fan_out) = &self.retrieval {
            fan_out.validate()?;
            let consumer = fan_out.consumer.as_deref().unwrap_or_default();
            if self.streams.is_some() && consumer.starts_with("arn:") {
                let text = format!(
                    "consumer is {consumer:?}, which is of one stream: want a name, which each \
                     stream has a consumer of"
                );
                return Err(Error::InvalidConfig(text));
            }
        }
        if !(1..=10_000).contains(&self.max_records) {
            let got = self.max_records;
            return Err(Error::InvalidConfig(format!(
                "max_records is {got}: want 1 to 10000"
            )));
        }
        Ok(())
    }

    /// Of [`max_connections`](Self::max_connections), those to Kinesis.
    pub fn kinesis_connections(&self) -> usize {
        self.connections().kinesis()
    }

    /// Of [`max_connections`](Self::max_connections), those to DynamoDB.
    pub fn dynamodb_connections(&self) -> usize {
        self.connections().dynamodb()
    }

    /// How they are shared out.
    pub(crate) fn connections(&self) -> Connections {
        Connections::of(self.max_connections)
    }
}

impl InitialPosition {
    /// The sentinel that new leases get.
    pub(crate) fn checkpoint(self) -> Checkpoint {
        match self {
            Self::TrimHorizon => Checkpoint::TrimHorizon,
            Self::Latest => Checkpoint::Latest,
            Self::AtTimestamp(_) => Checkpoint::AtTimestamp,
        }
    }
}

impl Default for FanOut {
    fn default() -> Self {
        Self {
            consumer: None,
            or_polling: false,
            idle_deadline: Duration::from_secs(20),
        }
    }
}

impl FanOut {
    fn validate(&self) -> Result<(), Error> {
        let (got, least) = (self.idle_deadline, LEAST_SILENCE);
        if !(least..=LONGEST).contains(&got) {
            return Err(Error::InvalidConfig(format!(
                "idle_deadline is {got:?}: want {least:?} to 365 days"
            )));
        }
        if self.consumer.as_deref() == Some("") {
            let text = "consumer is empty: want a name or an ARN, or none";
            return Err(Error::InvalidConfig(text.to_owned()));
        }
        Ok(())
    }
}
