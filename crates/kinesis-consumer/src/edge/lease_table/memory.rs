//! A lease table in memory, for tests and simulations: the semantics of DynamoDB, and faults on
//! demand.
//!
//! Clones share the leases. [`MemoryTable::with_faults`] makes a view for one worker whose calls go
//! wrong as its hook says.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    edge::{
        failure::CallError,
        lease_table::{Kcl3State, Scan, TableError, new_process},
    },
    model::{keys::LeaseKey, lease::Lease},
};

mod calls;

/// A call about to be made.
#[derive(Clone, Copy, Debug)]
pub struct TableCall<'a> {
    /// The trait's method, such as `renew`.
    pub operation: &'static str,
    /// The lease's key; `None`: the whole table.
    pub key: Option<&'a LeaseKey>,
    /// How many leases it is about: of `scan` and `look`, those that it asks for.
    pub leases: usize,
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
    /// It is done, the answer is lost, and the SDK makes the call again: the answer to that.
    Repeated,
}

type Faults = Arc<dyn Fn(&TableCall<'_>) -> Fault + Send + Sync>;

#[derive(Debug, Default)]
struct Shared {
    leases: BTreeMap<LeaseKey, Lease>,
    kcl3: Kcl3State,
    reports: BTreeMap<String, Timestamp>,
    oddities: Scan,
    created: bool,
    deleted: bool,
    /// Other than active.
    status: Option<&'static str>,
    calls: BTreeMap<&'static str, u64>,
}

/// A lease table in memory.
#[derive(Clone)]
pub struct MemoryTable {
    shared: Arc<Mutex<Shared>>,
    process: String,
    /// When the process began.
    began: Instant,
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
            began: Instant::now(),
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
            began: Instant::now(),
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

    /// Gives the table this status, in which nobody can use it. `None`: it is active.
    pub fn set_status(&self, status: Option<&'static str>) {
        self.shared().status = status;
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

    /// The workers that a KCL 3 leader would take for alive, and when each said so last.
    pub fn reports(&self) -> BTreeMap<String, Timestamp> {
        self.shared().reports.clone()
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
        act: impl FnMut(&mut Shared) -> Result<T, TableError> + Send,
    ) -> Result<T, TableError> {
        let leases = match operation {
            "scan" => self.shared().leases.len(),
            _ => usize::from(key.is_some()),
        };
        self.call_about(operation, key, leases, act).await
    }

    async fn call_about<T: Send>(
        &self,
        operation: &'static str,
        key: Option<&LeaseKey>,
        leases: usize,
        mut act: impl FnMut(&mut Shared) -> Result<T, TableError> + Send,
    ) -> Result<T, TableError> {
        let call = TableCall {
            operation,
            key,
            leases,
        };
        let fault = (self.faults.as_ref())
            .map(|faults| faults(&call))
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
            Outcome::Done | Outcome::AnswerLost | Outcome::Repeated => {
                let mut shared = self.shared();
                *shared.calls.entry(operation).or_default() += 1;
                if let (Some(status), "ensure_exists") = (shared.status, operation) {
                    return Err(TableError::NotActive(format!("it is {status}").into()));
                }
                let is_missing = shared.deleted || shared.status.is_some();
                if is_missing && operation != "ensure_exists" {
                    let missing = CallError::missing(format!("{operation}: no such table"));
                    return Err(TableError::Permanent(missing));
                }
                if fault.outcome == Outcome::Repeated {
                    drop(act(&mut shared));
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
