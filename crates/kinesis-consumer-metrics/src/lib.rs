#![doc = include_str!("../README.md")]
//!
//! Where KCL has a metric of the same meaning, its name is KCL's in Prometheus form
//! (MillisBehindLatest → `millis_behind_latest`).

use std::sync::atomic::AtomicU64;

use kinesis_consumer::{Event, LeaseKey};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    seldom::Seldom,
    state::{Held, State},
};

pub use self::admin::serve;
pub use prometheus_client::{metrics, registry::Metric};

mod admin;
mod seldom;
mod state;

/// One label and its value.
pub type Labels = [(&'static str, String); 1];
/// A counter for each value of a label.
pub type Counters = Family<Labels, Counter>;
type Units = Family<Labels, Counter<f64, AtomicU64>>;
type Gauges = Family<Labels, Gauge>;
type Outcomes = Family<[(&'static str, String); 2], Counter>;

/// The metrics that every consumer has, and those that it adds.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    state: State,
    seldom: Seldom,
    failing: Gauges,
    unreadable: Gauge,
    put_back: Counter,
    started_anew: Counters,
    fetched: Counters,
    settled: Outcomes,
    in_hand: Gauge,
    bytes: Counters,
    batches: Counters,
    records_total: Counter,
    millis_behind_latest: Gauges,
    checkpoint_age: Gauges,
    current_leases: Gauge,
    acquired: Counter,
    lost: Counter,
    handed_over: Counter,
    released: Counter,
    shards_ended: Counter,
    waiting_shard_ends: Gauge,
    processor_failures: Counter,
    checkpoints_expired: Counter,
    retries: Counters,
    throttles: Counters,
    read_units: Units,
    write_units: Units,
    subscriptions: Counters,
    polls_instead: Gauge,
    led: Gauge,
    streams_failing: Gauge,
    stream_failures: Counter,
}

impl Metrics {
    /// Metrics with the labels `stream` and `application`; `/state` names the instance.
    pub fn new(stream: &str, application: &str, instance: &str) -> Self {
        let labels = [("stream", stream), ("application", application)];
        let labels = labels.map(|(name, value)| (name.into(), value.to_owned().into()));
        let mut registry = Registry::with_prefix_and_labels("kinesis_consumer", labels.into_iter());
        let r = &mut registry;
        Self {
            fetched: registered(
                r,
                "fetched_records",
                "User records read, each time they were read",
            ),
            settled: registered(r, "settled_records", "What became of them"),
            in_hand: registered(
                r,
                "records_in_hand",
                "User records read and not settled yet",
            ),
            bytes: registered(
                r,
                "data_bytes_processed",
                "Data of records processed or kept aside, in bytes",
            ),
            batches: registered(r, "batches_processed", "Their batches"),
            millis_behind_latest: registered(
                r,
                "millis_behind_latest",
                "How far behind the shard's tip the last read ended",
            ),
            checkpoint_age: registered(
                r,
                "checkpoint_age_seconds",
                "Since the checkpoint last moved, on idle shards too",
            ),
            current_leases: registered(r, "current_leases", "Leases held"),
            acquired: registered(r, "acquired_leases", "Leases taken or received"),
            lost: registered(r, "lost_leases", "Leases lost to others"),
            handed_over: registered(
                r,
                "handed_over_leases",
                "Leases handed to a worker that asked",
            ),
            released: registered(r, "released_leases", "Leases given up at shutdown"),
            shards_ended: registered(r, "shards_ended", "Closed shards processed to their end"),
            waiting_shard_ends: registered(
                r,
                "waiting_shard_ends",
                "Closed shards read to their end whose records are not all acknowledged",
            ),
            processor_failures: registered(
                r,
                "processor_failures",
                "Batches that failed and were tried again",
            ),
            checkpoints_expired: registered(
                r,
                "expired_checkpoints",
                "Gaps: records after a checkpoint may be lost to the stream's retention",
            ),
            retries: registered(r, "retries", "Calls that failed and were tried again"),
            throttles: registered(r, "throttles", "Calls that AWS throttled"),
            read_units: registered(
                r,
                "lease_table_read_units",
                "Read request units that calls of the lease table consumed",
            ),
            write_units: registered(
                r,
                "lease_table_write_units",
                "Write request units that calls of the lease table consumed",
            ),
            subscriptions: registered(
                r,
                "subscriptions",
                "Subscriptions begun, with enhanced fan-out: one each five minutes and shard",
            ),
            polls_instead: registered(
                r,
                "polls_instead_of_fan_out",
                "1 if the stream has no place for the consumer, so that the worker polls",
            ),
            led: registered(
                r,
                "led_by_kcl3",
                "1 while a KCL 3 leader assigns the leases",
            ),
            streams_failing: registered(
                r,
                "failing_streams",
                "Of several streams: how many cannot be read, while the others go on",
            ),
            stream_failures: registered(
                r,
                "stream_failures",
                "Of several streams: how often one began to fail",
            ),
            failing: registered(
                r,
                "failing",
                "1 while an operation fails so that waiting does not mend it",
            ),
            started_anew: registered(
                r,
                "started_anew",
                "Starts at the initial position, as the lease table held no leases",
            ),
            put_back: registered(
                r,
                "leases_put_back",
                "Leases that somebody deleted or changed, put back where they stood",
            ),
            unreadable: registered(
                r,
                "unreadable_leases",
                "Leases that nobody can read, whose shards stand still",
            ),
            records_total: Counter::default(),
            state: State::new(instance.to_owned()),
            seldom: Seldom::default(),
            registry,
        }
    }

    /// A metric of the program's own, with the same prefix and labels.
    pub fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        registered(&mut self.registry, name, help)
    }

    /// Counts an event.
    pub fn record(&self, event: &Event) {
        match event {
            Event::Admitted => self.set_ready(true),
            Event::LeaseAcquired { shard, .. } => {
                self.acquired.inc();
                self.state.held().insert(shard.clone(), Held::new());
            }
            Event::LeaseLost { shard, .. } => self.given_up(shard, &self.lost),
            Event::HandedOver { shard, .. } => self.given_up(shard, &self.handed_over),
            Event::LeaseReleased { shard, .. } => self.given_up(shard, &self.released),
            Event::ShardEnded { shard, .. } => self.given_up(shard, &self.shards_ended),
            Event::ShardStarted {
                shard, checkpoint, ..
            }
            | Event::Checkpointed {
                shard, checkpoint, ..
            } => self.state.of(shard, |held| {
                held.checkpoint = Some(checkpoint.to_string());
                held.checkpointed = Instant::now();
            }),
            Event::Fetched {
                shard,
                records,
                covered,
                ..
            } => {
                let fetched = self.fetched.get_or_create(&label(shard));
                fetched.inc_by(*records as u64);
                self.in_hand.inc_by(*records as i64);
                self.settle(shard, "covered", *covered);
            }
            Event::GivenBack { shard, records, .. } => self.settle(shard, "given_back", *records),
            Event::AggregateRejected {
                shard,
                records,
                bytes,
                ..
            } => {
                self.settle(shard, "rejected", *records);
                self.bytes
                    .get_or_create(&label(shard))
                    .inc_by(*bytes as u64);
            }
            Event::ShardEndWaits { shard, .. } => {
                self.state.of(shard, |held| held.end_waits = true)
            }
            Event::Processed {
                shard,
                records,
                rejected,
                bytes,
                millis_behind_latest,
                ..
            } => {
                let label = label(shard);
                self.settle(shard, "processed", records - rejected);
                self.settle(shard, "rejected", *rejected);
                self.bytes.get_or_create(&label).inc_by(*bytes as u64);
                self.batches.get_or_create(&label).inc();
                let records = *records as u64;
                self.records_total.inc_by(records);
                self.state.of(shard, |held| {
                    held.tell(*millis_behind_latest);
                    held.records += records;
                });
            }
            Event::Polled {
                shard,
                millis_behind_latest,
                ..
            } => {
                self.state
                    .of(shard, |held| held.tell(*millis_behind_latest));
            }
            Event::TableUsed {
                operation,
                read_units,
                write_units,
                ..
            } => {
                let used = [
                    (&self.read_units, *read_units),
                    (&self.write_units, *write_units),
                ];
                for (counters, units) in used.into_iter().filter(|(_, units)| *units > 0.0) {
                    let counter = counters.get_or_create(&operation_label(operation));
                    counter.inc_by(units);
                }
            }
            Event::ProcessorFailed { .. } => drop(self.processor_failures.inc()),
            Event::Throttled { operation, .. } => self.retried(operation, true),
            Event::Retrying { operation, .. } => self.retried(operation, false),
            Event::Failing {
                operation, error, ..
            } => drop(
                self.state
                    .failures()
                    .insert(*operation, (error.clone(), Instant::now())),
            ),
            Event::Recovered { operation, .. } => drop(self.state.failures().remove(operation)),
            Event::Unreadable { leases, .. } => {
                self.unreadable.set(leases.len() as i64);
                self.state.unread().clone_from(leases);
            }
            Event::StartedAnew { position, .. } => {
                let label = [("position", position.to_string())];
                self.started_anew.get_or_create(&label).inc();
            }
            Event::StreamFailing { stream, error, .. } => {
                self.stream_failures.inc();
                self.state.streams().insert(stream.clone(), error.clone());
                self.count_streams();
            }
            Event::StreamRecovered { stream, .. } => {
                self.state.streams().remove(stream);
                self.count_streams();
            }
            Event::StreamRemoved { stream, .. } => {
                self.state.streams().remove(&stream.to_string());
                self.count_streams();
            }
            Event::CheckpointPutBack { .. } => drop(self.put_back.inc()),
            Event::LeasesPutBack { shards, .. } => drop(self.put_back.inc_by(shards.len() as u64)),
            Event::CheckpointExpired { .. } => drop(self.checkpoints_expired.inc()),
            Event::Subscribed { shard, .. } => {
                self.subscriptions.get_or_create(&label(shard)).inc();
            }
            Event::FellBackToPolling { .. } => drop(self.polls_instead.set(1)),
            Event::Led { .. } => drop(self.led.set(1)),
            Event::Unled => drop(self.led.set(0)),
            _ => {}
        }
    }

    /// Counts a call that is tried again.
    pub fn retried(&self, operation: &str, throttled: bool) {
        let counters = match throttled {
            true => &self.throttles,
            false => &self.retries,
        };
        counters.get_or_create(&operation_label(operation)).inc();
    }

    /// For a line of the log that would come by the hundred: how often that happened since it was
    /// last told, where it is to be told now. At once, and then once a minute.
    pub fn seldom(&self, what: &str) -> Option<u64> {
        self.seldom.times(what)
    }

    /// Is the worker running, and not stopping?
    pub fn set_ready(&self, ready: bool) {
        self.state.set_ready(ready);
    }

    /// Everything, in OpenMetrics' text form.
    pub fn text(&self) -> String {
        self.set_gauges();
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// What a person wants to know of this consumer.
    pub fn state(&self) -> Value {
        let mut state = self.state.json(Instant::now());
        state["records"] = json!(self.records_total.get());
        state
    }

    /// At the scrape, so that a shard given up leaves no line behind, and ages are right.
    fn set_gauges(&self) {
        let now = Instant::now();
        let held = self.state.held();
        self.current_leases.set(held.len() as i64);
        let waiting = held.values().filter(|held| held.end_waits).count();
        self.waiting_shard_ends.set(waiting as i64);
        self.millis_behind_latest.clear();
        self.checkpoint_age.clear();
        self.failing.clear();
        for operation in self.state.failures().keys() {
            self.failing
                .get_or_create(&operation_label(operation))
                .set(1);
        }
        for (shard, held) in held.iter() {
            let label = label(shard);
            if let Some(millis) = held.lag_millis(now) {
                self.millis_behind_latest.get_or_create(&label).set(millis);
            }
            let age = now.saturating_duration_since(held.checkpointed).as_secs();
            self.checkpoint_age.get_or_create(&label).set(age as i64);
        }
    }

    fn count_streams(&self) {
        let failing = self.state.streams().len();
        self.streams_failing.set(failing as i64);
    }

    fn settle(&self, shard: &LeaseKey, outcome: &str, records: usize) {
        if records > 0 {
            let labels = [
                ("shard", shard.to_string()),
                ("outcome", outcome.to_owned()),
            ];
            let settled = self.settled.get_or_create(&labels);
            settled.inc_by(records as u64);
            self.in_hand.dec_by(records as i64);
        }
    }

    /// Counts once, though a lease may be told as ended and then as given up.
    fn given_up(&self, shard: &LeaseKey, counter: &Counter) {
        if self.state.give_up(shard) {
            counter.inc();
        }
    }
}

fn label(shard: &LeaseKey) -> Labels {
    [("shard", shard.to_string())]
}

fn operation_label(operation: &str) -> Labels {
    [("operation", operation.to_owned())]
}

/// A metric, registered by that name.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests;
