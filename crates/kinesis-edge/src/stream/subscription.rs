//! A subscription to a shard: AWS pushes what comes, for five minutes.

use aws_sdk_kinesis::{
    config::StalledStreamProtectionConfig,
    operation::subscribe_to_shard::SubscribeToShardOutput,
    types::{
        ShardIteratorType, StartingPosition, SubscribeToShardEventStream,
        error::SubscribeToShardEventStreamError,
    },
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{
    ChildShard, Record, StartFrom, Stream,
    frames::{Turnstile, turnstile},
    line::Line,
    records::{to_child, to_date_time, to_record},
};
use crate::{Failure, Kind, KinesisClient, Service, failure::of_event};

const OPERATION: &str = "SubscribeToShard";

/// A subscription to one shard. It ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    answer: SubscribeToShardOutput,
    turnstile: Turnstile,
    line: Line,
    /// What came without waiting to be let on.
    ready: Option<SubscribeToShardEventStream>,
}

/// What AWS pushes, each few seconds at the least.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionEvent {
    /// Records in order, as they came (aggregates whole); often none.
    pub records: Vec<Record>,
    /// After which number the next subscription goes on; `None`: the closed shard's end.
    pub continuation: Option<String>,
    /// How far behind the tip the event's end is, in milliseconds.
    pub millis_behind_latest: i64,
    /// The children, at a closed shard's end.
    pub children: Vec<ChildShard>,
}

impl Stream {
    /// The same, whose subscriptions may be silent: the SDK would end one that brings few bytes a
    /// second. Who subscribes has to notice a connection that is dead.
    #[must_use]
    pub fn patient(mut self) -> Self {
        let config = self.client.config().to_builder();
        let config = config.stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        self.client = KinesisClient::from_conf(config.build());
        self
    }

    /// Subscribes a consumer to a shard. Time-outs of the client end with the beginning of AWS's
    /// answer, and whoever calls has to end what does not go on. Where no answer begins, the
    /// connection is [condemned](Subscription::condemn).
    ///
    /// # Errors
    /// AWS refuses it; [`Kind::InUse`](crate::Kind::InUse) for five seconds after another one.
    pub async fn subscribe(
        &self,
        consumer: &str,
        shard: &str,
        from: &StartFrom<impl AsRef<str> + Sync>,
    ) -> Result<Subscription, Failure> {
        let (turnstile, stop_at_frames) = turnstile();
        let line = Line::default();
        let unanswered = line.unanswered();
        let request = self
            .client
            .subscribe_to_shard()
            .consumer_arn(consumer)
            .shard_id(shard)
            .starting_position(position(from))
            .customize()
            .interceptor(stop_at_frames)
            .interceptor(line.clone());
        let answer = self.calls.call(OPERATION, request.send()).await;
        if !matches!(&answer, Err(failure) if failure.kind == Kind::Timeout) {
            unanswered.answered();
        }
        Ok(Subscription {
            answer: answer?,
            turnstile,
            line,
            ready: None,
        })
    }
}

impl Subscription {
    /// No other call goes by its connection any more. With HTTP/2 they share one, and a dead one
    /// would keep all of them until TCP notices, which takes a quarter of an hour.
    pub fn condemn(&self) {
        self.line.condemn();
    }

    /// Waits for an event to begin: the bytes that it has on the wire, which are not read yet.
    /// `None`: the subscription is over, as it is after five minutes.
    ///
    /// # Errors
    /// The connection broke, or AWS ended the subscription with an error.
    pub async fn arriving(&mut self) -> Result<Option<u64>, Failure> {
        if self.ready.is_some() {
            return Ok(Some(0));
        }
        tokio::select! {
            biased;
            Some(bytes) = self.turnstile.begun.recv() => Ok(Some(bytes)),
            event = self.answer.event_stream.recv() => {
                self.ready = event.map_err(failure)?;
                Ok(self.ready.as_ref().map(|_| 0))
            }
        }
    }

    /// Reads the event that has [begun](Self::arriving). `None`: it is of a kind that is not known
    /// here.
    ///
    /// # Errors
    /// As of [`arriving`](Self::arriving).
    pub async fn event(&mut self) -> Result<Option<SubscriptionEvent>, Failure> {
        let event = match self.ready.take() {
            Some(event) => event,
            None => {
                // Who ended the body says so below.
                let _ = self.turnstile.on.send(());
                let event = self.answer.event_stream.recv().await.map_err(failure)?;
                event.ok_or_else(|| senseless("an event broke off"))?
            }
        };
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
            return Ok(None);
        };
        let children = event.child_shards.unwrap_or_default().into_iter();
        let children = children.map(to_child).collect::<Option<_>>();
        let children = children.ok_or_else(|| senseless("a child shard has no HashKeyRange"))?;
        Ok(Some(SubscriptionEvent {
            records: event.records.into_iter().map(to_record).collect(),
            // The SDK makes an empty one of none.
            continuation: Some(event.continuation_sequence_number).filter(|it| !it.is_empty()),
            millis_behind_latest: event.millis_behind_latest,
            children,
        }))
    }
}

fn position(from: &StartFrom<impl AsRef<str>>) -> StartingPosition {
    use ShardIteratorType as Kind;
    let position = StartingPosition::builder();
    let position = match from {
        StartFrom::TrimHorizon => position.r#type(Kind::TrimHorizon),
        StartFrom::Latest => position.r#type(Kind::Latest),
        StartFrom::AtTimestamp(time) => {
            let position = position.r#type(Kind::AtTimestamp);
            position.timestamp(to_date_time(*time))
        }
        StartFrom::AtSequenceNumber(number) => {
            let position = position.r#type(Kind::AtSequenceNumber);
            position.sequence_number(number.as_ref())
        }
        StartFrom::AfterSequenceNumber(number) => {
            let position = position.r#type(Kind::AfterSequenceNumber);
            position.sequence_number(number.as_ref())
        }
    };
    position.build().expect("the type is set")
}

fn senseless(message: &str) -> Failure {
    Failure::senseless(Service::Kinesis, OPERATION, message)
}

fn failure<R>(
    error: aws_smithy_runtime_api::client::result::SdkError<SubscribeToShardEventStreamError, R>,
) -> Failure
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(code).map(str::to_owned);
    of_event((Service::Kinesis, OPERATION), code.as_deref(), error)
}

/// AWS's code: an exception's kind is in the frame's headers, and its body may not repeat it.
fn code(error: &SubscribeToShardEventStreamError) -> Option<&str> {
    use SubscribeToShardEventStreamError as Error;
    Some(match error {
        Error::ResourceNotFoundException(_) => "ResourceNotFoundException",
        Error::ResourceInUseException(_) => "ResourceInUseException",
        Error::KmsDisabledException(_) => "KMSDisabledException",
        Error::KmsInvalidStateException(_) => "KMSInvalidStateException",
        Error::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
        Error::KmsNotFoundException(_) => "KMSNotFoundException",
        Error::KmsOptInRequired(_) => "KMSOptInRequired",
        Error::KmsThrottlingException(_) => "KMSThrottlingException",
        Error::InternalFailureException(_) => "InternalFailureException",
        other => other.code()?,
    })
}
