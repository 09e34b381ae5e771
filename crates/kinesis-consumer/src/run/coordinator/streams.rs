//! Leases of streams that are not read any more, or not now.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Coordinator, moves::release};
use crate::{
    edge::lease_table::Scan,
    model::lease::Lease,
    run::{context::Context, shard_consumer::Stop},
};

impl Coordinator {
    /// Takes in what a scan that began at `began` showed. Has the streams audited of which
    /// unfinished leases are gone.
    pub(super) fn restore_lacking(&self, scan: &Scan, began: Instant) {
        let mut known = self.context.known();
        known.observe(&scan.leases, began);
        let mut is_lacking = false;
        for lease in known.lost(scan) {
            match self.context.streams.of(&lease.key) {
                Some(stream) => {
                    stream.lacks_leases();
                    is_lacking = true;
                }
                // Nobody wants those of streams that are not read any more.
                None => known.forget(&lease.key),
            }
        }
        if is_lacking {
            self.context.reaudit.notify_one();
        }
    }

    /// Leaves out the leases of streams that are not read, and gives up those that we hold.
    pub(super) fn leave_streams(&self, leases: &mut Vec<Lease>, now: Instant) {
        let is_read = |lease: &Lease| self.context.streams.of(&lease.key).is_some();
        leases.retain(is_read);
        let deadline = now + self.context.config.shutdown_deadline;
        for (key, held) in &self.held {
            let is_read = self.context.streams.of(key).is_some();
            if !is_read && !matches!(*held.stop.borrow(), Some(Stop::Shutdown(_))) {
                held.stop.send_replace(Some(Stop::Shutdown(deadline)));
            }
        }
    }
}

/// Gives a lease back that was taken as its stream went.
pub(super) async fn give_back(context: Arc<Context>, taken: Lease) {
    release(&context, &taken).await;
}
