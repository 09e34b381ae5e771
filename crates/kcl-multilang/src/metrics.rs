//! What is counted, for Prometheus and as JSON: the library's events under the consumer's names, so
//! that the same dashboard and alerts do for both, and what children do.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kinesis_consumer::{Event, LeaseKey};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};
use serde_json::{Value, json};
use tokio::time::Instant;

type Labels = [(&'static str, String); 1];
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Outcomes = Family<[(&'static str, String); 2], Counter>;

/// All metrics of one daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    worker: String,
    ready: AtomicBool,
    held: Mutex<BTreeMap<LeaseKey, Held>>,

    fetched: Counters,
    settled: Outcomes,
    bytes: Counters,
    batches: Counters,
    millis_behind_latest: Gauges,
    checkpoint_age: Gauges,
    current_leases: Gauge,
    acquired: Counter,
    lost: Counter,
    handed_over: Counter,
    released: Counter,
    shards_ended: Counter,
    processor_failures: Counter,
    checkpoints_expired: Counter,
    retries: Counters,
    throttles: Counters,
    children_started: Counter,
    children_failed: Counter,
    junk_lines: Counter,
}

/// A shard whose lease is held.
#[derive(Clone, Debug)]
struct Held {
    /// Unknown until the first answer of GetRecords: never a made-up 0.
    millis_behind_latest: Option<i64>,
    checkpoint: Option<String>,
    checkpointed: Instant,
}

impl Metrics {
    /// Metrics with the labels `stream` and `application`.
    pub fn new(stream: &str, application: &str, worker: &str) -> Self {
        let labels = [("stream", stream), ("application", application)];
        let labels = labels.map(|(name, value)| (name.into(), value.to_owned().into()));
        let mut registry = Registry::with_prefix_and_labels("kinesis_consumer", labels.into_iter());
        let r = &mut registry;
        Self {
            fetched: told(
                r,
                "fetched_records",
                "User records read, each time they were read",
            ),
            settled: told(r, "settled_records", "What became of them"),
            bytes: told(
                r,
                "data_bytes_processed",
                "Data of records that children took, in bytes",
            ),
            batches: told(r, "batches_processed", "Their batches"),
            millis_behind_latest: told(
                r,
                "millis_behind_latest",
                "How far behind the shard's tip the last read ended",
            ),
            checkpoint_age: told(
                r,
                "checkpoint_age_seconds",
                "Since the checkpoint last moved, on idle shards too",
            ),
            current_leases: told(r, "current_leases", "Leases held"),
            acquired: told(r, "acquired_leases", "Leases taken or received"),
            lost: told(r, "lost_leases", "Leases lost to others"),
            handed_over: told(
                r,
                "handed_over_leases",
                "Leases handed to a worker that asked",
            ),
            released: told(r, "released_leases", "Leases given up at shutdown"),
            shards_ended: told(r, "shards_ended", "Closed shards processed to their end"),
            processor_failures: told(
                r,
                "processor_failures",
                "Calls of a child that failed and were tried again",
            ),
            checkpoints_expired: told(
                r,
                "expired_checkpoints",
                "Gaps: records after a checkpoint may be lost to the stream's retention",
            ),
            retries: told(r, "retries", "Calls that failed and were tried again"),
            throttles: told(r, "throttles", "Calls that AWS throttled"),
            children_started: told(r, "children_started", "Children started"),
            children_failed: told(
                r,
                "children_failed",
                "Children that died, hung or were out of step",
            ),
            junk_lines: told(
                r,
                "child_lines_skipped",
                "Lines on children's standard output that are no message",
            ),
            worker: worker.to_owned(),
            ready: AtomicBool::new(false),
            held: Mutex::default(),
            registry,
        }
    }

    /// Counts an event.
    pub fn record(&self, event: &Event) {
        match event {
            Event::Admitted => self.set_ready(true),
            Event::LeaseAcquired { shard, .. } => {
                self.acquired.inc();
                let held = Held {
                    millis_behind_latest: None,
                    checkpoint: None,
                    checkpointed: Instant::now(),
                };
                self.held().insert(shard.clone(), held);
            }
            Event::LeaseLost { shard, .. } => self.gone(shard, &self.lost),
            Event::HandedOver { shard, .. } => self.gone(shard, &self.handed_over),
            Event::LeaseReleased { shard, .. } => self.gone(shard, &self.released),
            Event::ShardEnded { shard, .. } => self.gone(shard, &self.shards_ended),
            Event::ShardStarted {
                shard, checkpoint, ..
            }
            | Event::Checkpointed {
                shard, checkpoint, ..
            } => {
                if let Some(held) = self.held().get_mut(shard) {
                    held.checkpoint = Some(checkpoint.to_string());
                    held.checkpointed = Instant::now();
                }
            }
            Event::Fetched {
                shard,
                records,
                covered,
                ..
            } => {
                self.fetched
                    .get_or_create(&label(shard))
                    .inc_by(*records as u64);
                self.settle(shard, "covered", *covered);
            }
            Event::GivenBack { shard, records, .. } => self.settle(shard, "given_back", *records),
            Event::AggregateRejected { shard, records, .. } => {
                self.settle(shard, "rejected", *records);
            }
            Event::Processed {
                shard,
                records,
                bytes,
                millis_behind_latest,
                ..
            } => {
                self.settle(shard, "processed", *records);
                self.bytes
                    .get_or_create(&label(shard))
                    .inc_by(*bytes as u64);
                self.batches.get_or_create(&label(shard)).inc();
                self.behind(shard, *millis_behind_latest);
            }
            Event::Polled {
                shard,
                millis_behind_latest,
                ..
            } => {
                self.behind(shard, *millis_behind_latest);
            }
            Event::ProcessorFailed { .. } => drop(self.processor_failures.inc()),
            Event::CheckpointExpired { .. } => drop(self.checkpoints_expired.inc()),
            Event::Throttled { operation, .. } => {
                self.throttles
                    .get_or_create(&[("operation", (*operation).to_owned())])
                    .inc();
            }
            Event::Retrying { operation, .. } => {
                self.retries
                    .get_or_create(&[("operation", (*operation).to_owned())])
                    .inc();
            }
            _ => {}
        }
    }

    /// Whether shards are consumed.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Are shards consumed?
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn child_started(&self) {
        self.children_started.inc();
    }

    pub(crate) fn child_failed(&self) {
        self.children_failed.inc();
    }

    pub(crate) fn junk_line(&self) {
        self.junk_lines.inc();
    }

    /// For Prometheus.
    pub fn text(&self) -> String {
        let held = self.held().clone();
        self.current_leases.set(held.len() as i64);
        for (shard, held) in held {
            if let Some(millis) = held.millis_behind_latest {
                self.millis_behind_latest
                    .get_or_create(&label(&shard))
                    .set(millis);
            }
            let age = held.checkpointed.elapsed().as_secs();
            self.checkpoint_age
                .get_or_create(&label(&shard))
                .set(age as i64);
        }
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// As JSON.
    pub fn state(&self) -> Value {
        let leases = self
            .held()
            .iter()
            .map(|(shard, held)| {
                json!({
                    "shard": shard.to_string(),
                    "checkpoint": held.checkpoint,
                    "millisBehindLatest": held.millis_behind_latest,
                })
            })
            .collect::<Vec<_>>();
        json!({"instance": self.worker, "ready": self.is_ready(), "leases": leases})
    }

    fn settle(&self, shard: &LeaseKey, outcome: &str, records: usize) {
        if records > 0 {
            let labels = [
                ("shard", shard.to_string()),
                ("outcome", outcome.to_owned()),
            ];
            self.settled.get_or_create(&labels).inc_by(records as u64);
        }
    }

    fn behind(&self, shard: &LeaseKey, millis: i64) {
        if let Some(held) = self.held().get_mut(shard) {
            held.millis_behind_latest = Some(millis);
        }
    }

    fn gone(&self, shard: &LeaseKey, count: &Counter) {
        // A shard that ended is given up, too.
        if self.held().remove(shard).is_some() {
            count.inc();
        }
        self.millis_behind_latest.remove(&label(shard));
        self.checkpoint_age.remove(&label(shard));
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<LeaseKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn label(shard: &LeaseKey) -> Labels {
    [("shard", shard.to_string())]
}

fn told<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
