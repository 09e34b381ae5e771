//! What AWS says of streams.

use serde::{Deserialize, Serialize};

use super::{ShardView, StreamModeDetails};
use crate::operations::{Input, about_stream};
use crate::protocol::{AwsError, Plain, Timestamp};
use crate::shard;
use crate::stream::{Mode, Status, Stream};
use crate::validate::Constraints;
use crate::world::{Caller, Target, World, settled};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DescribeStreamSummary {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}
about_stream!(DescribeStreamSummary);

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EnhancedMetrics {
    shard_level_metrics: [&'static str; 0],
}

/// What both ways to describe a stream have.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: StreamModeDetails,
    retention_period_hours: u64,
    stream_creation_timestamp: Timestamp,
    enhanced_monitoring: [EnhancedMetrics; 1],
    encryption_type: &'static str,
}

impl Described {
    fn of(stream: &Stream, now: u64) -> Self {
        Self {
            stream_name: stream.key.name.clone(),
            stream_arn: stream.key.arn(),
            stream_status: stream.status(now).name(),
            stream_mode_details: mode_details(stream.mode),
            retention_period_hours: stream.retention.div_ceil(3_600_000).max(1),
            stream_creation_timestamp: Timestamp(stream.created),
            enhanced_monitoring: [EnhancedMetrics {
                shard_level_metrics: [],
            }],
            encryption_type: "NONE",
        }
    }
}

fn mode_details(mode: Mode) -> StreamModeDetails {
    let name = match mode {
        Mode::Provisioned => "PROVISIONED",
        Mode::OnDemand => "ON_DEMAND",
    };
    StreamModeDetails {
        stream_mode: name.to_owned(),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SummaryOutput {
    stream_description_summary: Summary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    #[serde(flatten)]
    described: Described,
    open_shard_count: usize,
    consumer_count: usize,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: usize,
}

pub(crate) fn describe_stream_summary(
    world: &World,
    caller: &Caller,
    input: DescribeStreamSummary,
) -> Result<Plain<SummaryOutput>, AwsError> {
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let stream = settled(&stream, now);
    Ok(Plain(SummaryOutput {
        stream_description_summary: Summary {
            described: Described::of(&stream, now),
            open_shard_count: stream.open_count(now),
            consumer_count: stream.consumers.iter().count(),
            max_record_size_in_kib: stream.max_record_kib,
        },
    }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DescribeStream {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    limit: Option<i64>,
    exclusive_start_shard_id: Option<String>,
}
about_stream!(DescribeStream);

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DescribeOutput {
    stream_description: Description,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(flatten)]
    described: Described,
    shards: Vec<ShardView>,
    has_more_shards: bool,
}

pub(crate) fn describe_stream(
    world: &World,
    caller: &Caller,
    input: DescribeStream,
) -> Result<Plain<DescribeOutput>, AwsError> {
    let mut constraints = Constraints::default();
    let limit = input.limit.unwrap_or(100);
    constraints.range("limit", limit, 1, 10_000);
    if let Some(id) = &input.exclusive_start_shard_id {
        constraints.shard_id("exclusiveStartShardId", id);
    }
    constraints.finish()?;
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let stream = settled(&stream, now);
    let after = input
        .exclusive_start_shard_id
        .as_deref()
        .and_then(shard::number);
    let mut shards: Vec<ShardView> = match stream.status(now) {
        Status::Creating => Vec::new(),
        _ => stream
            .shards()
            .filter(|it| after.is_none_or(|after| it.number > after))
            .map(ShardView::from)
            .collect(),
    };
    let limit = usize::try_from(limit).unwrap_or_default();
    let has_more_shards = shards.len() > limit;
    shards.truncate(limit);
    Ok(Plain(DescribeOutput {
        stream_description: Description {
            described: Described::of(&stream, now),
            shards,
            has_more_shards,
        },
    }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListStreams {
    limit: Option<i64>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

impl Input for ListStreams {
    fn target(&self) -> Target<'_> {
        Target {
            name: None,
            arn: None,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListStreamsOutput {
    stream_names: Vec<String>,
    has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    stream_summaries: Vec<ListedStream>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedStream {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: StreamModeDetails,
    stream_creation_timestamp: Timestamp,
}

pub(crate) fn list_streams(
    world: &World,
    caller: &Caller,
    input: ListStreams,
) -> Result<Plain<ListStreamsOutput>, AwsError> {
    let mut constraints = Constraints::default();
    let limit = input.limit.unwrap_or(100);
    constraints.range("limit", limit, 1, 10_000);
    constraints.finish()?;
    let after: Option<String> = match input.next_token {
        Some(token) => Some(
            world
                .seal
                .open(&token)
                .ok_or_else(|| AwsError::invalid("NextToken is invalid."))?,
        ),
        None => input.exclusive_start_stream_name,
    };
    let now = world.clock.now();
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut summaries: Vec<ListedStream> = Vec::new();
    let mut has_more_streams = false;
    for stream in world.streams(&caller.account, &caller.region, now) {
        let stream = settled(&stream, now);
        if after
            .as_ref()
            .is_some_and(|after| stream.key.name <= *after)
        {
            continue;
        }
        if summaries.len() == limit {
            has_more_streams = true;
            break;
        }
        summaries.push(ListedStream {
            stream_name: stream.key.name.clone(),
            stream_arn: stream.key.arn(),
            stream_status: stream.status(now).name(),
            stream_mode_details: mode_details(stream.mode),
            stream_creation_timestamp: Timestamp(stream.created),
        });
    }
    let stream_names: Vec<String> = summaries.iter().map(|it| it.stream_name.clone()).collect();
    let next_token = stream_names
        .last()
        .filter(|_| has_more_streams)
        .map(|last| world.seal.seal(last));
    Ok(Plain(ListStreamsOutput {
        stream_names,
        has_more_streams,
        next_token,
        stream_summaries: summaries,
    }))
}
