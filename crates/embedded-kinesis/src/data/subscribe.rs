//! SubscribeToShard.

use std::sync::Arc;

use serde::Deserialize;

use super::iterator::{Start, TYPES};
use crate::limits;
use crate::operations::Input;
use crate::protocol::{AwsError, Timestamp, Wire};
use crate::subscription::{Reader, Subscription};
use crate::validate::{Constraints, consumer_arn_parts};
use crate::world::{Caller, Target, World, settled};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SubscribeToShard {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    starting_position: Option<StartingPosition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    r#type: Option<String>,
    sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
}

impl Input for SubscribeToShard {
    fn target(&self) -> Target<'_> {
        let arn = self.consumer_arn.as_deref().and_then(consumer_arn_parts);
        Target {
            name: None,
            arn: arn.map(|(stream, ..)| stream),
        }
    }
}

pub(crate) fn subscribe_to_shard(
    world: &Arc<World>,
    caller: &Caller,
    input: &SubscribeToShard,
    wire: Wire,
) -> Result<Subscription, AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("consumerARN", input.consumer_arn.is_some());
    constraints.required("shardId", input.shard_id.is_some());
    constraints.required("startingPosition", input.starting_position.is_some());
    if let Some(arn) = &input.consumer_arn {
        constraints.consumer_arn("consumerARN", arn);
    }
    if let Some(id) = &input.shard_id {
        constraints.shard_id("shardId", id);
    }
    if let Some(position) = &input.starting_position {
        constraints.required("startingPosition.type", position.r#type.is_some());
        if let Some(kind) = &position.r#type {
            constraints.one_of("startingPosition.type", kind, &TYPES);
        }
        if let Some(number) = &position.sequence_number {
            constraints.number("startingPosition.sequenceNumber", number, 129);
        }
    }
    constraints.finish()?;
    let (Some(arn), Some(id), Some(position)) = (
        &input.consumer_arn,
        &input.shard_id,
        &input.starting_position,
    ) else {
        return Err(AwsError::internal("a required field was let through"));
    };
    let (_, name, second) =
        consumer_arn_parts(arn).ok_or_else(|| AwsError::invalid("Invalid ConsumerARN."))?;
    let now = world.clock.now();
    let config = world.config();
    let shared = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&shared, now);
    stream.must_be_usable(now)?;
    let (key, horizon) = (stream.key.clone(), stream.horizon(now));
    // Its absence is told before the shard's.
    stream.consumers.find(&key, name, Some(second))?;
    let shard = stream.shard_by_id(id)?;
    shard.trim(horizon);
    let start = Start {
        kind: position.r#type.as_deref().unwrap_or_default(),
        sequence: position.sequence_number.as_deref(),
        timestamp: position.timestamp,
        operation: "SubscribeToShard",
    };
    let next = start.position(shard, &key, now)?;
    let (number, changed) = (shard.number, Arc::clone(&shard.changed));
    let consumer = stream.consumers.find(&key, name, Some(second))?;
    let id = consumer.subscribe(&key, number, &config, now)?;
    drop(stream);
    // Whoever held the shard until now ends.
    changed.notify_waiters();
    let reader = Reader {
        stream: shared,
        changed,
        consumer: (name.to_owned(), second),
        id,
        shard: number,
        next,
        since: now,
        said: now,
        bytes: limits::fan_out(now),
    };
    Ok(Subscription::new(Arc::clone(world), reader, wire))
}
