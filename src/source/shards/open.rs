//! The number of a stream's open shards.
//!
//! DescribeStreamSummary has 20 calls a second for everybody in the account, so we ask it within
//! our share. When that is spent, or AWS throttles, ListShards counts as well: it has 1,000 a
//! second for each stream, but needs a permission of its own. A stream that may not be listed waits
//! for its peer's and namespace's share instead.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kinesis_edge::{Failure, Kind, ShardFilter};
use tokio::time::Instant;

use super::refuse_none;
use crate::{
    error::{SourceError, SourceErrorKind},
    source::aws::{Client, Resource, Share, Unlisted},
    trigger::{Stream, tenant::Tenant},
};

/// After a denial ListShards is not tried for this long, and twice as long after the next one.
const DENIAL_HOLDS: Duration = Duration::from_secs(300);

/// The longest time without a try.
const DENIAL_HOLDS_AT_MOST: Duration = Duration::from_secs(3600);

/// Counts the open shards of one stream.
#[derive(Debug)]
pub struct OpenShards {
    calls: Box<dyn Calls>,
    share: Arc<Share>,
    /// Who waits for a share of the quota.
    tenant: Tenant,
    /// Of ListShards, for this stream: a policy may allow others.
    denied: Mutex<Option<Denied>>,
}

/// The two calls that count a stream's open shards, as a seam.
#[async_trait]
pub(crate) trait Calls: fmt::Debug + Send + Sync {
    async fn describe(&self) -> Result<i64, Failure>;
    async fn list(&self) -> Result<i64, Failure>;
    fn error(&self, failure: &Failure) -> SourceError;
}

#[derive(Debug)]
struct Denied {
    at: Instant,
    holds: Duration,
    _counted: Unlisted,
}

impl Denied {
    fn again(before: Option<&Self>, counted: Unlisted) -> Self {
        let holds = before.map_or(DENIAL_HOLDS, |before| before.holds * 2);
        Self {
            at: Instant::now(),
            holds: holds.min(DENIAL_HOLDS_AT_MOST),
            _counted: counted,
        }
    }
}

impl OpenShards {
    pub(super) fn new(client: Arc<Client>, stream: Stream, tenant: &Tenant) -> Self {
        let share = Arc::clone(&client.share);
        Self::over(Box::new(AwsCalls { client, stream }), share, tenant)
    }

    pub(crate) fn over(calls: Box<dyn Calls>, share: Arc<Share>, tenant: &Tenant) -> Self {
        Self {
            calls,
            share,
            tenant: tenant.clone(),
            denied: Mutex::default(),
        }
    }

    /// The open shards now.
    ///
    /// # Errors
    /// Whenever the number is not known for certain. Never a partial count, never a made-up zero.
    pub async fn count(&self) -> Result<i64, SourceError> {
        let budget = &self.share.budget;
        if budget.try_take() {
            match self.describe().await {
                Err(throttled) if throttled.kind == SourceErrorKind::Throttled => {
                    // Report the throttling: that is what the operator can act on.
                    return self.list().await.unwrap_or(Err(throttled));
                }
                answer => return answer,
            }
        }
        if let Some(answer) = self.list().await {
            return answer;
        }
        budget.take(&self.tenant).await;
        self.describe().await
    }

    /// DescribeStreamSummary, for a call that was taken from the budget. A broken attempt is
    /// repeated once, as far as the budgets of calls and of retries go.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub async fn describe(&self) -> Result<i64, SourceError> {
        let is_broken =
            |failure: &Failure| failure.kind == Kind::Unavailable && !failure.is_of_credentials();
        let may_retry = || self.share.budget.try_take() && self.share.retries.take();
        match self.calls.describe().await {
            Err(failure) if is_broken(&failure) && may_retry() => self.calls.describe().await,
            answer => answer,
        }
        .map_err(|failure| self.calls.error(&failure))
    }

    /// May a count that failed be repeated before the next refresh?
    pub(crate) fn may_retry(&self) -> bool {
        self.share.retries.take()
    }

    /// By ListShards. `None`: not allowed, or throttled too.
    async fn list(&self) -> Option<Result<i64, SourceError>> {
        let is_denied = |denied: &Denied| denied.at.elapsed() < denied.holds;
        if self.denied().as_ref().is_some_and(is_denied) {
            return None;
        }
        match self.list_all().await {
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                let counted = self.share.list_shards_denied(&error);
                let mut denied = self.denied();
                *denied = Some(Denied::again(denied.as_ref(), counted));
                None
            }
            Err(error) if error.kind == SourceErrorKind::Throttled => None,
            answer => {
                *self.denied() = None;
                Some(answer)
            }
        }
    }

    fn denied(&self) -> MutexGuard<'_, Option<Denied>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By ListShards.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub async fn list_all(&self) -> Result<i64, SourceError> {
        let listed = self.calls.list().await;
        listed.map_err(|failure| self.calls.error(&failure))
    }
}

#[derive(Debug)]
struct AwsCalls {
    client: Arc<Client>,
    stream: Stream,
}

#[async_trait]
impl Calls for AwsCalls {
    async fn describe(&self) -> Result<i64, Failure> {
        let stream = self.client.stream(&self.stream).await;
        stream.open_shard_count().await
    }

    async fn list(&self) -> Result<i64, Failure> {
        let stream = self.client.stream(&self.stream).await;
        let shards = stream.shards(ShardFilter::AtLatest).await;
        let shards = shards.and_then(refuse_none)?;
        Ok(shards.iter().filter(|shard| !shard.closed).count() as i64)
    }

    fn error(&self, failure: &Failure) -> SourceError {
        self.client.error(Resource::Stream(&self.stream), failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_denied_list_is_tried_ever_less_often() {
        let share = Share::new(5, Arc::new(Metrics::new()));
        let error = SourceErrorKind::AccessDenied.example();
        let mut denied = None;
        let mut holds = Vec::new();
        for _ in 0..6 {
            let next = Denied::again(denied.as_ref(), share.list_shards_denied(&error));
            holds.push(next.holds.as_secs());
            denied = Some(next);
        }
        assert_eq!(holds, [300, 600, 1200, 2400, 3600, 3600]);
    }
}
