//! A lease table in memory, for tests and simulations: the semantics of DynamoDB, and faults on
//! demand.
//!
//! Clones share the leases. [`MemoryTable::with_faults`] makes a view for one worker whose calls go
//! wrong as its hook says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    edge::{
        failure::CallError,
        lease_table::{Kcl3State, LeaseTable, Scan, TableError, new_process},
    },
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::HashRange,
    },
};

/// A call about to be made.
#[derive(Clone, Copy, Debug)]
pub struct TableCall<'a> {
    /// The trait's method, such as `renew`.
    pub operation: &'static str,
    /// The lease's key; `None`: the whole table.
    pub key: Option<&'a LeaseKey>,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fault {
    /// The request is under way for so long.
    pub before: Duration,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The answer is under way for so long.
    pub after: Duration,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outcome {
    /// It is done and answered.
    #[default]
    Done,
    /// It is refused as throttled.
    Throttled,
    /// It is refused for good: `Permanent`.
    Denied,
    /// It never arrives: `Unavailable`.
    Lost,
    /// It is done, but the answer is lost: `Unavailable`.
    AnswerLost,
}

type Faults = Arc<dyn Fn(&TableCall<'_>) -> Fault + Send + Sync>;

#[derive(Debug, Default)]
struct Shared {
    leases: BTreeMap<LeaseKey, Lease>,
    kcl3: Kcl3State,
    oddities: Scan,
    created: bool,
    deleted: bool,
    calls: BTreeMap<&'static str, u64>,
}

/// A lease table in memory.
#[derive(Clone)]
pub struct MemoryTable {
    shared: Arc<Mutex<Shared>>,
    process: String,
    faults: Option<Faults>,
}

impl fmt::Debug for MemoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTable")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Default for MemoryTable {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTable {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            shared: Arc::default(),
            process: new_process(),
            faults: None,
        }
    }

    /// The same table as another process sees it, through calls that go wrong as `faults` says.
    #[must_use]
    pub fn with_faults(
        &self,
        faults: impl Fn(&TableCall<'_>) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            process: new_process(),
            faults: Some(Arc::new(faults)),
        }
    }

    /// All leases as they are, by key.
    pub fn leases(&self) -> Vec<Lease> {
        self.shared().leases.values().cloned().collect()
    }

    /// One lease as it is.
    pub fn lease(&self, key: impl Into<LeaseKey>) -> Option<Lease> {
        self.shared().leases.get(&key.into()).cloned()
    }

    /// Changes a lease behind everybody's back, as a worker of another kind would. False: no such
    /// lease.
    pub fn edit(&self, key: impl Into<LeaseKey>, change: impl FnOnce(&mut Lease)) -> bool {
        let key = key.into();
        self.shared().leases.get_mut(&key).map(change).is_some()
    }

    /// Puts a lease there, whatever was there.
    pub fn put(&self, lease: Lease) {
        self.shared().leases.insert(lease.key.clone(), lease);
    }

    /// Deletes the table with all leases: calls fail until `ensure_exists` makes it anew.
    pub fn delete_table(&self) {
        let mut shared = self.shared();
        shared.leases.clear();
        (shared.created, shared.deleted) = (false, true);
    }

    /// Deletes a lease behind everybody's back.
    pub fn delete_row(&self, key: impl Into<LeaseKey>) {
        self.shared().leases.remove(&key.into());
    }

    /// What [`LeaseTable::scan`] shall find beside the leases.
    pub fn set_oddities(&self, oddities: Scan) {
        self.shared().oddities = oddities;
    }

    /// What [`LeaseTable::kcl3_state`] shall say.
    pub fn set_kcl3_state(&self, state: Kcl3State) {
        self.shared().kcl3 = state;
    }

    /// How many calls of each operation arrived.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.shared().calls.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A test that panicked while it held the lock has said so already.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T: Send>(
        &self,
        operation: &'static str,
        key: Option<&LeaseKey>,
        act: impl FnOnce(&mut Shared) -> Result<T, TableError> + Send,
    ) -> Result<T, TableError> {
        let fault = self
            .faults
            .as_ref()
            .map(|faults| faults(&TableCall { operation, key }))
            .unwrap_or_default();
        if !fault.before.is_zero() {
            tokio::time::sleep(fault.before).await;
        }
        let answer = match fault.outcome {
            Outcome::Throttled => Err(TableError::Throttled(
                format!("{operation}: by fault").into(),
            )),
            Outcome::Denied => Err(TableError::Permanent(
                format!("{operation}: denied by fault").into(),
            )),
            Outcome::Lost => Err(TableError::Unavailable(
                format!("{operation}: lost by fault").into(),
            )),
            Outcome::Done | Outcome::AnswerLost => {
                let mut shared = self.shared();
                *shared.calls.entry(operation).or_default() += 1;
                if shared.deleted && operation != "ensure_exists" {
                    let missing = CallError::missing(format!("{operation}: no such table"));
                    return Err(TableError::Permanent(missing));
                }
                act(&mut shared)
            }
        };
        if !fault.after.is_zero() {
            tokio::time::sleep(fault.after).await;
        }
        match fault.outcome {
            Outcome::AnswerLost => Err(TableError::Unavailable(
                format!("{operation}: answer lost by fault").into(),
            )),
            _ => answer,
        }
    }
}

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

