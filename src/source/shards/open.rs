//! The number of a stream's open shards.
//!
//! DescribeStreamSummary has 20 calls a second for everybody in the account, so we ask it within our share. When that is
//! spent, or AWS throttles, ListShards counts as well: it has 1,000 a second for each stream, but needs a permission of its
//! own. An identity that may not list waits for its share instead, first come, first served.

use std::sync::Arc;

use aws_sdk_kinesis::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::AfterDeserializationInterceptorContextRef,
    },
    error::BoxError,
    types::{Shard, ShardFilter, ShardFilterType},
};
use serde_json::Value;

use super::MOST_PAGES;
use crate::{
    error::{SourceError, SourceErrorKind},
    source::aws::{Call, Client, Failed, Resource},
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
                    // The throttling is what the operator must hear of, whatever the way around it says.
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

    /// DescribeStreamSummary, for a call that was taken from the budget. A broken attempt is repeated once, budget permitting.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub async fn describe(&self) -> Result<i64, SourceError> {
        match self.describe_once().await {
            Err(failed) if failed.broken && self.client.budget.try_take() => {
                self.describe_once().await
            }
            answer => answer,
        }
        .map_err(|failed| failed.error)
    }

    async fn describe_once(&self) -> Result<i64, Failed> {
        let call = self.call("DescribeStreamSummary");
        let kinesis = self.client.kinesis().await;
        let request = kinesis.describe_stream_summary();
        let request = match &self.stream {
            Stream::Name(name) => request.stream_name(name),
            Stream::Arn(arn) => request.stream_arn(arn),
        };
        let request = request.customize().interceptor(CountIsThere);
        let answer = self.client.attempt(call, request.send()).await?;
        let count = answer
            .stream_description_summary()
            .map(|summary| i64::from(summary.open_shard_count()));
        count.filter(|count| *count >= 0).ok_or_else(|| Failed {
            error: call.senseless("OpenShardCount is no count"),
            broken: false,
        })
    }

    /// ListShards. `None`: not allowed, or throttled too, so there is nothing to report but what made us try.
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
        let call = self.call("ListShards");
        let mut open = 0;
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let kinesis = self.client.kinesis().await;
            let request = kinesis.list_shards();
            let request = match (token.take(), &self.stream) {
                (Some(token), _) => request.next_token(token),
                (None, Stream::Name(name)) => request.stream_name(name).shard_filter(at_latest()),
                (None, Stream::Arn(arn)) => request.stream_arn(arn).shard_filter(at_latest()),
            };
            let request = request.max_results(10_000);
            let answer = self.client.attempt(call, request.send()).await;
            let answer = answer.map_err(|failed| failed.error)?;
            let Some(shards) = answer.shards else {
                return Err(call.senseless("the answer has no Shards"));
            };
            open += shards.iter().filter(|shard| is_open(shard)).count() as i64;
            token = answer.next_token;
            if token.is_none() {
                return Ok(open);
            }
        }
        Err(call.senseless("the list of shards does not end"))
    }

    fn call(&self, operation: &'static str) -> Call<'_> {
        Call {
            operation,
            resource: Resource::Stream(&self.stream),
            region: self.client.region(),
        }
    }
}

/// Refuses an answer without a count: the SDK would read it as 0.
#[derive(Debug)]
struct CountIsThere;

impl Intercept for CountIsThere {
    fn name(&self) -> &'static str {
        "CountIsThere"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        let is_there = || {
            let answer = serde_json::from_slice::<Value>(body).ok()?;
            let count = answer.pointer("/StreamDescriptionSummary/OpenShardCount")?;
            count.is_number().then_some(())
        };
        if response.status().is_success() && is_there().is_none() {
            return Err("the answer has no OpenShardCount".into());
        }
        Ok(())
    }
}

fn at_latest() -> ShardFilter {
    ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build()
        .expect("the type is set")
}

fn is_open(shard: &Shard) -> bool {
    shard
        .sequence_number_range()
        .is_none_or(|range| range.ending_sequence_number().is_none())
}
