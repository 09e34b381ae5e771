//! What Prometheus is told. A plain struct that owns its registry; labels come from small fixed sets, never from clients.

use std::{sync::atomic::AtomicU64, time::Duration};

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

use crate::error::SourceErrorKind;

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rpcs: Family<RpcLabels, Counter>,
    rpc_seconds: Family<MethodLabels, Histogram, Buckets>,
    aws_calls: Family<AwsLabels, Counter>,
    aws_seconds: Family<OperationLabels, Histogram, Buckets>,
    watchers: Family<StateLabels, Gauge>,
    oldest_snapshot: Gauge<f64, AtomicU64>,
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
            rpcs: Family::default(),
            rpc_seconds: Family::new_with_constructor(quick),
            aws_calls: Family::default(),
            aws_seconds: Family::new_with_constructor(remote),
            watchers: Family::default(),
            oldest_snapshot: Gauge::default(),
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
            "push_streams",
            "Push streams that are open",
            this.push_streams.clone(),
        );
        this
    }

    /// One answered RPC.
    pub fn rpc(&self, method: &'static str, code: Code, took: Duration) {
        let code = code_label(code);
        self.rpcs.get_or_create(&RpcLabels { method, code }).inc();
        self.rpc_seconds
            .get_or_create(&MethodLabels { method })
            .observe(took.as_secs_f64());
    }

    /// One attempt at an AWS call; `failed` is how, or `None` where it went well.
    pub fn aws_call(
        &self,
        operation: &'static str,
        failed: Option<SourceErrorKind>,
        took: Duration,
    ) {
        let outcome = code_label(failed.map_or(Code::Ok, SourceErrorKind::code));
        let labels = AwsLabels { operation, outcome };
        self.aws_calls.get_or_create(&labels).inc();
        self.aws_seconds
            .get_or_create(&OperationLabels { operation })
            .observe(took.as_secs_f64());
    }

    /// The text of a scrape.
    pub fn encode(&self, counts: WatcherCounts) -> String {
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

/// A gRPC code in the words of the gRPC specification.
fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
