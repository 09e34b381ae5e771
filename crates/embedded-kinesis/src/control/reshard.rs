//! SplitShard, MergeShards, UpdateShardCount.

use serde::{Deserialize, Serialize};

use super::streams::within_limit;
use crate::hash::HashRange;
use crate::operations::{Input as _, about_stream};
use crate::protocol::{AwsError, Plain};
use crate::reshard::{self, Step};
use crate::stream::{Key, Mode, Stream};
use crate::validate::Constraints;
use crate::world::{Caller, World, settled};

const DAY: u64 = 24 * 3_600_000;
/// UpdateShardCount calls of a stream in 24 h.
const UPDATES_A_DAY: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SplitShard {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_split: Option<String>,
    new_starting_hash_key: Option<String>,
}
about_stream!(SplitShard);

pub(crate) fn split_shard(
    world: &World,
    caller: &Caller,
    input: SplitShard,
) -> Result<(), AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("shardToSplit", input.shard_to_split.is_some());
    constraints.required("newStartingHashKey", input.new_starting_hash_key.is_some());
    if let Some(id) = &input.shard_to_split {
        constraints.shard_id("shardToSplit", id);
    }
    if let Some(key) = &input.new_starting_hash_key {
        constraints.number("newStartingHashKey", key, 39);
    }
    constraints.finish()?;
    let id = input.shard_to_split.as_deref().unwrap_or_default();
    let text = input.new_starting_hash_key.as_deref().unwrap_or_default();
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let key = settled(&stream, now).key.clone();
    let open = world.open_shards(&key, now);
    let mut stream = settled(&stream, now);
    stream.must_be_active(now)?;
    must_be_provisioned(&stream)?;
    let range = open_range(&mut stream, id)?;
    let at = text.parse::<u128>().ok().filter(|at| {
        range.start.checked_add(1).is_some_and(|least| least < *at) && *at < range.end
    });
    let Some(at) = at else {
        let Key { account, name, .. } = &stream.key;
        return Err(AwsError::invalid(format!(
            "NewStartingHashKey {text} used in SplitShard() on shard {id} in stream {name} under account {account} is not both greater than one \
             plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
            range.start, range.end
        )));
    };
    let config = world.config();
    within_limit(open, 1, config.shard_limit, caller)?;
    stream.update(vec![Step::Split { range, at }], &config, now);
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MergeShards {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
}
about_stream!(MergeShards);

pub(crate) fn merge_shards(
    world: &World,
    caller: &Caller,
    input: MergeShards,
) -> Result<(), AwsError> {
    let mut constraints = Constraints::default();
    for (field, id) in [
        ("shardToMerge", &input.shard_to_merge),
        ("adjacentShardToMerge", &input.adjacent_shard_to_merge),
    ] {
        constraints.required(field, id.is_some());
        if let Some(id) = id {
            constraints.shard_id(field, id);
        }
    }
    constraints.finish()?;
    let first = input.shard_to_merge.as_deref().unwrap_or_default();
    let second = input.adjacent_shard_to_merge.as_deref().unwrap_or_default();
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_active(now)?;
    must_be_provisioned(&stream)?;
    let shard = open_range(&mut stream, first)?;
    let adjacent = open_range(&mut stream, second)?;
    if !shard.touches(adjacent) && !adjacent.touches(shard) {
        let Key { account, name, .. } = &stream.key;
        return Err(AwsError::invalid(format!(
            "Shards {first} and {second} in stream {name} under account {account} are not an adjacent pair of shards eligible for merging"
        )));
    }
    stream.update(vec![Step::Merge { shard, adjacent }], &world.config(), now);
    Ok(())
}

/// The range of a shard that may be split or merged.
fn open_range(stream: &mut Stream, id: &str) -> Result<HashRange, AwsError> {
    let Key { account, name, .. } = stream.key.clone();
    let shard = stream.shard_by_id(id).map_err(|_| {
        AwsError::not_found(format!(
            "Could not find shard {id} in stream {name} under account {account}."
        ))
    })?;
    if shard.closed.is_some() {
        return Err(AwsError::invalid(format!(
            "Shard {id} in stream {name} under account {account} has already been merged or split, and thus is not eligible for merging or splitting."
        )));
    }
    Ok(shard.range)
}

fn must_be_provisioned(stream: &Stream) -> Result<(), AwsError> {
    match stream.mode {
        Mode::Provisioned => Ok(()),
        Mode::OnDemand => Err(AwsError::new(
            "ValidationException",
            format!(
                "Request is invalid. Stream {} under account {} is in On-Demand mode.",
                stream.key.name, stream.key.account
            ),
        )),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateShardCount {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    target_shard_count: Option<i64>,
    scaling_type: Option<String>,
}
about_stream!(UpdateShardCount);

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateShardCountOutput {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    current_shard_count: usize,
    target_shard_count: usize,
}

pub(crate) fn update_shard_count(
    world: &World,
    caller: &Caller,
    input: UpdateShardCount,
) -> Result<Plain<UpdateShardCountOutput>, AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("targetShardCount", input.target_shard_count.is_some());
    constraints.required("scalingType", input.scaling_type.is_some());
    let target = input.target_shard_count.unwrap_or(1);
    constraints.range("targetShardCount", target, 1, 100_000);
    if let Some(scaling) = &input.scaling_type {
        constraints.one_of("scalingType", scaling, &["UNIFORM_SCALING"]);
    }
    constraints.finish()?;
    let target = usize::try_from(target).unwrap_or_default();
    let now = world.clock.now();
    let config = world.config();
    let stream = world.stream(caller, input.target(), now)?;
    let key = settled(&stream, now).key.clone();
    let all_open = world.open_shards(&key, now);
    let mut stream = settled(&stream, now);
    stream.must_be_active(now)?;
    must_be_provisioned(&stream)?;
    let current = stream.open_count(now);
    let counts = format!("Current open shard count: {current} Target shard count: {target}");
    if target > current * 2 {
        return Err(AwsError::limit(format!(
            "UpdateShardCount cannot scale up over double your current open shard count. {counts}"
        )));
    }
    if target < current.div_ceil(2) {
        return Err(AwsError::limit(format!(
            "UpdateShardCount cannot scale down below half your current open shard count. {counts}"
        )));
    }
    within_limit(
        all_open,
        target.saturating_sub(current),
        config.shard_limit,
        caller,
    )?;
    while stream.updates.front().is_some_and(|at| at + DAY <= now) {
        stream.updates.pop_front();
    }
    if config.api_limits && stream.updates.len() >= UPDATES_A_DAY {
        return Err(AwsError::limit(format!(
            "Request violates the limit of {UPDATES_A_DAY} UpdateShardCount calls in a rolling 24-hour period for stream {} under account {}.",
            key.name, key.account
        )));
    }
    if stream.updates.len() == UPDATES_A_DAY {
        stream.updates.pop_front();
    }
    stream.updates.push_back(now);
    let steps = reshard::plan(&stream.open_ranges(), target);
    stream.update(steps, &config, now);
    Ok(Plain(UpdateShardCountOutput {
        stream_arn: key.arn(),
        stream_name: key.name,
        current_shard_count: current,
        target_shard_count: target,
    }))
}
