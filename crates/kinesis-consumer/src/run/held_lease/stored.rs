//! A held lease as its table has it, and as its holder has it: the two differ where somebody else
//! wrote into the row.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::{lease::Lease, sequence::Checkpoint};

/// The lease as the table last returned it, but for the checkpoint.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its checkpoint is where the holder stands: as it took the lease, or as it wrote since.
    pub(super) lease: Lease,
    /// When the first write began whose outcome is unknown.
    pub(super) attempted: Option<Instant>,
    /// The highest checkpoint of such writes.
    pub(super) tried: Option<Checkpoint>,
    /// What somebody else left in place of the checkpoint.
    pub(super) found: Option<String>,
    /// `latestSince`, as it is to be written again.
    pub(super) unpinned: Option<Timestamp>,
}

/// The last write that is known to have happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// When it began.
    pub(super) began: Instant,
    /// For how long the holder may be silent then, as it says.
    pub(super) failover: Duration,
}

impl Stored {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            attempted: None,
            tried: None,
            found: None,
            unpinned: None,
        }
    }

    /// What `lease`, as just returned, has for a checkpoint that this holder did not write. It has
    /// where the holder stands instead, then.
    pub(super) fn found_in(&self, lease: &mut Lease) -> Option<String> {
        let stands = &self.lease.checkpoint;
        let highest = self.tried.as_ref().unwrap_or(stands).max(stands);
        if (stands..=highest).contains(&&lease.checkpoint) {
            return None;
        }
        lease.latest_since = self.lease.latest_since;
        let found = std::mem::replace(&mut lease.checkpoint, stands.clone());
        Some(found.to_string())
    }
}
