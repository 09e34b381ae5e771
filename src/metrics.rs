//! Prometheus metrics: a plain struct that owns its registry for what is counted as it happens, and
//! tables for what a scrape reads. Labels come from small fixed sets or from watched sources, never
//! straight from clients; names of ScaledObjects are bounded.

pub mod process;
pub mod scrape;

use std::{fmt, time::Duration};

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

use self::process::Process;
pub use self::scrape::{ApplicationGauges, FailingObject, Scrape, Unread, WatcherCounts};
use crate::error::{SourceErrorKind, code_name};

/// The bounds by which clients are refused, or lose, something.
const LIMITS: [&str; 11] = [
    "connections",
    "admin_connections",
    "handshakes",
    "streams",
    "watchers",
    "awsClients",
    "requests",
    "silence",
    "handshake",
    "policy",
    "certificate",
];

/// How reloads of the configuration end.
const RELOADS: [&str; 2] = ["good", "bad"];

/// Of every metric but the process' own.
const PREFIX: &str = "keda_kinesis_scaler";

/// What is counted as it happens.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rpcs: Family<Labels<2>, Counter>,
    rpc_seconds: Family<Labels<1>, Histogram, Buckets>,
    aws_calls: Family<Labels<2>, Counter>,
    aws_seconds: Family<Labels<1>, Histogram, Buckets>,
    limited: Family<Labels<1>, Counter>,
    reloads: Family<Labels<1>, Counter>,
    last_reload_good: Gauge,
    /// 1 where the TLS files are in force, 0 where they are wrong.
    pub tls_good: Gauge,
    /// When the certificate in force ends, in seconds since 1970; 0: there is none.
    pub tls_expires: Gauge,
    /// Push streams that are open.
    pub push_streams: Gauge,
    /// Streams whose shards may not be listed.
    pub unlisted_streams: Gauge,
}

/// Labels with fixed values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Upper bounds of a histogram, in seconds.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let quick = Buckets(&[
            0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 2.0, 2.5,
        ]);
        let remote = Buckets(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0]);
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        let metrics = Self {
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
            limited: count(
                r,
                "limited",
                "What clients were refused or lost by a bound, by the bound",
            ),
            reloads: count(r, "config_reloads", "Reloads of the configuration file"),
            last_reload_good: count(
                r,
                "config_last_reload_successful",
                "1 where the configuration in force is the file's, 0 where the file is wrong",
            ),
            tls_good: count(
                r,
                "tls_last_reload_successful",
                "1 where the TLS files are in force, 0 where they are wrong and those before are",
            ),
            tls_expires: seconds(
                r,
                "tls_certificate_expiry_timestamp",
                "When the certificate in force ends, as Unix time; 0 without TLS",
                Gauge::default(),
            ),
            push_streams: count(r, "push_streams", "Push streams that are open"),
            unlisted_streams: count(
                r,
                "unlisted_streams",
                "Streams for which kinesis:ListShards is denied: their answers wait for aws.callsPerSecond",
            ),
            registry,
        };
        metrics.last_reload_good.set(1);
        metrics.tls_good.set(1);
        // A rate from zero needs a zero.
        for limit in LIMITS {
            drop(metrics.limited.get_or_create(&[("limit", limit)]));
        }
        for outcome in RELOADS {
            drop(metrics.reloads.get_or_create(&[("outcome", outcome)]));
        }
        metrics
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

    /// Counts that a client was refused, or lost, something by a bound.
    pub fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&[("limit", limit)]).inc();
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, good: bool) {
        let [well, badly] = RELOADS;
        let outcome = if good { well } else { badly };
        self.reloads.get_or_create(&[("outcome", outcome)]).inc();
        self.last_reload_good.set(good.into());
    }

    /// The text of a scrape.
    pub fn encode(&self, scrape: Scrape) -> String {
        let mut scraped = Registry::with_prefix(PREFIX);
        scraped.register_collector(Box::new(scrape));
        let mut own = Registry::default();
        own.register_collector(Box::new(Process::read()));
        let mut text = String::new();
        let encoded = [&self.registry, &scraped, &own]
            .into_iter()
            .try_for_each(|registry| text::encode_registry(&mut text, registry))
            .and_then(|()| text::encode_eof(&mut text));
        match encoded {
            Ok(()) => text,
            Err(fmt::Error) => unreachable!("writing to a String does not fail"),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
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
