//! What the consumer holds, and what it cannot do, at this moment: `/state`, `/readyz`, `/livez`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::LeaseKey;
use serde_json::{Value, json};
use tokio::time::Instant;

/// An idle shard tells its lag each second.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct State {
    instance: String,
    ready: AtomicBool,
    held: Mutex<BTreeMap<LeaseKey, Held>>,
    /// What fails so that waiting does not mend it: the error, and since when.
    failures: Mutex<BTreeMap<&'static str, (String, Instant)>>,
    /// Of several streams, those that cannot be read, and why.
    streams: Mutex<BTreeMap<String, String>>,
    /// Leases that nobody can read: key, and why.
    unread: Mutex<Vec<(String, String)>>,
}

/// A shard whose lease is held.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Unknown until the first answer of GetRecords: never a made-up 0.
    millis_behind_latest: Option<i64>,
    /// When it was told last.
    pub(crate) told: Instant,
    pub(crate) checkpoint: Option<String>,
    pub(crate) checkpointed: Instant,
    pub(crate) records: u64,
    pub(crate) end_waits: bool,
}

impl State {
    pub(crate) fn new(instance: String) -> Self {
        Self {
            instance,
            ready: AtomicBool::new(false),
            held: Mutex::default(),
            failures: Mutex::default(),
            streams: Mutex::default(),
            unread: Mutex::default(),
        }
    }

    /// Is the worker running, and not stopping?
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// `ok`, and what is tried in vain, a line each.
    pub(crate) fn liveness(&self) -> String {
        let mut text = "ok".to_owned();
        for (operation, (error, since)) in self.failures().iter() {
            let seconds = since.elapsed().as_secs();
            text += &format!("\n{operation} has failed for {seconds} s: {error}");
        }
        text
    }

    /// `ok`, and the leases that nobody can read, a line each: a rollout may be what mends them.
    /// `None`: not ready.
    pub(crate) fn readiness(&self) -> Option<String> {
        self.is_ready().then(|| {
            let mut text = "ok".to_owned();
            for (lease, reason) in self.unread().iter() {
                text += &format!("\nnobody can read {lease}: {reason}");
            }
            for (stream, reason) in self.streams().iter() {
                text += &format!("\nstream {stream} cannot be read: {reason}");
            }
            text
        })
    }

    pub(crate) fn json(&self, now: Instant) -> Value {
        let leases: Vec<Value> = (self.held().iter())
            .map(|(shard, held)| {
                json!({
                    "shard": shard.to_string(),
                    "millisBehindLatest": held.lag_millis(now),
                    "checkpoint": held.checkpoint,
                    "records": held.records,
                })
            })
            .collect();
        json!({
            "instance": self.instance,
            "ready": self.is_ready(),
            "leases": leases,
            "unreadable": self.unread().iter().map(|(lease, reason)| {
                json!({ "lease": lease, "reason": reason })
            }).collect::<Vec<_>>(),
            "failingStreams": self.streams().iter().map(|(stream, reason)| {
                json!({ "stream": stream, "reason": reason })
            }).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, BTreeMap<LeaseKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, shard: &LeaseKey, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held().get_mut(shard) {
            change(held);
        }
    }

    /// Was it held?
    pub(crate) fn give_up(&self, shard: &LeaseKey) -> bool {
        self.held().remove(shard).is_some()
    }

    pub(crate) fn failures(&self) -> MutexGuard<'_, BTreeMap<&'static str, (String, Instant)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn streams(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unread(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(crate) fn new() -> Self {
        Self {
            millis_behind_latest: None,
            told: Instant::now(),
            checkpoint: None,
            checkpointed: Instant::now(),
            records: 0,
            end_waits: false,
        }
    }

    pub(crate) fn tell(&mut self, millis_behind_latest: i64) {
        self.millis_behind_latest = Some(millis_behind_latest);
        self.told = Instant::now();
    }

    /// What was told last; and while nothing is told, because a batch does not end, it grows with
    /// time.
    pub(crate) fn lag_millis(&self, now: Instant) -> Option<i64> {
        let silence = now.saturating_duration_since(self.told);
        let since = if silence > SILENCE {
            silence
        } else {
            Duration::ZERO
        };
        Some(self.millis_behind_latest? + since.as_millis() as i64)
    }
}
