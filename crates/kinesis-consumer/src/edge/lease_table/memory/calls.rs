//! The calls: as DynamoDB answers them.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{MemoryTable, Shared};
use crate::{
    edge::lease_table::{Kcl3State, LeaseTable, Scan, TableError},
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::HashRange,
    },
};

/// The stored lease, where `holds` says that the condition holds.
fn checked<'a>(
    shared: &'a mut Shared,
    key: &LeaseKey,
    holds: impl FnOnce(&Lease) -> bool,
) -> Result<&'a mut Lease, TableError> {
    match shared.leases.get_mut(key) {
        None => Err(TableError::Conflict(None)),
        Some(stored) if holds(stored) => Ok(stored),
        Some(stored) => Err(TableError::Conflict(Some(Box::new(stored.clone())))),
    }
}

/// `known`: as the new owner has it, where that is this process, which is so old. `lease`: as who
/// writes has it.
fn own(stored: &mut Lease, lease: &Lease, worker: &str, known: Option<(&Lease, &str, u64)>) {
    if stored.owner.as_deref().is_some_and(|owner| owner != worker) {
        stored.owner_switches += 1;
    }
    stored.owner = Some(worker.to_owned());
    stored.native_process = known.map(|(_, process, _)| process.to_owned());
    stored.native_clock = known.map(|(_, _, clock)| clock);
    stored.failover_millis = known.and_then(|(known, ..)| known.failover_millis);
    stored.checkpoint_owner = None;
    forget_requests(stored);
    stored.share_permille = lease.share_permille;
    beat(stored, None, known.and_then(|(known, ..)| known.throughput));
}

fn forget_requests(stored: &mut Lease) {
    stored.handover_to = None;
    stored.handover_has = None;
    stored.handover_load = None;
    stored.news.clear();
}

/// A holder's write, which it began when its process was so old.
fn renew(stored: &mut Lease, known: &Lease, clock: u64) {
    stored.native_clock = Some(clock);
    stored.failover_millis = known.failover_millis;
    stored.news.retain(|key| !known.news.contains(key));
    stored.share_permille = known.share_permille;
    beat(stored, known.busy_permille, known.throughput);
}

impl MemoryTable {
    fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn beat(stored: &mut Lease, busy_permille: Option<u16>, throughput: Option<u64>) {
    stored.busy_permille = busy_permille;
    stored.throughput = throughput;
    stored.counter += 1;
    stored.native_counter = Some(stored.counter);
}

#[async_trait]
impl LeaseTable for MemoryTable {
    async fn ensure_exists(&self) -> Result<bool, TableError> {
        self.call("ensure_exists", None, |shared| {
            shared.deleted = false;
            Ok(!std::mem::replace(&mut shared.created, true))
        })
        .await
    }

    async fn scan(&self) -> Result<Scan, TableError> {
        self.call("scan", None, |shared| {
            Ok(Scan {
                leases: shared.leases.values().cloned().collect(),
                ..shared.oddities.clone()
            })
        })
        .await
    }

    async fn look(&self, keys: &[LeaseKey]) -> Result<Vec<Lease>, TableError> {
        self.call_about("look", None, keys.len(), |shared| {
            let found = keys.iter().filter_map(|key| shared.leases.get(key));
            Ok(found.cloned().collect())
        })
        .await
    }

    async fn read(&self, key: &LeaseKey) -> Result<Option<Lease>, TableError> {
        self.call("read", Some(key), |shared| {
            Ok(shared.leases.get(key).cloned())
        })
        .await
    }

    async fn create(&self, lease: &Lease) -> Result<bool, TableError> {
        self.call("create", Some(&lease.key), |shared| {
            if shared.leases.contains_key(&lease.key) {
                return Ok(false);
            }
            // As DynamoDB's item: what a new lease never has is not written.
            let mut stored = Lease::new(lease.key.clone(), lease.checkpoint.clone());
            stored.parents.clone_from(&lease.parents);
            stored.children.clone_from(&lease.children);
            stored.hash_range = lease.hash_range;
            stored.stream_identity.clone_from(&lease.stream_identity);
            stored.latest_since = lease
                .latest_since
                .filter(|_| lease.checkpoint == Checkpoint::Latest);
            shared.leases.insert(lease.key.clone(), stored);
            Ok(true)
        })
        .await
    }

    async fn take(&self, lease: &Lease, worker: &str) -> Result<Lease, TableError> {
        let clock = self.clock();
        self.call("take", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| {
                let is_left_over = lease.checkpoint_owner.is_some();
                stored.counter == lease.counter
                    && (is_left_over || stored.checkpoint_owner.is_none())
            };
            let stored = checked(shared, &lease.key, holds)?;
            own(stored, lease, worker, Some((lease, &self.process, clock)));
            if lease.stream_identity.is_some() {
                stored.stream_identity.clone_from(&lease.stream_identity);
            }
            Ok(stored.clone())
        })
        .await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, TableError> {
        let clock = self.clock();
        self.call("renew", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| {
                stored.counter == lease.counter && stored.checkpoint_owner == lease.checkpoint_owner
            };
            let stored = checked(shared, &lease.key, holds)?;
            renew(stored, lease, clock);
            Ok(stored.clone())
        })
        .await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: &Checkpoint,
    ) -> Result<Lease, TableError> {
        let clock = self.clock();
        self.call("checkpoint", Some(&lease.key), |shared| {
            let stored = checked(shared, &lease.key, |stored| stored.counter == lease.counter)?;
            stored.checkpoint = checkpoint.clone();
            stored.owner_switches = 0;
            stored.latest_since = None;
            renew(stored, lease, clock);
            Ok(stored.clone())
        })
        .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), TableError> {
        self.call("release", Some(&lease.key), |shared| {
            let stored = checked(shared, &lease.key, |stored| stored.counter == lease.counter)?;
            // A KCL 3 leader gives it to somebody: the owner is the next one.
            match stored.checkpoint_owner.take() {
                None => stored.owner = None,
                Some(_) => stored.owner_switches += 1,
            }
            stored.throughput = None;
            stored.native_counter = None;
            stored.native_process = None;
            stored.native_clock = None;
            stored.failover_millis = None;
            forget_requests(stored);
            stored.busy_permille = None;
            stored.counter += 1;
            Ok(())
        })
        .await
    }

