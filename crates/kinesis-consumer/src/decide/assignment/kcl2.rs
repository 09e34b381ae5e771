//! The other side, for tests: how a KCL 2.x worker takes and steals (`DynamoDBLeaseTaker.java`).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::model::{keys::LeaseKey, lease::Lease};

/// What a KCL 2.x worker remembers from one round of taking to the next.
#[derive(Clone, Debug)]
pub struct Kcl2Taker {
    worker: String,
    failover: Duration,
    /// Counters, and when each was first seen there.
    seen: HashMap<LeaseKey, (u64, Instant)>,
    random: fastrand::Rng,
}

impl Kcl2Taker {
    /// A worker that has seen nothing yet. It chooses at random, the same for the same seed.
    pub fn new(worker: impl Into<String>, failover: Duration, seed: u64) -> Self {
        Self {
            worker: worker.into(),
            failover,
            seen: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// One round, after `leases` was scanned: what it takes now. Finished leases count like any
    /// other.
    pub fn takes(&mut self, leases: &[Lease], now: Instant) -> Vec<LeaseKey> {
        let mut before = std::mem::take(&mut self.seen);
        let mut free = Vec::new();
        let mut owned: BTreeMap<&str, Vec<&LeaseKey>> =
            BTreeMap::from([(self.worker.as_str(), Vec::new())]);
        let mut very_old = false;
        for lease in leases {
            let unmoved = before
                .remove(&lease.key)
                .filter(|(it, _)| *it == lease.counter);
            let (_, since) = unmoved.unwrap_or((lease.counter, now));
            self.seen.insert(lease.key.clone(), (lease.counter, since));
            match lease.owner.as_deref() {
                Some(owner) if now <= since + self.failover => {
                    owned.entry(owner).or_default().push(&lease.key);
                }
                owner => {
                    very_old |= owner.is_none() || now > since + 3 * self.failover;
                    free.push(lease.key.clone());
                }
            }
        }
        let target = match leases.len() {
            leases if owned.len() >= leases => 1,
            leases => leases.div_ceil(owned.len()),
        };
        let need = target.saturating_sub(owned[self.worker.as_str()].len());
        self.random.shuffle(&mut free);
        if very_old {
            return free;
        }
        if !free.is_empty() {
            free.truncate(need);
            return free;
        }
        // One at a time, also where the other has no more than its share.
        let richest = owned.into_iter().max_by_key(|(_, leases)| leases.len());
        match richest {
            Some((owner, leases)) if owner != self.worker => {
                let over = leases.len().saturating_sub(target);
                let steals = need.min(over).max(usize::from(need > 1)).min(1);
                let stolen = self.random.choice(leases).filter(|_| steals > 0);
                stolen.into_iter().cloned().collect()
            }
            _ => Vec::new(),
        }
    }
}
