//! Consumers for enhanced fan-out.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::consumers::Consumer;
use crate::operations::Input;
use crate::protocol::{AwsError, Plain, Timestamp};
use crate::stream::{Key, Stream};
use crate::validate::{Constraints, consumer_arn_parts};
use crate::world::{Caller, Target, World, settled};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RegisterStreamConsumer {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
}

impl Input for RegisterStreamConsumer {
    fn target(&self) -> Target<'_> {
        Target {
            name: None,
            arn: self.stream_arn.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumerView {
    consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    consumer_status: &'static str,
    consumer_creation_timestamp: Timestamp,
}

impl ConsumerView {
    fn of(consumer: &Consumer, stream: &Key, now: u64) -> Self {
        Self {
            consumer_name: consumer.name.clone(),
            consumer_arn: consumer.arn(stream),
            consumer_status: consumer.status(now).name(),
            consumer_creation_timestamp: Timestamp(consumer.created),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RegisterOutput {
    consumer: ConsumerView,
}

pub(crate) fn register_stream_consumer(
    world: &World,
    caller: &Caller,
    input: RegisterStreamConsumer,
) -> Result<Plain<RegisterOutput>, AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("streamARN", input.stream_arn.is_some());
    constraints.required("consumerName", input.consumer_name.is_some());
    let name = input.consumer_name.as_deref().unwrap_or_default();
    if input.consumer_name.is_some() {
        constraints.consumer_name("consumerName", name);
    }
    constraints.finish()?;
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_active(now)?;
    let Stream { key, consumers, .. } = &mut *stream;
    let consumer = consumers.register(key, name, &world.config(), now)?;
    Ok(Plain(RegisterOutput {
        consumer: ConsumerView::of(consumer, key, now),
    }))
}

/// A consumer: by its ARN, or by its name and the stream's ARN.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WhichConsumer {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
}

/// What tells a consumer from the others of its stream.
#[derive(Debug, Clone, Copy)]
struct ConsumerKey<'a> {
    name: &'a str,
    /// In which it was registered, where an ARN says so.
    second: Option<u64>,
}

impl WhichConsumer {
    fn by_arn(&self) -> Option<(&str, &str, u64)> {
        consumer_arn_parts(self.consumer_arn.as_deref()?)
    }

    /// The stream, and the consumer's key there.
    fn find(
        &self,
        world: &World,
        caller: &Caller,
        now: u64,
    ) -> Result<(Arc<Mutex<Stream>>, ConsumerKey<'_>), AwsError> {
        let mut constraints = Constraints::default();
        if let Some(name) = &self.consumer_name {
            constraints.consumer_name("consumerName", name);
        }
        if let Some(arn) = &self.consumer_arn {
            constraints.consumer_arn("consumerARN", arn);
        }
        constraints.finish()?;
        let by_arn = self.by_arn();
        let said = (self.stream_arn.as_deref(), self.consumer_name.as_deref());
        let (name, second) = match (by_arn, said) {
            (None, (Some(_), Some(name))) => (name, None),
            (Some((_, name, second)), (None, None)) => (name, Some(second)),
            (Some((of, name, second)), (stream, named))
                if stream.is_none_or(|it| it == of) && named.is_none_or(|it| it == name) =>
            {
                (name, Some(second))
            }
            (Some(_), _) => {
                return Err(AwsError::invalid(
                    "ConsumerARN, StreamARN and ConsumerName do not name the same consumer.",
                ));
            }
            (None, _) => {
                return Err(AwsError::invalid(
                    "Either ConsumerARN or both StreamARN and ConsumerName must be provided.",
                ));
            }
        };
        let stream = world.stream(caller, self.target(), now)?;
        Ok((stream, ConsumerKey { name, second }))
    }
}

impl Input for WhichConsumer {
    fn target(&self) -> Target<'_> {
        let of_consumer = self.by_arn().map(|(stream, ..)| stream);
        Target {
            name: None,
            arn: of_consumer.or(self.stream_arn.as_deref()),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DescribeConsumerOutput {
    consumer_description: ConsumerDescription,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumerDescription {
    #[serde(flatten)]
    consumer: ConsumerView,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
}

pub(crate) fn describe_stream_consumer(
    world: &World,
    caller: &Caller,
    input: WhichConsumer,
) -> Result<Plain<DescribeConsumerOutput>, AwsError> {
    let now = world.clock.now();
    let (stream, ConsumerKey { name, second }) = input.find(world, caller, now)?;
    let mut stream = settled(&stream, now);
    let Stream { key, consumers, .. } = &mut *stream;
    let consumer = consumers.find(key, name, second)?;
    Ok(Plain(DescribeConsumerOutput {
        consumer_description: ConsumerDescription {
            consumer: ConsumerView::of(consumer, key, now),
            stream_arn: key.arn(),
        },
    }))
}

/// Subscriptions end with their consumer.
pub(crate) fn deregister_stream_consumer(
    world: &World,
    caller: &Caller,
    input: WhichConsumer,
) -> Result<(), AwsError> {
    let now = world.clock.now();
    let (stream, ConsumerKey { name, second }) = input.find(world, caller, now)?;
    let mut stream = settled(&stream, now);
    let Stream { key, consumers, .. } = &mut *stream;
    consumers
        .find(key, name, second)?
        .delete(&world.config(), now);
    consumers.settle(now);
    stream.wake();
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListStreamConsumers {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<Timestamp>,
}

impl Input for ListStreamConsumers {
    fn target(&self) -> Target<'_> {
        Target {
            name: None,
            arn: self.stream_arn.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListConsumersOutput {
    consumers: Vec<ConsumerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(crate) fn list_stream_consumers(
    world: &World,
    caller: &Caller,
    input: ListStreamConsumers,
) -> Result<Plain<ListConsumersOutput>, AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("streamARN", input.stream_arn.is_some());
    let max = input.max_results.unwrap_or(100);
    constraints.range("maxResults", max, 1, 10_000);
    constraints.finish()?;
    let after: Option<String> = match &input.next_token {
        Some(token) => Some(
            world
                .seal
                .open(token)
                .ok_or_else(|| AwsError::invalid("NextToken is invalid."))?,
        ),
        None => None,
    };
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let stream = settled(&stream, now);
    let other = input
        .stream_creation_timestamp
        .is_some_and(|at| at.0 / 1000 != stream.created / 1000);
    if other {
        return Err(crate::stream::not_found(&stream.key));
    }
    let mut matching = stream
        .consumers
        .iter()
        .filter(|it| after.as_ref().is_none_or(|after| it.name > *after));
    let max = usize::try_from(max).unwrap_or_default();
    let page: Vec<&Consumer> = matching.by_ref().take(max).collect();
    let last = page.last().filter(|_| matching.next().is_some());
    let next_token = last.map(|last| world.seal.seal(&last.name));
    let page = page.into_iter();
    Ok(Plain(ListConsumersOutput {
        consumers: page
            .map(|it| ConsumerView::of(it, &stream.key, now))
            .collect(),
        next_token,
    }))
}
