//! How a worker goes: its leases to those that have least, at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{Id, JoinError},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Coordinator, LAST_GRACE,
    telling::{address, tell},
};
use crate::{
    decide::fleet::Sight,
    edge::lease_table::TableError,
    face::{checkpointer::LeaseHandle, error::Error, event::Event},
    model::keys::LeaseKey,
    run::{auditor::Auditor, context::Context, held_lease::HeldLease, shard_consumer::Ended},
};

/// How long the leaver waits for a new look at the others; then it goes by its last one.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Leases that are free within this time are offered together.
const TOGETHER: Duration = Duration::from_millis(100);

impl Coordinator {
    /// Waits until all shard consumers have ended, and offers what they gave up to others.
    pub(super) async fn part(&mut self) {
        let mut keys: BTreeMap<Id, LeaseKey> = BTreeMap::new();
        for (key, held) in &self.held {
            keys.insert(held.consumer.id(), key.clone());
        }
        let mut looked = false;
        let mut freed = BTreeSet::new();
        let mut note = |ended: Result<(Id, Ended), JoinError>| match ended {
            Ok((id, Ended::GivenUp | Ended::Failed(_))) => keys.remove(&id),
            Ok((_, Ended::Finished(_) | Ended::Lost)) | Err(_) => None,
        };
        while let Some(ended) = self.consumers.join_next_with_id().await {
            freed.extend(note(ended));
            let more = async {
                while let Some(ended) = self.consumers.join_next_with_id().await {
                    freed.extend(note(ended));
                }
            };
            let _ = timeout(TOGETHER, more).await;
            if !std::mem::replace(&mut looked, true) {
                self.look_last(&freed).await;
            }
            self.offer(&std::mem::take(&mut freed)).await;
        }
    }

    /// Where others are at work, who they are now.
    async fn look_last(&mut self, freed: &BTreeSet<LeaseKey>) {
        let me = self.context.config.worker_id.as_str();
        let is_others = |owner: &str| owner != me;
        let mut owners = self.leases.iter().filter(|lease| !lease.is_finished());
        if freed.is_empty() || !owners.any(|lease| lease.owner.as_deref().is_some_and(is_others)) {
            return;
        }
        if let Ok(Ok(scan)) = timeout(LAST_LOOK, self.context.table.scan()).await {
            self.observations.observe(&scan.leases, Instant::now());
            self.leases = scan.leases;
            self.leases.sort_by(|one, other| one.key.cmp(&other.key));
        }
    }

    async fn offer(&mut self, freed: &BTreeSet<LeaseKey>) {
        let none = BTreeSet::new();
        let sight = Sight::new(
            &self.leases,
            &self.observations,
            &self.context.config.worker_id,
            &none,
            Instant::now(),
        );
        let freed: Vec<_> = freed.iter().cloned().collect();
        let news = address(&sight, sight.share_out(&freed));
        tell(&self.context, news).await;
    }
}

/// Who stops while the table is gone, as somebody restarts what logs errors, may be the last one
/// who knows where the leases stood.
pub(super) async fn leave_table(context: &Arc<Context>, deadline: Instant) -> Result<(), Error> {
    let is_missing = || context.known().is_table_missing();
    if !is_missing() || !context.streams.table_is_ours() {
        return Ok(());
    }
    let auditor = Auditor::new(Arc::clone(context));
    let _ = timeout_at(deadline + LAST_GRACE, auditor.restore()).await;
    if is_missing() {
        let text = "it was deleted while the worker ran, and could not be made anew before the \
                    worker stopped: nobody knows where its leases stood";
        return Err(context.table_error(TableError::NotActive(text.into())));
    }
    Ok(())
}

pub(super) async fn release(context: Arc<Context>, lease: Arc<HeldLease>) {
    if lease.give_up(None).await.is_some() {
        let shard = lease.key().clone();
        context.report(Event::LeaseReleased { shard });
    }
}
