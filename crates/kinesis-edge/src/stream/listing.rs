//! The streams of an account in the client's region, and when each was made.

use std::sync::Arc;

use aws_sdk_kinesis::{primitives::DateTime, types::StreamStatus};

use super::Stream;
use crate::{Failure, Gate, KinesisClient, Service, call::Calls};

/// More pages (of 1,000) than any account has streams.
const MOST_PAGES: usize = 1_000;

/// A stream as AWS names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamSummary {
    /// Its name.
    pub name: String,
    /// Its ARN, which has its account.
    pub arn: String,
    /// When it was made, in seconds since 1970: one that is deleted and made anew has another.
    pub created: u64,
    /// Whether its shards can be listed and read: it is not being made or deleted.
    pub is_active: bool,
}

impl StreamSummary {
    /// The number of its account.
    pub fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }
}

/// The streams of an account.
#[derive(Clone, Debug)]
pub struct Listing {
    client: KinesisClient,
    calls: Calls,
}

impl Listing {
    /// The streams that the client's account has in its region.
    pub fn new(client: KinesisClient) -> Self {
        let calls = Calls {
            service: Service::Kinesis,
            gate: None,
        };
        Self { client, calls }
    }

    /// The same with a gate before each call.
    #[must_use]
    pub fn behind(mut self, gate: Arc<dyn Gate>) -> Self {
        self.calls.gate = Some(gate);
        self
    }

    /// All of them.
    ///
    /// # Errors
    /// Whenever the list is not known to be whole.
    pub async fn all(&self) -> Result<Vec<StreamSummary>, Failure> {
        const OPERATION: &str = "ListStreams";
        let senseless = |message: &str| self.calls.senseless(OPERATION, message);
        let (mut streams, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let request = self.client.list_streams().limit(1_000);
            let request = request.set_next_token(token.take());
            let answer = self.calls.call(OPERATION, request.send()).await?;
            // As from a service that pages by names: a part would count as the whole.
            if answer.has_more_streams && answer.next_token.is_none() {
                return Err(senseless(
                    "HasMoreStreams is true, and there is no NextToken",
                ));
            }
            let page = answer.stream_summaries;
            for stream in page.ok_or_else(|| senseless("the answer has no StreamSummaries"))? {
                let summary = summary(
                    stream.stream_name,
                    stream.stream_arn,
                    stream.stream_creation_timestamp,
                    &stream.stream_status,
                );
                let lacks = || senseless("a stream has no ARN or no StreamCreationTimestamp");
                streams.push(summary.ok_or_else(lacks)?);
            }
            token = answer.next_token;
            if token.is_none() {
                return Ok(streams);
            }
        }
        Err(senseless("the list of streams does not end"))
    }

    /// The stream of that name or ARN.
    ///
    /// # Errors
    /// There is none, or AWS does not say so.
    pub async fn describe(&self, stream: &str) -> Result<StreamSummary, Failure> {
        const OPERATION: &str = "DescribeStreamSummary";
        let Stream { name, arn, .. } = Stream::new(self.client.clone(), stream);
        let request = self.client.describe_stream_summary();
        let request = request.set_stream_name(name).set_stream_arn(arn);
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let described = answer.stream_description_summary.and_then(|stream| {
            summary(
                stream.stream_name,
                stream.stream_arn,
                Some(stream.stream_creation_timestamp),
                &stream.stream_status,
            )
        });
        let text = "the answer has no StreamARN or no StreamCreationTimestamp";
        described.ok_or_else(|| self.calls.senseless(OPERATION, text))
    }
}

fn summary(
    name: String,
    arn: String,
    created: Option<DateTime>,
    status: &StreamStatus,
) -> Option<StreamSummary> {
    let created = u64::try_from(created?.secs()).ok().filter(|it| *it > 0)?;
    let summary = StreamSummary {
        name,
        arn,
        created,
        is_active: matches!(status, StreamStatus::Active | StreamStatus::Updating),
    };
    let is_named = !summary.name.is_empty() && !summary.account().is_empty();
    is_named.then_some(summary)
}
