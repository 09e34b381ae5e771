//! What workers share by load, where all deal so: where all that hold leases write into them what
//! they take of their time. Java's workers and those that deal by number do not.

use std::collections::{BTreeMap, BTreeSet};

use super::{MOST_NEWS, Role, Sight, is_taken};
use crate::{
    decide::{
        assignment::{Action, deal_by_load, scatter},
        placement::{Loads as Dealt, Weighed},
    },
    model::{keys::LeaseKey, lease::Lease},
};

/// No worker is known to take fewer.
const NO_LIMIT: usize = usize::MAX;

/// What each worker does. Of leases that are alike each worker chooses others, so that two who
/// join seldom ask for the same one.
pub(crate) type Loads<'a> = Dealt<&'a str, (u64, &'a LeaseKey)>;

impl<'a> Sight<'a> {
    /// What each worker does, this one too, with the leases that were asked for where they will be.
    /// `None`: leases are dealt by number.
    pub(crate) fn loads(&self) -> Option<Loads<'a>> {
        let holders = self.holders();
        if !deal_by_load(&holders) {
            return None;
        }
        let promises = self.promises();
        let mut loads = Loads::of([self.me]);
        for (lease, holder) in holders {
            let asker = promises.get(&lease.key).copied();
            let weighed = Weighed {
                key: (scatter(self.me, &lease.key), &lease.key),
                share: lease.share(),
                bytes: lease.throughput.unwrap_or(0),
                may_move: asker.is_none() && !self.observations.moved_lately(lease, self.now),
            };
            loads.put(asker.unwrap_or(holder), weighed);
        }
        Some(loads)
    }

    /// Do all who hold leases deal them by load?
    pub(crate) fn is_by_load(&self) -> bool {
        deal_by_load(&self.holders())
    }

    fn known(&self, key: &LeaseKey) -> Option<&'a Lease> {
        let mut leases = self.unfinished.iter().map(|seen| seen.lease);
        leases.find(|lease| lease.key == *key)
    }

    /// How busy this worker is, in thousandths, with the leases that it holds or was given.
    pub(crate) fn load(&self) -> u64 {
        let ours = self.unfinished.iter().map(|seen| seen.lease);
        let ours = ours.filter(|lease| {
            self.held.contains(&lease.key) || lease.owner.as_deref() == Some(self.me)
        });
        ours.map(Lease::share).sum()
    }

    /// Would this worker get a lease, as it stands?
    pub(crate) fn gains(&self, loads: Loads<'a>) -> bool {
        self.moves(loads).iter().any(|(_, to)| *to == self.me)
    }

    /// How many leases are on their way to this worker, or asked for by it.
    pub(crate) fn coming(&self) -> usize {
        let others = self.unfinished.iter().map(|seen| seen.lease);
        let others = others.filter(|lease| !self.held.contains(&lease.key));
        let is_coming = |lease: &&Lease| {
            let is_asked_for = lease.is_native() && lease.handover_to.as_deref() == Some(self.me);
            is_asked_for || lease.owner.as_deref() == Some(self.me)
        };
        others.filter(is_coming).count()
    }

    /// What this worker is to ask for, having just read all leases, with so many takes and asks
    /// planned already: one lease where it has none yet, so that those show whom it did not see
    /// when it started.
    pub(crate) fn asks_by_load(
        &self,
        mut loads: Loads<'a>,
        max_leases: usize,
        planned: usize,
    ) -> Vec<Action> {
        if self.free().next().is_some() {
            return Vec::new();
        }
        let is_coming = loads.count(self.me) > 0;
        let has = self.held.len() + self.coming() + planned;
        let room = max_leases.saturating_sub(has);
        let most = match self.held.len() {
            0 if is_coming => 0,
            0 => 1,
            _ => room,
        };
        loads.bound(self.me, max_leases);
        let mut moves = self.moves(loads);
        moves.retain(|(_, to)| *to == self.me);
        let asks = moves.into_iter().take(most.min(room));
        asks.map(|(key, _)| Action::Ask(key.clone())).collect()
    }

    /// Who is to ask for what, but for this worker, which asks by itself.
    pub(super) fn even_out_by_load(
        &self,
        loads: Loads<'a>,
    ) -> BTreeMap<String, BTreeSet<LeaseKey>> {
        let mut moves = self.moves(loads);
        moves.retain(|(_, to)| *to != self.me);
        address(moves)
    }

    /// Free leases, each to the worker that has least to do then, other than this one.
    pub(super) fn share_out_by_load(
        &self,
        mut loads: Loads<'a>,
        free: &'a [LeaseKey],
    ) -> BTreeMap<String, BTreeSet<LeaseKey>> {
        // News reach who holds a lease.
        let holders = self.counts();
        loads.retain(|worker| holders.contains_key(worker));
        let share = |key: &LeaseKey| self.known(key).map_or(0, Lease::share);
        let free = free.iter().take(MOST_NEWS);
        let mut free: Vec<_> = free.map(|key| (share(key), key)).collect();
        free.sort_by(|a, b| b.cmp(a));
        let mut shares = Vec::new();
        for (share, key) in free {
            let Some(worker) = loads.least(NO_LIMIT) else {
                break;
            };
            let weighed = Weighed {
                key: (0, key),
                share,
                bytes: 0,
                may_move: false,
            };
            loads.put(worker, weighed);
            shares.push((key, worker));
        }
        address(shares)
    }

    /// Leases, and to whom they should move: at once where somebody has come, and else as the
    /// warden sees it, who has seen all scans. Who has nothing yet sees for itself, as the warden
    /// does not see it.
    fn moves(&self, loads: Loads<'a>) -> Vec<(&'a LeaseKey, &'a str)> {
        let mut moves = Vec::new();
        let (mut by_number, mut by_load) = (loads.clone(), loads);
        while moves.len() < MOST_NEWS
            && let Some(next) = by_number.next_by_number(NO_LIMIT)
        {
            by_number.make(next);
            moves.push((next.key.1, next.to));
            // It may have no room, which only it knows: the others do not wait for it.
            by_load.bound(next.to, 0);
        }
        let sees_all = self.role() == Role::Warden || self.held.is_empty();
        while sees_all
            && moves.len() < MOST_NEWS
            && let Some(next) = by_load.next_move(NO_LIMIT)
        {
            by_load.make(next);
            moves.push((next.key.1, next.to));
        }
        let can_be_asked_for = |key: &LeaseKey| {
            let lease = self.known(key);
            lease.is_some_and(|lease| is_taken(lease) && lease.handover_to.is_none())
        };
        moves.retain(|(key, _)| can_be_asked_for(key));
        moves
    }
}

fn address(moves: Vec<(&LeaseKey, &str)>) -> BTreeMap<String, BTreeSet<LeaseKey>> {
    let mut shares: BTreeMap<String, BTreeSet<LeaseKey>> = BTreeMap::new();
    for (key, worker) in moves {
        let share = shares.entry(worker.to_owned()).or_default();
        share.insert(key.clone());
    }
    shares
}
