//! Prometheus metrics: a plain struct that owns its registry. Labels come from small fixed sets or
//! from watched sources, never straight from clients.

use std::{
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Registry, Unit},
};
use tonic::Code;

use crate::error::{SourceErrorKind, code_name};

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    scrape: Mutex<()>,
    rpcs: Family<Labels<2>, Counter>,
    rpc_seconds: Family<Labels<1>, Histogram, Buckets>,
    aws_calls: Family<Labels<2>, Counter>,
    aws_seconds: Family<Labels<1>, Histogram, Buckets>,
    watchers: Family<Labels<1>, Gauge>,
    oldest_snapshot: Gauge<f64, AtomicU64>,
    probes: Family<ApplicationLabels, Counter>,
    readable_shards: Family<ApplicationLabels, Gauge>,
    unread_shards: Family<ApplicationLabels, Gauge>,
    oldest_unread: Family<ApplicationLabels, Gauge<f64, AtomicU64>>,
    undecided_shards: Family<ApplicationLabels, Gauge>,
    oldest_verdict: Family<ApplicationLabels, Gauge<f64, AtomicU64>>,
    standing_shards: Family<ApplicationLabels, Gauge>,
    orphaned_shards: Family<ApplicationLabels, Gauge>,
    shard_oldest_unread: Family<ApplicationLabels, Gauge<f64, AtomicU64>>,
    /// Push streams that are open.
    pub push_streams: Gauge,
    /// Streams whose shards may not be listed.
    pub unlisted_streams: Gauge,
}

