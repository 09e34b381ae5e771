//! Consumers with enhanced fan-out: the stream's registrations, each with a bandwidth of its own.

use aws_sdk_kinesis::types;

use super::Stream;
use crate::Failure;

/// A registration for enhanced fan-out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Consumer {
    /// What subscriptions name.
    pub arn: String,
    /// Whether it can be used.
    pub status: ConsumerStatus,
}

/// How a [`Consumer`] stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsumerStatus {
    /// It is being made.
    Creating,
    /// Shards can be subscribed to.
    Active,
    /// It is on its way out.
    Deleting,
}

impl Stream {
    /// The stream's ARN: as given, or as DescribeStreamSummary has it.
    ///
    /// # Errors
    /// AWS does not say it.
    pub async fn arn(&self) -> Result<String, Failure> {
        const OPERATION: &str = "DescribeStreamSummary";
        if let Some(arn) = &self.arn {
            return Ok(arn.clone());
        }
        let request = self.client.describe_stream_summary();
        let request = request.set_stream_name(self.name.clone());
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let arn = answer.stream_description_summary.map(|it| it.stream_arn);
        let none = || {
            self.calls
                .senseless(OPERATION, "the answer has no StreamARN")
        };
        arn.filter(|arn| !arn.is_empty()).ok_or_else(none)
    }

    /// The consumer of that name. `stream`: the stream's [ARN](Self::arn).
    ///
    /// # Errors
    /// AWS has none of that name, or gives no answer.
    pub async fn consumer(&self, stream: &str, name: &str) -> Result<Consumer, Failure> {
        const OPERATION: &str = "DescribeStreamConsumer";
        let request = self.client.describe_stream_consumer();
        let request = request.stream_arn(stream).consumer_name(name);
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let described = answer.consumer_description;
        let consumer = described.map(|it| to_consumer(it.consumer_arn, &it.consumer_status));
        self.some_consumer(OPERATION, consumer)
    }

    /// Registers a consumer of that name. `stream`: the stream's [ARN](Self::arn).
    ///
    /// # Errors
    /// There is one of that name, the stream has as many as it may have, or AWS gives no answer.
    pub async fn register_consumer(&self, stream: &str, name: &str) -> Result<Consumer, Failure> {
        const OPERATION: &str = "RegisterStreamConsumer";
        let request = self.client.register_stream_consumer();
        let request = request.stream_arn(stream).consumer_name(name);
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let registered = answer.consumer;
        let consumer = registered.map(|it| to_consumer(it.consumer_arn, &it.consumer_status));
        self.some_consumer(OPERATION, consumer)
    }

    fn some_consumer(
        &self,
        operation: &'static str,
        consumer: Option<Consumer>,
    ) -> Result<Consumer, Failure> {
        let consumer = consumer.filter(|consumer| !consumer.arn.is_empty());
        let none = || {
            self.calls
                .senseless(operation, "the answer has no ConsumerARN")
        };
        consumer.ok_or_else(none)
    }
}

fn to_consumer(arn: String, status: &types::ConsumerStatus) -> Consumer {
    Consumer {
        arn,
        status: match status {
            types::ConsumerStatus::Active => ConsumerStatus::Active,
            types::ConsumerStatus::Deleting => ConsumerStatus::Deleting,
            _ => ConsumerStatus::Creating,
        },
    }
}
