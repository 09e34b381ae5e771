//! How leases move between pods: by count, as Java KCL and our library deal them, or by load, as
//! our library does where it is told to.

use std::collections::{BTreeMap, BTreeSet};

use kinesis_consumer::test_util::{Loads, Weighed};

use super::{Cluster, Consumer, Placement};

/// A Java-like worker steals a lease at most this often, in seconds.
const STEAL_EVERY: u64 = 20;
/// The one worker that looks after all looks at the loads this often, in seconds.
const LOOK_EVERY: u64 = 40;
/// A lease that moved stays for so long, in seconds.
const REST: u64 = 300;

impl Cluster {
    /// Leases go by count: from pods that are gone or have two more than another.
    pub(super) fn balance(&mut self) {
        let readable = self.readable_shards();
        let ready: BTreeSet<u32> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.ready <= self.now)
            .map(|(name, _)| *name)
            .collect();
        let mut counts: BTreeMap<u32, u32> = ready.iter().map(|name| (*name, 0)).collect();
        for index in &readable {
            if let Some(owner) = self.shards[*index].owner {
                match counts.get_mut(&owner) {
                    Some(count) => *count += 1,
                    None if self.pods.contains_key(&owner) => {}
                    // Of one that was killed nobody knows so until its lease expires.
                    None if self.faults.holds_yet(owner, self.now) => {}
                    None => self.shards[*index].owner = None,
                }
            }
        }
        if counts.is_empty() {
            return;
        }
        if self.placement == Placement::Load {
            self.balance_loads(&readable, &ready);
            return;
        }
        let limit = self.faults.plan.lease_limit.unwrap_or(u32::MAX);
        for index in &readable {
            if self.shards[*index].owner.is_none()
                && let Some((name, count)) = counts.iter_mut().min_by_key(|(_, count)| **count)
                && *count < limit
            {
                *count += 1;
                let name = *name;
                self.hand_over(*index, name);
            }
        }
        loop {
            let Some((&fullest, &most)) = counts.iter().max_by_key(|(_, count)| **count) else {
                return;
            };
            let patient = self.consumer == Consumer::Java;
            let taker = counts
                .iter()
                .filter(|(name, _)| !patient || self.pods[*name].stole + STEAL_EVERY <= self.now)
                .min_by_key(|(_, count)| **count);
            let Some((&emptiest, &least)) = taker else {
                return;
            };
            if most < least + 2 {
                return;
            }
            let held: Vec<usize> = readable
                .iter()
                .copied()
                .filter(|i| self.shards[*i].owner == Some(fullest))
                .collect();
            let chosen = held[self.rng.usize(0..held.len())];
            counts.insert(fullest, most - 1);
            counts.insert(emptiest, least + 1);
            if let Some(pod) = self.pods.get_mut(&emptiest) {
                pod.stole = self.now;
            }
            self.hand_over(chosen, emptiest);
        }
    }

    /// Leases go by load: as `placement` says.
    fn balance_loads(&mut self, readable: &[usize], ready: &BTreeSet<u32>) {
        let limit = self.faults.plan.lease_limit.unwrap_or(u32::MAX) as usize;
        let mut loads = Loads::of(ready.iter().copied());
        let mut free = Vec::new();
        for index in readable {
            let shard = &self.shards[*index];
            let weighed = Weighed {
                key: *index,
                share: (shard.share * 1000.0).round() as u64,
                bytes: shard.rate.round() as u64,
                may_move: shard.moved.is_none_or(|moved| moved + REST <= self.now),
            };
            match shard.owner {
                Some(owner) if ready.contains(&owner) => loads.put(owner, weighed),
                Some(_) => {}
                None => free.push(weighed),
            }
        }
        free.sort_by_key(|lease| std::cmp::Reverse(lease.share));
        let mut moves = Vec::new();
        for lease in free {
            if let Some(pod) = loads.least(limit) {
                loads.put(pod, lease);
                moves.push((lease.key, pod));
            }
        }
        while let Some(next) = loads.next_by_number(limit) {
            loads.make(next);
            moves.push((next.key, next.to));
        }
        if moves.is_empty() && self.now.is_multiple_of(LOOK_EVERY) {
            while let Some(next) = loads.next_move(limit) {
                loads.make(next);
                moves.push((next.key, next.to));
            }
        }
        for (index, pod) in moves {
            self.shards[index].moved = Some(self.now);
            self.hand_over(index, pod);
        }
    }

    fn hand_over(&mut self, index: usize, to: u32) {
        let pause = match self.consumer {
            Consumer::Own => 3,
            Consumer::Java => self.rng.u64(20..=40),
        };
        let shard = &mut self.shards[index];
        match self.consumer {
            Consumer::Own => shard.checkpoint = shard.read,
            Consumer::Java => {
                shard.read = shard.checkpoint;
                shard.read_second = shard.checkpoint_second;
            }
        }
        self.moves += u64::from(shard.owner.is_some());
        shard.owner = Some(to);
        shard.seen = (0.0, 0.0, 0.0);
        shard.paused_until = self.now + pause;
    }
}