/// Labels with fixed values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The stream, region and lease table of an application, and more.
type ApplicationLabels = Vec<(&'static str, String)>;

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
    /// Shards with unread records; `None`: not known of each.
    pub shards: Option<usize>,
    /// The age of the oldest record known to be unread, zero where all is read; `None`: of no shard
    /// is anything known.
    pub oldest: Option<Duration>,
    /// Shards of which it is not known whether they have unread records.
    pub undecided: usize,
    /// The age of the oldest verdict that stands in because probes fail, zero where none does.
    pub oldest_verdict: Duration,
    /// Shards whose checkpoints stand still in an outage.
    pub standing: usize,
    /// Shards with work that nobody takes although pods run.
    pub orphans: usize,
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
        let mut registry = Registry::with_prefix("keda_kinesis_scaler");
        let r = &mut registry;
        Self {
            scrape: Mutex::default(),
            rpcs: count(
                r,
                "rpcs",
                "RPCs answered; a push stream counts when it opens",
            ),
            rpc_seconds: seconds(
                r,
                "rpc_duration",
                "Time to the answer of an RPC, or to the opening of a push stream",
                Family::new_with_constructor(quick),
            ),
            aws_calls: count(r, "aws_calls", "AWS calls, each attempt by itself"),
            aws_seconds: seconds(
                r,
                "aws_call_duration",
                "Time of an AWS call",
                Family::new_with_constructor(remote),
            ),
            watchers: count(r, "watchers", "Watched sources, by how they can answer now"),
            oldest_snapshot: seconds(
                r,
                "oldest_snapshot_age",
                "Age of the oldest snapshot that is answered from",
                Gauge::default(),
            ),
            probes: count(
                r,
                "probes",
                "Shards looked into for an unread record, by application and what came of it",
            ),
            readable_shards: count(
                r,
                "readable_shards",
                "Shards that an application can work on now",
            ),
            unread_shards: count(
                r,
                "unread_shards",
                "Readable shards with a record after the checkpoint",
            ),
            oldest_unread: seconds(
                r,
                "oldest_unread_age",
                "Age of an application's oldest unread record; 0 where all is read",
                Family::default(),
            ),
            undecided_shards: count(
                r,
                "undecided_shards",
                "Readable shards of which it is not known whether they have unread records",
            ),
            oldest_verdict: seconds(
                r,
                "oldest_verdict_age",
                "Age of the oldest verdict on a shard that stands in because probes fail; 0 where none does",
                Family::default(),
            ),
            standing_shards: count(
                r,
                "outage_shards",
                "Shards whose checkpoints stand still in an outage; 0 where there is none",
            ),
            orphaned_shards: count(
                r,
                "orphaned_shards",
                "Shards with unread records that nobody takes although pods run",
            ),
            shard_oldest_unread: seconds(
                r,
                "shard_oldest_unread_age",
                "Age of a shard's oldest unread record; only with perShardMetrics",
                Family::default(),
            ),
            push_streams: count(r, "push_streams", "Push streams that are open"),
            unlisted_streams: count(
                r,
                "unlisted_streams",
                "Streams for which kinesis:ListShards is denied: their answers wait for aws.callsPerSecond",
            ),
            registry,
        }
    }

    /// Counts one answered RPC.
    pub fn rpc(&self, method: &'static str, code: Code, took: Duration) {
        let method = ("method", method);
        let code = ("code", code_name(code));
        self.rpcs.get_or_create(&[method, code]).inc();
        let seconds = self.rpc_seconds.get_or_create(&[method]);
        seconds.observe(took.as_secs_f64());
    }

    /// Counts one attempt at an AWS call; `failed`: how it failed, `None` where it succeeded.
    pub fn aws_call(
        &self,
        operation: &'static str,
        failed: Option<SourceErrorKind>,
        took: Duration,
    ) {
        let code = failed.map_or(Code::Ok, SourceErrorKind::code);
        let operation = ("operation", operation);
        let outcome = ("outcome", code_name(code));
        self.aws_calls.get_or_create(&[operation, outcome]).inc();
        let seconds = self.aws_seconds.get_or_create(&[operation]);
        seconds.observe(took.as_secs_f64());
    }

    /// Sets the gauges of the applications as they are now, and removes those of earlier scrapes.
    fn applications(&self, applications: Vec<ApplicationGauges>) {
        self.readable_shards.clear();
        self.unread_shards.clear();
        self.oldest_unread.clear();
        self.undecided_shards.clear();
        self.oldest_verdict.clear();
        self.standing_shards.clear();
        self.orphaned_shards.clear();
        self.shard_oldest_unread.clear();
        self.probes.clear();
        for application in applications {
            let ApplicationGauges {
                stream,
                region,
                lease_table,
                readable,
                unread,
            } = application;
            let labels: ApplicationLabels = vec![
                ("stream", stream),
                ("region", region),
                ("lease_table", lease_table),
            ];
            let with = |name, value: &str| {
                let more = [(name, value.to_owned())];
                [labels.clone(), more.to_vec()].concat()
            };
            self.readable_shards
                .get_or_create(&labels)
                .set(number(readable));
            let Some(unread) = unread else { continue };
            let shards = [
                (&self.unread_shards, unread.shards),
                (&self.undecided_shards, Some(unread.undecided)),
                (&self.standing_shards, Some(unread.standing)),
                (&self.orphaned_shards, Some(unread.orphans)),
            ];
            for (gauge, count) in shards {
                if let Some(count) = count {
                    gauge.get_or_create(&labels).set(number(count));
                }
            }
            let ages = [
                (&self.oldest_unread, unread.oldest),
                (&self.oldest_verdict, Some(unread.oldest_verdict)),
            ];
            for (gauge, age) in ages {
                if let Some(age) = age {
                    gauge.get_or_create(&labels).set(age.as_secs_f64());
                }
            }
            for (outcome, count) in unread.probes {
                self.probes
                    .get_or_create(&with("outcome", outcome))
                    .inc_by(count);
            }
            for (shard, age) in unread.by_shard {
                self.shard_oldest_unread
                    .get_or_create(&with("shard", &shard))
                    .set(age.as_secs_f64());
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
            let watchers = self.watchers.get_or_create(&[("state", state)]);
            watchers.set(number(count));
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

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}
