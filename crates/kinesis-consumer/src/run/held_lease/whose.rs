//! Whose writes made a lease what it is: ours, a leader's, or somebody else's.

use std::sync::atomic::Ordering;

use super::HeldLease;
use crate::{edge::lease_table::TableError, model::lease::Lease};

impl HeldLease {
    /// The lease as the conflict returned it, or as the table has it.
    pub(super) async fn current(
        &self,
        known: Option<Box<Lease>>,
    ) -> Result<Option<Lease>, TableError> {
        match known {
            Some(lease) => Ok(Some(*lease)),
            None => self.context.table.read(&self.key).await,
        }
    }

    /// Did an earlier write of ours, whose answer we never saw, make `known` into `current`?
    pub(super) fn is_ours(&self, known: &Lease, current: &Lease) -> bool {
        current.counter == known.counter + 1
            && current.is_ours()
            && current.native_process == known.native_process
            && current.holder() == Some(self.context.config.worker_id.as_str())
    }

    /// Is it as we know it, but that a KCL 3 leader gives it to somebody else? That does not move
    /// the counter.
    pub(super) fn begins_to_move(&self, known: &Lease, current: &Lease) -> bool {
        let me = self.context.config.worker_id.as_str();
        current.counter == known.counter
            && known.checkpoint_owner.is_none()
            && current.moves_from(me).is_some()
    }

    /// Is it a lease of this very process as it was before, so that nobody has taken it since?
    pub(super) fn is_older(&self, known: &Lease, current: &Lease) -> bool {
        current.counter < known.counter
            && current.native_process.is_some()
            && current.native_process == known.native_process
            && current.holder() == Some(self.context.config.worker_id.as_str())
    }

    /// Did another process take the lease under our worker id?
    pub(crate) fn went_to_namesake(&self) -> bool {
        self.namesake.load(Ordering::Relaxed)
    }

    pub(super) fn is_namesakes(&self, known: &Lease, current: &Lease) -> bool {
        current.is_native()
            && current.native_process.is_some()
            && current.native_process != known.native_process
            && current.holder() == Some(self.context.config.worker_id.as_str())
    }
}
