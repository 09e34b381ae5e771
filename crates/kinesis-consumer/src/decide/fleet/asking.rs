//! What a worker asks others for.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{Seen, Sight, is_taken};
use crate::{
    decide::assignment::{Action, Has, Ledger, deal_by_load},
    face::pace::renew_interval,
    model::lease::Lease,
};

/// So many are few.
const FEW: usize = 2;
/// A write takes no longer, in most cases.
const A_WRITE: Duration = Duration::from_millis(100);
/// Renewals within such a time are as good as each other.
const STEP: Duration = Duration::from_millis(300);

/// What this worker has, of how much.
struct Stock {
    held: usize,
    /// Others will hand so many over, or have.
    promised: usize,
    leases: usize,
    /// Who holds a lease or asks for one, this worker too.
    workers: usize,
    /// Of the others, those that have no more than one.
    beginners: usize,
}

impl Stock {
    /// How many to have, with what comes.
    fn share(&self) -> usize {
        let all = self.leases.div_ceil(self.workers);
        match self.held {
            0 => 1,
            // Whoever begins at the same time and was delayed does not show yet.
            1 if self.beginners > 0 => (2 * all).div_ceil(3),
            _ => all,
        }
    }
}

impl<'a> Sight<'a> {
    /// Asks for no more than this worker's share, as others join as well; and for one lease first,
    /// so that those show whom this worker did not see when it started.
    pub(super) fn moderate(&self, actions: &mut Vec<Action>) {
        let has = self.stock();
        let mut left = has.share().saturating_sub(has.held + has.promised);
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

    /// Has this worker less, with what it is promised, than all have on average? Then somebody has
    /// one to spare, or will have: it goes on looking until it has that.
    ///
    /// Where it has not taken its first lease yet, others who join as well do not show.
    pub(crate) fn is_short(&self, max_leases: usize) -> bool {
        let has = self.stock();
        let fair = (has.leases / has.workers).min(has.share()).min(max_leases);
        has.held > 0 && has.held + has.promised < fair
    }

    /// This worker's requests that stand, each with what it has when that is granted, of `has` now.
    /// `None`: as the table is, its holder refuses it, and it is to be taken back. Who comes to
    /// have more would grant it later, when it is not needed; and it says too much of this worker
    /// in the requests that come after it.
    pub(crate) fn own_requests(&self, mut has: Has) -> Vec<(&'a Lease, Option<Has>)> {
        let holders = self.holders();
        let promises = self.promises();
        let stays = |lease: &Lease| {
            let asker = promises.get(&lease.key);
            asker.is_none_or(|asker| *asker == self.me)
        };
        let left = self.others_leases().filter(|(lease, _)| stays(lease));
        let left: Vec<_> = left.collect();
        let mut ledger = Ledger::new(&left, deal_by_load(&holders));
        let is_ours =
            |lease: &Lease| lease.is_native() && lease.handover_to.as_deref() == Some(self.me);
        let ours = self.others_leases().filter(|(lease, _)| is_ours(lease));
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|(lease, _)| ledger.rank(lease));
        let judged = ours.into_iter().map(|(lease, holder)| {
            let then = has;
            let is_granted = ledger.grant(lease, holder, self.me, then);
            if is_granted {
                has = then.with(lease);
            }
            (lease, is_granted.then_some(then))
        });
        judged.collect()
    }

    fn stock(&self) -> Stock {
        let mut workers: BTreeMap<&str, usize> = [(self.me, 0)].into();
        let (mut held, mut promised, mut leases) = (0, 0, 0);
        for Seen {
            lease,
            holder,
            is_free,
        } in &self.unfinished
        {
            leases += 1;
            if let Some(holder) = holder {
                *workers.entry(holder).or_default() += 1;
            }
            held += usize::from(*holder == Some(self.me));
            // Handed to this worker, which takes it.
            promised += usize::from(holder.is_none() && !is_free);
            if holder.is_some_and(|holder| holder != self.me)
                && lease.is_native()
                && let Some(asker) = lease.handover_to.as_deref()
            {
                workers.entry(asker).or_default();
            }
        }
        let promises = self.promises();
        promised += promises.values().filter(|to| **to == self.me).count();
        Stock {
            held,
            promised,
            leases,
            workers: workers.len(),
            beginners: (workers.iter())
                .filter(|(worker, count)| **worker != self.me && **count <= 1)
                .count(),
        }
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
            let theirs: Vec<_> = theirs.map(|(lease, _)| lease).collect();
            let leases = u32::try_from(theirs.len()).unwrap_or(u32::MAX);
            let free_to_ask = theirs.into_iter().filter(|lease| {
                let is_free_to_ask = is_taken(lease) && lease.handover_to.is_none();
                is_free_to_ask && (lease.key == *ask.key() || !planned.contains(&lease.key))
            });
            let soonest = free_to_ask.min_by_key(|lease| self.shows_in(lease, leases));
            if let Some(lease) = soonest {
                planned.insert(lease.key.clone());
                *ask = Action::Ask(lease.key.clone());
            }
        }
    }

    /// In which of several equal times the lease's holder, who has so many, renews it, as far as is
    /// known; and an order of those in one that is this worker's own, as others may ask as well.
    ///
    /// Of a worker that was seen once only this is known: it wrote the newest of them before that.
    /// So each may be due as much sooner as there is between two, and whoever comes too late waits
    /// for the next time.
    fn shows_in(&self, lease: &Lease, leases: u32) -> (u32, u64) {
        let mut hasher = DefaultHasher::new();
        (self.me, &lease.key).hash(&mut hasher);
        let renewal = renew_interval(self.observations.failover(lease));
        let slack = A_WRITE + renewal / leases.max(1);
        let due = self.observations.renewed_in(lease, slack, self.now);
        let step = due.map_or(u32::MAX, |due| {
            u32::try_from(due.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX)
        });
        (step, hasher.finish())
    }
}
