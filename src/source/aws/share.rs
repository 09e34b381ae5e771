//! What the sources of one client share: the account's quota, retries, and what they may not do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tracing::warn;

use super::{budget::Budget, retries::Retries};
use crate::{error::SourceError, metrics::Metrics};

#[derive(Debug)]
pub(crate) struct Share {
    /// The share of the DescribeStreamSummary quota.
    pub(crate) budget: Budget,
    pub(crate) retries: Retries,
    metrics: Arc<Metrics>,
    denial_logged: AtomicBool,
}

/// A stream that may not be listed, as the metric counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct Unlisted(Arc<Metrics>);

impl Share {
    pub(crate) fn new(calls_per_second: u32, metrics: Arc<Metrics>) -> Self {
        Self {
            budget: Budget::new(calls_per_second),
            retries: Retries::default(),
            metrics,
            denial_logged: AtomicBool::new(false),
        }
    }

    /// ListShards is denied: the log says it once, for however many streams.
    pub(crate) fn list_shards_denied(&self, denied: &SourceError) -> Unlisted {
        // Counted first: who sees the line finds the metric.
        self.metrics.unlisted_streams.inc();
        if !self.denial_logged.swap(true, Ordering::Relaxed) {
            warn!(
                "{denied}. Until then its open shards are counted by DescribeStreamSummary alone, within \
                 aws.callsPerSecond, as are those of other streams that may not be listed"
            );
        }
        Unlisted(Arc::clone(&self.metrics))
    }
}

impl Drop for Unlisted {
    fn drop(&mut self) {
        self.0.unlisted_streams.dec();
    }
}
