//! How leases move between pods: by count, as Java KCL and our library deal them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cluster, Consumer};

/// A Java-like worker steals a lease at most this often, in seconds.
const STEAL_EVERY: u64 = 20;

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
        shard.owner = Some(to);
        shard.paused_until = self.now + pause;
    }
}
