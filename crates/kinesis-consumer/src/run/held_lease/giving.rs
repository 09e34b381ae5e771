//! A lease is given up: to the worker that asked, or to whoever takes it.

use tokio::time::Instant;

use super::HeldLease;
use crate::{
    edge::lease_table::TableError, face::checkpointer::CheckpointError, model::lease::Lease,
    run::context::pause,
};

/// How a lease was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Given {
    /// To the worker that asked.
    HandedOver,
    /// To whoever takes it.
    Released,
}

impl HeldLease {
    /// Gives the lease to `to`, or to whoever takes it; also where `to` has withdrawn its request.
    /// `None`: it was lost before, or its failover time ran out before the table took the write.
    pub(crate) async fn give_up(&self, mut to: Option<&str>) -> Option<Given> {
        let mut stored = self.stored.lock().await;
        if self.is_over() {
            return None;
        }
        if let Some(acknowledged) = self.pending_beyond(&stored) {
            match self.store(&mut stored, &acknowledged).await {
                Ok(()) | Err(CheckpointError::Table(_)) => {}
                Err(_) => return None,
            }
        }
        let mut failures = self.backoff();
        // An attempt may have been written although no answer came.
        let mut unseen = false;
        loop {
            if stored.lease.checkpoint_owner.is_some() {
                // A KCL 3 leader has said who is next: a release gives it to that worker.
                to = None;
            }
            let answer = match to {
                Some(worker) => self.context.table.hand_over(&stored.lease, worker).await,
                None => self.context.table.release(&stored.lease).await,
            };
            let failure = match answer {
                // What is left is no lease, but given up.
                Ok(()) | Err(TableError::Spoiled(_)) => break,
                Err(TableError::Conflict(current)) => match self.current(current).await {
                    Ok(Some(current)) if self.is_ours(&stored.lease, &current) => {
                        let began = stored.attempted.unwrap_or_else(Instant::now);
                        self.know(&mut stored, current, began);
                        continue;
                    }
                    Ok(Some(current)) if is_given(&stored.lease, &current, to) => break,
                    Ok(Some(current)) if self.begins_to_move(&stored.lease, &current) => {
                        stored.lease = current;
                        continue;
                    }
                    // Nobody wrote since, but the request is gone.
                    Ok(Some(current)) if to.is_some() && is_still(&stored.lease, &current) => {
                        stored.lease = current;
                        to = None;
                        continue;
                    }
                    // Whoever takes what we gave is quick.
                    Ok(_) if unseen => break,
                    Ok(_) => {
                        self.lose();
                        return None;
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            unseen |= matches!(failure, TableError::Unavailable(_));
            self.context
                .table_failed(Some(&self.key), "release", &failure);
            if !self.is_sure() || matches!(failure, TableError::Permanent(_)) {
                self.close();
                return None;
            }
            pause(&mut failures).await;
        }
        self.close();
        Some(if to.is_some() || stored.lease.checkpoint_owner.is_some() {
            Given::HandedOver
        } else {
            Given::Released
        })
    }
}

/// Is the lease as we know it, with nobody but its owner in it?
fn is_still(known: &Lease, current: &Lease) -> bool {
    current.counter == known.counter
        && current.owner == known.owner
        && current.checkpoint_owner.is_none()
}

/// Did an earlier attempt to give `known` to `to` make it into `current`?
fn is_given(known: &Lease, current: &Lease, to: Option<&str>) -> bool {
    let moved_to = known.checkpoint_owner.as_ref().and(known.owner.as_deref());
    current.counter == known.counter + 1
        && current.checkpoint_owner.is_none()
        && current.owner.as_deref() == to.or(moved_to)
}
