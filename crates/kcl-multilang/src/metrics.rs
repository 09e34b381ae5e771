//! What is counted: the library's events, and what children do.

use std::sync::Arc;

use kinesis_consumer_metrics::{Metrics as OfTheLibrary, metrics::counter::Counter};

/// All metrics of one daemon.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) library: Arc<OfTheLibrary>,
    children_started: Counter,
    children_failed: Counter,
    junk_lines: Counter,
}

impl Metrics {
    /// Metrics with the labels `stream` and `application`.
    pub fn new(stream: &str, application: &str, worker: &str) -> Self {
        let mut library = OfTheLibrary::new(stream, application, worker);
        Self {
            children_started: library.add("children_started", "Children started"),
            children_failed: library.add(
                "children_failed",
                "Children that died, hung or were out of step",
            ),
            junk_lines: library.add(
                "child_lines_skipped",
                "Lines on children's standard output that are no message",
            ),
            library: Arc::new(library),
        }
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
}
