//! The number of a stream's open shards.
//!
//! DescribeStreamSummary has 20 calls a second for everybody in the account, so we ask it within
//! our share. When that is spent, or AWS throttles, ListShards counts as well: it has 1,000 a
//! second for each stream, but needs a permission of its own. A stream that may not be listed waits
//! for its share instead, first come, first served.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kinesis_edge::{Failure, Kind, ShardFilter};
use tokio::time::Instant;

use super::refuse_none;
use crate::{
    error::{SourceError, SourceErrorKind},
    source::aws::{Client, Resource},
    trigger::Stream,
};

/// After a denial ListShards is not tried for this long, and twice as long after the next one.
const DENIAL_HOLDS: Duration = Duration::from_secs(300);

/// The longest time without a try.
const DENIAL_HOLDS_AT_MOST: Duration = Duration::from_secs(3600);

/// Counts the open shards of one stream.
#[derive(Debug)]
pub struct OpenShards {
    client: Arc<Client>,
    stream: Stream,
    /// Of ListShards, for this stream: a policy may allow others.
    denied: Mutex<Option<Denied>>,
}

#[derive(Clone, Copy, Debug)]
struct Denied {
    at: Instant,
    holds: Duration,
}

impl Denied {
    fn again(before: Option<Self>) -> Self {
        let holds = before.map_or(DENIAL_HOLDS, |before| before.holds * 2);
        Self {
            at: Instant::now(),
            holds: holds.min(DENIAL_HOLDS_AT_MOST),
        }
    }
}

impl OpenShards {
    pub(super) fn new(client: Arc<Client>, stream: Stream) -> Self {
        Self {
            client,
            stream,
            denied: Mutex::default(),
        }
    }

    /// The open shards now.
    ///
    /// # Errors
    /// Whenever the number is not known for certain. Never a partial count, never a made-up zero.
    pub async fn count(&self) -> Result<i64, SourceError> {
        let client = &self.client;
        if client.budget.try_take() {
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
        client.budget.take().await;
        self.describe().await
    }

    /// DescribeStreamSummary, for a call that was taken from the budget. A broken attempt is
    /// repeated once, budget permitting.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub async fn describe(&self) -> Result<i64, SourceError> {
        let is_broken =
            |failure: &Failure| failure.kind == Kind::Unavailable && !failure.is_of_credentials();
        let stream = self.client.stream(&self.stream).await;
        match stream.open_shard_count().await {
            Err(failure) if is_broken(&failure) && self.client.budget.try_take() => {
                stream.open_shard_count().await
            }
            answer => answer,
        }
        .map_err(|failure| self.error(&failure))
    }

    /// By ListShards. `None`: not allowed, or throttled too.
    async fn list(&self) -> Option<Result<i64, SourceError>> {
        let denied = *self.denied();
        if denied.is_some_and(|denied| denied.at.elapsed() < denied.holds) {
            return None;
        }
        match self.list_all().await {
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                *self.denied() = Some(Denied::again(denied));
                self.client.log_list_shards_denied(&error);
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
        let stream = self.client.stream(&self.stream).await;
        let shards = stream.shards(ShardFilter::AtLatest).await;
        let shards = shards.and_then(refuse_none);
        let shards = shards.map_err(|failure| self.error(&failure))?;
        Ok(shards.iter().filter(|shard| !shard.closed).count() as i64)
    }

    fn error(&self, failure: &Failure) -> SourceError {
        self.client.error(Resource::Stream(&self.stream), failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_denied_list_is_tried_ever_less_often() {
        let mut denied = None;
        let mut holds = Vec::new();
        for _ in 0..6 {
            let next = Denied::again(denied);
            holds.push(next.holds.as_secs());
            denied = Some(next);
        }
        assert_eq!(holds, [300, 600, 1200, 2400, 3600, 3600]);
    }
}
