//! Events, and what is said of calls that fail and of those that work again.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    face::{
        error::Error,
        event::{Event, EventSink},
    },
    model::keys::LeaseKey,
    run::standing::Standing,
};

/// Clones tell the same sink, and count the same failures.
#[derive(Clone)]
pub(crate) struct Reports {
    events: EventSink,
    pub(crate) standing: Arc<Standing>,
    gives_up_in: Duration,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

impl Reports {
    pub(crate) fn new(events: EventSink, standing: Standing, gives_up_in: Duration) -> Self {
        Self {
            events,
            standing: Arc::new(standing),
            gives_up_in,
        }
    }

    pub(crate) fn report(&self, event: Event) {
        (self.events)(&event);
    }

    /// The call is tried again.
    pub(crate) fn failed(
        &self,
        shard: Option<&LeaseKey>,
        operation: &'static str,
        throttled: bool,
        error: &dyn fmt::Display,
    ) {
        let shard = shard.cloned();
        self.report(if throttled {
            Event::Throttled { shard, operation }
        } else {
            Event::Retrying {
                shard,
                operation,
                error: error.to_string(),
            }
        });
    }

    /// The operation failed so that waiting does not mend it.
    pub(crate) fn stands(
        &self,
        operation: &'static str,
        error: &dyn fmt::Display,
        verdict: impl FnOnce() -> Error,
    ) {
        if self.standing.failed(operation, verdict) {
            self.report(Event::Failing {
                operation,
                error: error.to_string(),
                gives_up_in: self.gives_up_in,
            });
        }
    }

    /// The operation succeeded, or it failed for a reason that passes.
    pub(crate) fn succeeded(&self, operation: &'static str) {
        if self.standing.succeeded(operation) {
            self.report(Event::Recovered { operation });
        }
    }
}
