//! The number of a stream's open shards, as DescribeStreamSummary has it.

use aws_sdk_kinesis::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::AfterDeserializationInterceptorContextRef,
    },
    error::BoxError,
    types::StreamStatus,
};
use serde_json::Value;

use super::Stream;
use crate::Failure;

const OPERATION: &str = "DescribeStreamSummary";

impl Stream {
    /// The open shards now.
    ///
    /// # Errors
    /// Whenever the number is not known for certain; never a made-up zero. While a stream is being
    /// made AWS says 0, which it never has afterwards.
    pub async fn open_shard_count(&self) -> Result<i64, Failure> {
        let request = self
            .client
            .describe_stream_summary()
            .set_stream_name(self.name.clone())
            .set_stream_arn(self.arn.clone())
            .customize()
            .interceptor(CountIsThere);
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let summary = answer.stream_description_summary();
        if summary.is_some_and(|summary| {
            *summary.stream_status() == StreamStatus::Creating && summary.open_shard_count() == 0
        }) {
            return Err(Failure::not_ready(OPERATION));
        }
        let count = summary.map(|summary| i64::from(summary.open_shard_count()));
        let no_count = || {
            self.calls
                .senseless(OPERATION, "OpenShardCount is no count")
        };
        count.filter(|count| *count >= 0).ok_or_else(no_count)
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
