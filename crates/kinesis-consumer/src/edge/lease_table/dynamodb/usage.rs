//! What the calls of the lease table consume.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kinesis_edge::{Meter, Units};

use crate::edge::lease_table::UsageSink;

/// Tells it to whoever wants to know: nobody, at first.
#[derive(Default)]
pub(super) struct Usage(OnceLock<UsageSink>);

impl Usage {
    pub(super) fn tell(&self, sink: UsageSink) {
        // A handle is one worker's, which asks once.
        drop(self.0.set(sink));
    }

    pub(super) fn meter(self: &Arc<Self>) -> Arc<dyn Meter> {
        Arc::<Self>::clone(self)
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").finish_non_exhaustive()
    }
}

impl Meter for Usage {
    fn consumed(&self, operation: &'static str, units: Units) {
        if let Some(sink) = self.0.get() {
            match units {
                Units::Read(units) => sink(operation, units, 0.0),
                Units::Written(units) => sink(operation, 0.0, units),
            }
        }
    }
}
