//! What the server was asked, for tests to assert on and to wait for.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lock;

/// Calls kept in full; counts go on beyond it.
const KEPT: usize = 100_000;

/// One call as it came in, recorded before it is answered (or failed on purpose).
#[derive(Clone)]
#[non_exhaustive]
pub struct Call {
    /// `DescribeStreamSummary`, `AssumeRole`, `GetContainerCredentials`, …
    pub operation: String,
    /// Of the `Authorization` header; empty where the call is not signed.
    pub access_key_id: String,
    /// Account the access key belongs to.
    pub account: String,
    /// Region of the signature's credential scope; the server's own where the call is not signed.
    pub region: String,
    /// Name of the stream it is about.
    pub stream: Option<String>,
    /// When it came in.
    pub at: Instant,
    /// `AssumeRole` and `AssumeRoleWithWebIdentity`: the role asked for.
    pub role_arn: Option<String>,
    /// `AssumeRole`: the external ID sent.
    pub external_id: Option<String>,
    /// `AssumeRoleWithWebIdentity`: the token sent. Never in `Debug`.
    pub web_identity_token: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Whether it came by HTTP/2.
    pub http2: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .field("access_key_id", &self.access_key_id)
            .field("account", &self.account)
            .field("region", &self.region)
            .field("stream", &self.stream)
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Calls {
    seen: Mutex<Seen>,
    changed: Notify,
    held: AtomicUsize,
    subscribed: AtomicUsize,
}

/// A call that is kept waiting.
pub(crate) struct Held<'a>(&'a Calls);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

#[derive(Debug, Default)]
struct Seen {
    last: VecDeque<Call>,
    counts: HashMap<String, usize>,
    total: usize,
}

impl Calls {
    pub(crate) fn record(&self, call: Call) {
        let mut seen = lock(&self.seen);
        seen.total += 1;
        match seen.counts.get_mut(&call.operation) {
            Some(count) => *count += 1,
            None => {
                seen.counts.insert(call.operation.clone(), 1);
            }
        }
        if seen.last.len() == KEPT {
            seen.last.pop_front();
        }
        seen.last.push_back(call);
        drop(seen);
        self.changed.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<Call> {
        lock(&self.seen).last.iter().cloned().collect()
    }

    pub(crate) fn count(&self, operation: &str) -> usize {
        let seen = lock(&self.seen);
        match operation {
            "*" => seen.total,
            _ => seen.counts.get(operation).copied().unwrap_or(0),
        }
    }

    pub(crate) async fn wait_for(&self, operation: &str, n: usize) {
        loop {
            let changed = self.changed.notified();
            if self.count(operation) >= n {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        self.held.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Held(self)
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn subscribed(&self) {
        self.subscribed.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn unsubscribed(&self) {
        self.subscribed.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.subscribed.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait_for_subscriptions(&self, n: usize) {
        loop {
            let changed = self.changed.notified();
            if self.subscriptions() == n {
                return;
            }
            changed.await;
        }
    }

    pub(crate) async fn wait_for_held(&self, n: usize) {
        loop {
            let changed = self.changed.notified();
            if self.held() == n {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn clear(&self) {
        *lock(&self.seen) = Seen::default();
    }
}