    async fn hand_over(&self, lease: &Lease, to: &str) -> Result<(), TableError> {
        self.call("hand_over", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| {
                stored.counter == lease.counter
                    && stored.checkpoint_owner.is_none()
                    && stored.handover_to.as_deref() == Some(to)
            };
            own(checked(shared, &lease.key, holds)?, lease, to, None);
            Ok(())
        })
        .await
    }

    async fn ask(&self, lease: &Lease, worker: &str, has: u64) -> Result<(), TableError> {
        self.call("ask", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| {
                stored.is_native()
                    && stored.owner == lease.owner
                    && stored.handover_to == lease.handover_to
            };
            let stored = checked(shared, &lease.key, holds)?;
            stored.handover_to = Some(worker.to_owned());
            stored.handover_has = Some(has);
            stored.handover_load = lease.handover_load;
            Ok(())
        })
        .await
    }

    async fn tell(&self, lease: &Lease, news: &BTreeSet<LeaseKey>) -> Result<(), TableError> {
        if lease.owner.is_none() || news.is_empty() {
            return Ok(());
        }
        self.call("tell", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| stored.is_native() && stored.owner == lease.owner;
            let stored = checked(shared, &lease.key, holds)?;
            stored.news.extend(news.iter().cloned());
            Ok(())
        })
        .await
    }

    async fn withdraw(&self, key: &LeaseKey, worker: &str) -> Result<(), TableError> {
        self.call("withdraw", Some(key), |shared| {
            let holds = |stored: &Lease| stored.handover_to.as_deref() == Some(worker);
            let stored = checked(shared, key, holds)?;
            stored.handover_to = None;
            stored.handover_has = None;
            stored.handover_load = None;
            Ok(())
        })
        .await
    }

    async fn remember_latest(&self, key: &LeaseKey, since: Timestamp) -> Result<(), TableError> {
        self.call("remember_latest", Some(key), |shared| {
            let holds = |stored: &Lease| {
                stored.checkpoint == Checkpoint::Latest && stored.latest_since.is_none()
            };
            checked(shared, key, holds)?.latest_since = Some(since);
            Ok(())
        })
        .await
    }

    async fn set_children(
        &self,
        key: &LeaseKey,
        children: &BTreeSet<ShardId>,
    ) -> Result<(), TableError> {
        if children.is_empty() {
            return Ok(());
        }
        self.call("set_children", Some(key), |shared| {
            checked(shared, key, |_| true)?
                .children
                .clone_from(children);
            Ok(())
        })
        .await
    }

    async fn set_hash_range(&self, key: &LeaseKey, range: HashRange) -> Result<(), TableError> {
        self.call("set_hash_range", Some(key), |shared| {
            checked(shared, key, |_| true)?.hash_range = Some(range);
            Ok(())
        })
        .await
    }

    async fn set_stream(&self, key: &LeaseKey, identity: &str) -> Result<(), TableError> {
        self.call("set_stream", Some(key), |shared| {
            let holds = |stored: &Lease| stored.stream_identity.is_none();
            checked(shared, key, holds)?.stream_identity = Some(identity.to_owned());
            Ok(())
        })
        .await
    }

    async fn delete(&self, lease: &Lease) -> Result<(), TableError> {
        self.call("delete", Some(&lease.key), |shared| {
            checked(shared, &lease.key, |stored| {
                stored.counter == lease.counter && stored.is_finished()
            })?;
            shared.leases.remove(&lease.key);
            Ok(())
        })
        .await
    }

    async fn discard(&self, lease: &Lease) -> Result<(), TableError> {
        self.call("discard", Some(&lease.key), |shared| {
            checked(shared, &lease.key, |stored| stored.counter == lease.counter)?;
            shared.leases.remove(&lease.key);
            Ok(())
        })
        .await
    }

    async fn kcl3_state(&self) -> Result<Kcl3State, TableError> {
        self.call("kcl3_state", None, |shared| Ok(shared.kcl3.clone()))
            .await
    }

    async fn report_worker(&self, worker: &str, now: Timestamp) -> Result<(), TableError> {
        self.call("report_worker", None, |shared| {
            shared.reports.insert(worker.to_owned(), now);
            Ok(())
        })
        .await
    }

    async fn retire_worker(&self, worker: &str) -> Result<(), TableError> {
        self.call("retire_worker", None, |shared| {
            shared.reports.remove(worker);
            Ok(())
        })
        .await
    }
}