fn own(stored: &mut Lease, worker: &str, process: Option<&str>) {
    if stored.owner.as_deref().is_some_and(|owner| owner != worker) {
        stored.owner_switches += 1;
    }
    stored.owner = Some(worker.to_owned());
    stored.native_process = process.map(str::to_owned);
    stored.checkpoint_owner = None;
    stored.handover_to = None;
    beat(stored, None);
}

fn beat(stored: &mut Lease, busy_permille: Option<u16>) {
    stored.busy_permille = busy_permille;
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
        self.call("take", Some(&lease.key), |shared| {
            let stored = checked(shared, &lease.key, |stored| stored.counter == lease.counter)?;
            own(stored, worker, Some(&self.process));
            if lease.stream_identity.is_some() {
                stored.stream_identity.clone_from(&lease.stream_identity);
            }
            Ok(stored.clone())
        })
        .await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, TableError> {
        self.call("renew", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| {
                stored.counter == lease.counter && stored.checkpoint_owner.is_none()
            };
            let stored = checked(shared, &lease.key, holds)?;
            beat(stored, lease.busy_permille);
            Ok(stored.clone())
        })
        .await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: &Checkpoint,
    ) -> Result<Lease, TableError> {
        self.call("checkpoint", Some(&lease.key), |shared| {
            let stored = checked(shared, &lease.key, |stored| stored.counter == lease.counter)?;
            stored.checkpoint = checkpoint.clone();
            stored.owner_switches = 0;
            stored.latest_since = None;
            beat(stored, lease.busy_permille);
            Ok(stored.clone())
        })
        .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), TableError> {
        self.call("release", Some(&lease.key), |shared| {
            let stored = checked(shared, &lease.key, |stored| stored.counter == lease.counter)?;
            // A KCL 3 leader gives it to somebody: the owner is the next one.
            if stored.checkpoint_owner.take().is_none() {
                stored.owner = None;
            }
            stored.native_counter = None;
            stored.native_process = None;
            stored.handover_to = None;
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
            own(checked(shared, &lease.key, holds)?, to, None);
            Ok(())
        })
        .await
    }

    async fn ask(&self, lease: &Lease, worker: &str) -> Result<(), TableError> {
        self.call("ask", Some(&lease.key), |shared| {
            let holds = |stored: &Lease| {
                stored.is_native()
                    && stored.owner == lease.owner
                    && stored.handover_to == lease.handover_to
            };
            checked(shared, &lease.key, holds)?.handover_to = Some(worker.to_owned());
            Ok(())
        })
        .await
    }

    async fn withdraw(&self, key: &LeaseKey, worker: &str) -> Result<(), TableError> {
        self.call("withdraw", Some(key), |shared| {
            let holds = |stored: &Lease| stored.handover_to.as_deref() == Some(worker);
            checked(shared, key, holds)?.handover_to = None;
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

    async fn kcl3_state(&self) -> Result<Kcl3State, TableError> {
        self.call("kcl3_state", None, |shared| Ok(shared.kcl3.clone()))
            .await
    }
}
