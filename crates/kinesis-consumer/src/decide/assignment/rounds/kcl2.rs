//! The other side: how a KCL 2.x worker takes and steals.

use super::*;

impl World {
    /// `DynamoDBLeaseTaker.java` of 2.x.
    pub(super) fn kcl2_round(&mut self, index: usize) {
        let now = self.now();
        let worker = &mut self.workers[index];
        worker.observations.observe(&self.leases, now);
        let me = worker.name.clone();
        let observations = worker.observations.clone();
        let mut available = Vec::new();
        let mut by_owner: BTreeMap<&str, Vec<&Lease>> = BTreeMap::from([(me.as_str(), Vec::new())]);
        for lease in &self.leases {
            match lease.owner.as_deref() {
                Some(owner) if !observations.is_available(lease, now) => {
                    by_owner.entry(owner).or_default().push(lease)
                }
                _ => available.push(lease),
            }
        }
        let target = if by_owner.len() >= self.leases.len() {
            1
        } else {
            self.leases.len().div_ceil(by_owner.len())
        };
        let mine = by_owner[me.as_str()].len();
        let need = target.saturating_sub(mine);
        self.random.shuffle(&mut available);
        let very_old = available
            .iter()
            .any(|lease| lease.owner.is_none() || observations.is_overdue(lease, now - FAILOVER));
        let keys: Vec<ShardId> = if very_old {
            available.iter().map(|lease| lease.key.clone()).collect()
        } else if !available.is_empty() {
            available
                .iter()
                .take(need)
                .map(|lease| lease.key.clone())
                .collect()
        } else {
            let (richest, leases) = by_owner
                .iter()
                .max_by_key(|(_, leases)| leases.len())
                .expect("at least me");
            let over = leases.len().saturating_sub(target);
            let many = need.min(over).max(usize::from(need > 1)).min(1);
            let mut leases = if *richest == me {
                Vec::new()
            } else {
                leases.clone()
            };
            self.random.shuffle(&mut leases);
            leases
                .into_iter()
                .take(if need == 0 { 0 } else { many })
                .map(|lease| lease.key.clone())
                .collect()
        };
        for key in keys {
            self.set_owner(&key, &me, false);
        }
    }
}
