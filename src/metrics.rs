//! Prometheus metrics: a plain struct that owns its registry. Labels come from small fixed sets or
//! from watched sources, never straight from clients.

use std::{
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use tonic::Code;

use crate::error::{SourceErrorKind, code_name};

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    scrape: Mutex<()>,
    rpcs: Family<RpcLabels, Counter>,
    rpc_seconds: Family<MethodLabels, Histogram, Buckets>,
    aws_calls: Family<AwsLabels, Counter>,
    aws_seconds: Family<OperationLabels, Histogram, Buckets>,
    watchers: Family<StateLabels, Gauge>,
    oldest_snapshot: Gauge<f64, AtomicU64>,
    probes: Family<ProbeLabels, Counter>,
    readable_shards: Family<ApplicationLabels, Gauge>,
    unread_shards: Family<ApplicationLabels, Gauge>,
    oldest_unread: Family<ApplicationLabels, Gauge<f64, AtomicU64>>,
    shard_oldest_unread: Family<ShardLabels, Gauge<f64, AtomicU64>>,
    /// Push streams that are open.
    pub push_streams: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RpcLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AwsLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ProbeLabels {
    stream: String,
    region: String,
    lease_table: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ApplicationLabels {
    stream: String,
    region: String,
    lease_table: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ShardLabels {
    stream: String,
    region: String,
    lease_table: String,
    shard: String,
}

/// One application, as a scrape shows it.
#[derive(Clone, Debug, Default)]
pub struct ApplicationGauges {
    /// The stream, as the trigger names it.
    pub stream: String,
    /// Its region.
    pub region: String,
    /// The lease table.
    pub lease_table: String,
    /// Shards that it can work on now.
    pub readable: usize,
    /// What is known of unread records; `None`: nobody asked for lag.
    pub unread: Option<Unread>,
}

/// What is known of an application's unread records.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// Shards with unread records.
    pub shards: usize,
    /// The age of the oldest of them, zero where all is read.
    pub oldest: Duration,
    /// How often a probe of a shard brought what.
    pub probes: [(&'static str, u64); 5],
    /// The age of each shard's oldest unread record, where it has one; empty unless shards are
    /// shown one by one.
    pub by_shard: Vec<(String, Duration)>,
}

/// Upper bounds of a histogram, in seconds.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// The watchers at one moment, by how they can answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WatcherCounts {
    /// Answer from a snapshot of the last refresh.
    pub fresh: usize,
    /// Answer from the last good snapshot: the refresh failed.
    pub stale: usize,
    /// Answer with an error.
    pub failing: usize,
    /// Have no answer yet.
    pub pending: usize,
    /// Age of the oldest snapshot that is answered from.
    pub oldest: Duration,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let quick = Buckets(&[
            0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 2.0, 2.5,
        ]);
        let remote = Buckets(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0]);
        let mut this = Self {
            registry: Registry::with_prefix("keda_kinesis_scaler"),
            scrape: Mutex::default(),
            rpcs: Family::default(),
            rpc_seconds: Family::new_with_constructor(quick),
            aws_calls: Family::default(),
            aws_seconds: Family::new_with_constructor(remote),
            watchers: Family::default(),
            oldest_snapshot: Gauge::default(),
            probes: Family::default(),
            readable_shards: Family::default(),
            unread_shards: Family::default(),
            oldest_unread: Family::default(),
            shard_oldest_unread: Family::default(),
            push_streams: Gauge::default(),
        };
        let registry = &mut this.registry;
        registry.register(
            "rpcs",
            "RPCs answered; a push stream counts when it opens",
            this.rpcs.clone(),
        );
        registry.register_with_unit(
            "rpc_duration",
            "Time to the answer of an RPC, or to the opening of a push stream",
            Unit::Seconds,
            this.rpc_seconds.clone(),
        );
        registry.register(
            "aws_calls",
            "AWS calls, each attempt by itself",
            this.aws_calls.clone(),
        );
        registry.register_with_unit(
            "aws_call_duration",
            "Time of an AWS call",
            Unit::Seconds,
            this.aws_seconds.clone(),
        );
        registry.register(
            "watchers",
            "Watched sources, by how they can answer now",
            this.watchers.clone(),
        );
        registry.register_with_unit(
            "oldest_snapshot_age",
            "Age of the oldest snapshot that is answered from",
            Unit::Seconds,
            this.oldest_snapshot.clone(),
        );
        registry.register(
            "probes",
            "Shards looked into for an unread record, by application and what came of it",
            this.probes.clone(),
        );
        registry.register(
            "readable_shards",
            "Shards that an application can work on now",
            this.readable_shards.clone(),
        );
        registry.register(
            "unread_shards",
            "Readable shards with a record after the checkpoint",
            this.unread_shards.clone(),
        );
        registry.register_with_unit(
            "oldest_unread_age",
            "Age of an application's oldest unread record; 0 where all is read",
            Unit::Seconds,
            this.oldest_unread.clone(),
        );
        registry.register_with_unit(
            "shard_oldest_unread_age",
            "Age of a shard's oldest unread record; only with perShardMetrics",
            Unit::Seconds,
            this.shard_oldest_unread.clone(),
        );
        registry.register(
            "push_streams",
            "Push streams that are open",
            this.push_streams.clone(),
        );
        this
    }

    /// Counts one answered RPC.
    pub fn rpc(&self, method: &'static str, code: Code, took: Duration) {
        let code = code_name(code);
        self.rpcs.get_or_create(&RpcLabels { method, code }).inc();
        self.rpc_seconds
            .get_or_create(&MethodLabels { method })
            .observe(took.as_secs_f64());
    }

    /// Counts one attempt at an AWS call; `failed`: how it failed, `None` where it succeeded.
    pub fn aws_call(
        &self,
        operation: &'static str,
        failed: Option<SourceErrorKind>,
        took: Duration,
    ) {
        let outcome = code_name(failed.map_or(Code::Ok, SourceErrorKind::code));
        let labels = AwsLabels { operation, outcome };
        self.aws_calls.get_or_create(&labels).inc();
        self.aws_seconds
            .get_or_create(&OperationLabels { operation })
            .observe(took.as_secs_f64());
    }

    /// Sets the gauges of the applications as they are now, and removes those of earlier scrapes.
    fn applications(&self, applications: Vec<ApplicationGauges>) {
        self.readable_shards.clear();
        self.unread_shards.clear();
        self.oldest_unread.clear();
        self.shard_oldest_unread.clear();
        self.probes.clear();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for ApplicationGauges {
            stream,
            region,
            lease_table,
            readable,
            unread,
        } in applications
        {
            let of_shard = |shard: String| ShardLabels {
                stream: stream.clone(),
                region: region.clone(),
                lease_table: lease_table.clone(),
                shard,
            };
            let probed = unread.as_ref().map(|unread| unread.probes);
            for (outcome, count) in probed.into_iter().flatten() {
                let labels = ProbeLabels {
                    stream: stream.clone(),
                    region: region.clone(),
                    lease_table: lease_table.clone(),
                    outcome,
                };
                self.probes.get_or_create(&labels).inc_by(count);
            }
            let by_shard = unread.as_ref().map(|unread| unread.by_shard.clone());
            for (shard, age) in by_shard.into_iter().flatten() {
                self.shard_oldest_unread
                    .get_or_create(&of_shard(shard))
                    .set(age.as_secs_f64());
            }
            let labels = ApplicationLabels {
                stream,
                region,
                lease_table,
            };
            self.readable_shards
                .get_or_create(&labels)
                .set(number(readable));
            if let Some(unread) = unread {
                self.unread_shards
                    .get_or_create(&labels)
                    .set(number(unread.shards));
                self.oldest_unread
                    .get_or_create(&labels)
                    .set(unread.oldest.as_secs_f64());
            }
        }
    }

    /// The text of a scrape.
    pub fn encode(&self, counts: WatcherCounts, applications: Vec<ApplicationGauges>) -> String {
        // Two scrapes at once would remove each other's gauges.
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.applications(applications);
        let WatcherCounts {
            fresh,
            stale,
            failing,
            pending,
            oldest,
        } = counts;
        for (state, count) in [
            ("fresh", fresh),
            ("stale", stale),
            ("failing", failing),
            ("pending", pending),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.watchers
                .get_or_create(&StateLabels { state })
                .set(count);
        }
        self.oldest_snapshot.set(oldest.as_secs_f64());
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
