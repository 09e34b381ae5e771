//! The number of a stream's open shards.
//!
//! DescribeStreamSummary has 20 calls a second for everybody in the account, so we ask it within
//! our share. When that is spent, or AWS throttles, ListShards counts as well: it has 1,000 a
//! second for each stream, but needs a permission of its own. An identity that may not list waits
//! for its share instead, first come, first served.

use std::sync::Arc;

use kinesis_edge::{Failure, Kind, ShardFilter};

use super::refuse_none;
use crate::{
    error::{SourceError, SourceErrorKind},
    source::aws::{Client, Resource},
    trigger::Stream,
};

/// Counts the open shards of one stream.
#[derive(Debug)]
pub struct OpenShards {
    pub(super) client: Arc<Client>,
    pub(super) stream: Stream,
}

impl OpenShards {
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
        if !self.client.may_list_shards() {
            return None;
        }
        match self.list_all().await {
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                self.client.list_shards_was_denied();
                None
            }
            Err(error) if error.kind == SourceErrorKind::Throttled => None,
            answer => Some(answer),
        }
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
