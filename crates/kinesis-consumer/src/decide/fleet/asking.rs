//! What a worker asks others for.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{Seen, Sight, is_taken};
use crate::{decide::assignment::Action, model::lease::Lease};

/// So many are few.
const FEW: usize = 2;
/// Renewals within such a time are as good as each other.
const STEP: Duration = Duration::from_millis(300);

impl Sight<'_> {
    /// Asks for no more than this worker's share, as others join as well; and for one lease first,
    /// so that those show whom this worker did not see when it started.
    pub(super) fn moderate(&self, actions: &mut Vec<Action>) {
        let mut workers: BTreeSet<&str> = [self.me].into();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut asked_of = Vec::new();
        let mut leases = 0_usize;
        for Seen { lease, holder, .. } in &self.unfinished {
            leases += 1;
            let Some(holder) = *holder else {
                continue;
            };
            *counts.entry(holder).or_default() += 1;
            workers.insert(holder);
            if lease.is_native() && holder != self.me {
                let asker = lease.handover_to.as_deref();
                workers.extend(asker);
                asked_of.extend(asker.filter(|asker| *asker == self.me).map(|_| holder));
            }
        }
        let count = |worker: &str| counts.get(worker).copied().unwrap_or_default();
        let mine = count(self.me);
        // The others will refuse.
        asked_of.retain(|holder| count(holder) >= mine + 2);
        let asked = asked_of.len();
        let share = match mine {
            0 => 1,
            _ => leases.div_ceil(workers.len()),
        };
        let mut left = share.saturating_sub(mine + asked);
        actions.retain(|action| match action {
            Action::Take(_) | Action::Steal(_) => true,
            Action::Ask(_) => {
                let asks = left > 0;
                left = left.saturating_sub(1);
                asks
            }
        });
        self.ask_where_it_shows(actions);
    }

    /// A holder sees a request at its next renewal of the lease. Whoever asks for few asks for
    /// those that are renewed next.
    fn ask_where_it_shows(&self, actions: &mut [Action]) {
        let is_ask = |action: &&mut Action| matches!(action, Action::Ask(_));
        let asks: Vec<_> = actions.iter_mut().filter(is_ask).collect();
        if asks.len() > FEW {
            return;
        }
        let mut planned: BTreeSet<_> = asks.iter().map(|ask| ask.key().clone()).collect();
        for ask in asks {
            let mut others = self.others_leases();
            let Some((_, holder)) = others.find(|(lease, _)| lease.key == *ask.key()) else {
                continue;
            };
            let theirs = self.others_leases().filter(|(_, theirs)| *theirs == holder);
            let theirs = theirs.map(|(lease, _)| lease).filter(|lease| {
                let is_free_to_ask = is_taken(lease) && lease.handover_to.is_none();
                is_free_to_ask && (lease.key == *ask.key() || !planned.contains(&lease.key))
            });
            let soonest = theirs.min_by_key(|lease| self.shows_in(lease));
            if let Some(lease) = soonest {
                planned.insert(lease.key.clone());
                *ask = Action::Ask(lease.key.clone());
            }
        }
    }

    /// In which of several equal times the lease's holder renews it, as far as is known; and an
    /// order of those in one that is this worker's own, as others may ask as well.
    fn shows_in(&self, lease: &Lease) -> (u32, u64) {
        let mut hasher = DefaultHasher::new();
        (self.me, &lease.key).hash(&mut hasher);
        let due = self.observations.renewed_in(lease, self.now);
        let step = due.map_or(u32::MAX, |due| {
            u32::try_from(due.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX)
        });
        (step, hasher.finish())
    }
}
