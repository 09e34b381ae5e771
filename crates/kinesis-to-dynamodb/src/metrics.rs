//! What is counted: the library's events, and the writer's outcomes beside them.

use std::sync::Arc;

use kinesis_consumer::Event;
use kinesis_consumer_metrics::{Counters, Metrics as OfTheLibrary, metrics::counter::Counter};
use serde_json::{Value, json};

use crate::{Settings, item::Rejected, writer::Put};

/// All metrics of one consumer.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) library: Arc<OfTheLibrary>,
    written: Counter,
    stale: Counters,
    superseded: Counter,
    rejects: Counters,
}

impl Metrics {
    /// Metrics with the labels `stream` and `application`. Of several streams, the label `shard`
    /// names each.
    pub fn new(settings: &Settings) -> Self {
        let (stream, application) = (settings.reads(), &settings.application_name);
        let mut library = OfTheLibrary::new(stream, application, &settings.instance_name());
        Self {
            written: library.add("items_written", "Items written"),
            stale: library.add(
                "stale_writes",
                "Records that the table had already, or a newer one of their key: by reason",
            ),
            superseded: library.add(
                "superseded_records",
                "Records not written for a newer one of their key in the batch",
            ),
            rejects: library.add("rejected_records", "Records that cannot be stored"),
            library: Arc::new(library),
        }
    }

    /// Counts an event.
    pub fn record(&self, event: &Event) {
        self.library.record(event);
    }

    pub(crate) fn write_retried(&self, operation: &'static str, throttled: bool) {
        self.library.retried(operation, throttled);
    }

    pub(crate) fn put(&self, put: &Put) {
        let reason = match put {
            Put::Stored => {
                self.written.inc();
                return;
            }
            Put::Repeated => "repeated",
            Put::Older => "older",
            Put::Rejected(_) => return,
        };
        let stale = self.stale.get_or_create(&[("reason", reason.to_owned())]);
        stale.inc();
    }

    pub(crate) fn superseded(&self, records: usize) {
        self.superseded.inc_by(records as u64);
    }

    pub(crate) fn rejected(&self, reason: &Rejected) {
        self.rejects
            .get_or_create(&[("reason", reason.label().to_owned())])
            .inc();
    }

    /// What a person, or the demo, wants to know of this consumer.
    pub fn state(&self) -> Value {
        let mut state = self.library.state();
        state["itemsWritten"] = json!(self.written.get());
        state["staleWrites"] = json!(self.stale_writes());
        state["supersededRecords"] = json!(self.superseded.get());
        state
    }

    fn stale_writes(&self) -> u64 {
        let of = |reason: &str| {
            let stale = self.stale.get_or_create(&[("reason", reason.to_owned())]);
            stale.get()
        };
        of("repeated") + of("older")
    }
}

#[cfg(test)]
mod tests;
