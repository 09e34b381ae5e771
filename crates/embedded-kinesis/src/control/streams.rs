//! Making, deleting and changing streams.

use std::collections::HashMap;

use serde::Deserialize;

use super::StreamModeDetails;
use crate::operations::{Input, about_stream};
use crate::protocol::AwsError;
use crate::stream::{Mode, Stream};
use crate::validate::Constraints;
use crate::world::{Caller, Target, World, settled};

/// Open shards of a new ON_DEMAND stream.
const ON_DEMAND_SHARDS: usize = 4;
const DEFAULT_MAX_RECORD_KIB: i64 = 1024;
const HOUR: u64 = 3_600_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateStream {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
    tags: Option<HashMap<String, String>>,
}

impl Input for CreateStream {
    fn target(&self) -> Target<'_> {
        Target {
            name: self.stream_name.as_deref(),
            arn: None,
        }
    }
}

pub(crate) fn create_stream(
    world: &World,
    caller: &Caller,
    input: CreateStream,
) -> Result<(), AwsError> {
    let mode = input
        .stream_mode_details
        .as_ref()
        .map_or("PROVISIONED", |it| &it.stream_mode);
    let kib = input
        .max_record_size_in_kib
        .unwrap_or(DEFAULT_MAX_RECORD_KIB);
    let mut constraints = Constraints::default();
    constraints.required("streamName", input.stream_name.is_some());
    if let Some(name) = &input.stream_name {
        constraints.stream_name("streamName", name);
    }
    constraints.one_of(
        "streamModeDetails.streamMode",
        mode,
        &["PROVISIONED", "ON_DEMAND"],
    );
    if let Some(count) = input.shard_count {
        constraints.range("shardCount", count, 1, 100_000);
    }
    constraints.range("maxRecordSizeInKiB", kib, 1024, 10_240);
    constraints.finish()?;
    if input.tags.is_some_and(|tags| tags.len() > 200) {
        return Err(AwsError::invalid(
            "Failed to add tags: a stream takes at most 200.",
        ));
    }
    let (mode, shards) = match (mode, input.shard_count) {
        ("ON_DEMAND", None) => (Mode::OnDemand, ON_DEMAND_SHARDS),
        ("ON_DEMAND", Some(_)) => {
            return Err(AwsError::new(
                "ValidationException",
                "Requires no ShardCount when the stream mode is ON_DEMAND.",
            ));
        }
        (_, Some(count)) => (
            Mode::Provisioned,
            usize::try_from(count).unwrap_or(usize::MAX),
        ),
        (_, None) => {
            return Err(AwsError::new(
                "ValidationException",
                "Requires ShardCount when the stream mode is PROVISIONED.",
            ));
        }
    };
    let now = world.clock.now();
    let config = world.config();
    let key = world.key(
        caller,
        Target {
            name: input.stream_name.as_deref(),
            arn: None,
        },
    )?;
    // Before the shards are made: the count is a stranger's.
    within_limit(
        world.open_shards(&key, now),
        shards,
        config.shard_limit,
        caller,
    )?;
    let stream = Stream::new(
        key,
        mode,
        shards,
        usize::try_from(kib).unwrap_or_default(),
        &config,
        now,
    );
    world.add(stream, now, |open| {
        within_limit(open, shards, config.shard_limit, caller)
    })
}

/// Whether an account may have `more` open shards.
pub(crate) fn within_limit(
    open: usize,
    more: usize,
    limit: usize,
    caller: &Caller,
) -> Result<(), AwsError> {
    if open.saturating_add(more) <= limit {
        return Ok(());
    }
    let Caller {
        account, region, ..
    } = caller;
    Err(AwsError::limit(format!(
        "This request would exceed the shard limit for the account {account} in {region}. Current shard count for the account: {open}. \
         Limit: {limit}. Number of additional shards that would have resulted from this request: {more}."
    )))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteStream {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}
about_stream!(DeleteStream);

pub(crate) fn delete_stream(
    world: &World,
    caller: &Caller,
    input: DeleteStream,
) -> Result<(), AwsError> {
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&stream, now);
    stream.delete(&world.config(), now);
    let (key, second) = (stream.key.clone(), stream.latest_second());
    drop(stream);
    world.deleted(key, second);
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ChangeRetention {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    retention_period_hours: Option<i64>,
}
about_stream!(ChangeRetention);

pub(crate) fn increase_retention(
    world: &World,
    caller: &Caller,
    input: ChangeRetention,
) -> Result<(), AwsError> {
    change_retention(world, caller, &input, true)
}

pub(crate) fn decrease_retention(
    world: &World,
    caller: &Caller,
    input: ChangeRetention,
) -> Result<(), AwsError> {
    change_retention(world, caller, &input, false)
}

fn change_retention(
    world: &World,
    caller: &Caller,
    input: &ChangeRetention,
    up: bool,
) -> Result<(), AwsError> {
    let mut constraints = Constraints::default();
    constraints.required(
        "retentionPeriodHours",
        input.retention_period_hours.is_some(),
    );
    let hours = input.retention_period_hours.unwrap_or(24);
    constraints.range("retentionPeriodHours", hours, 24, 8760);
    constraints.finish()?;
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_active(now)?;
    let wanted = hours.unsigned_abs() * HOUR;
    if (up && wanted < stream.retention) || (!up && wanted > stream.retention) {
        let (has, than) = (
            stream.retention / HOUR,
            if up { "shorter" } else { "longer" },
        );
        return Err(AwsError::invalid(format!(
            "Requested retention period ({hours} hours) for stream {} can not be {than} than existing retention period ({has} hours).",
            stream.key.name
        )));
    }
    stream.retention = wanted;
    stream.update(Vec::new(), &world.config(), now);
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateMaxRecordSize {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
}

impl Input for UpdateMaxRecordSize {
    fn target(&self) -> Target<'_> {
        Target {
            name: None,
            arn: self.stream_arn.as_deref(),
        }
    }
}

pub(crate) fn update_max_record_size(
    world: &World,
    caller: &Caller,
    input: UpdateMaxRecordSize,
) -> Result<(), AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("maxRecordSizeInKiB", input.max_record_size_in_kib.is_some());
    let kib = input
        .max_record_size_in_kib
        .unwrap_or(DEFAULT_MAX_RECORD_KIB);
    constraints.range("maxRecordSizeInKiB", kib, 1024, 10_240);
    constraints.finish()?;
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_active(now)?;
    stream.max_record_kib = usize::try_from(kib).unwrap_or_default();
    stream.update(Vec::new(), &world.config(), now);
    Ok(())
}
