//! ListShards: six filters, two kinds of pagination.
//!
//! Every filter but AFTER_SHARD_ID asks which shards were open within a span of time.

use serde::{Deserialize, Serialize};

use super::ShardView;
use crate::clock::millis;
use crate::operations::{Input as _, about_stream};
use crate::protocol::{AwsError, Plain, Timestamp};
use crate::shard::{self, Shard};
use crate::stream::{Key, Status, Stream};
use crate::token::ShardsToken;
use crate::validate::Constraints;
use crate::world::{Caller, World, settled};

/// Shards of a page unless the caller asks for fewer; more are not given.
const PAGE: usize = 1000;
const FILTERS: [&str; 6] = [
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListShards {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<Timestamp>,
    shard_filter: Option<ShardFilter>,
}
about_stream!(ListShards);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter {
    r#type: Option<String>,
    shard_id: Option<String>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListShardsOutput {
    shards: Vec<ShardView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// What to list: shards after one, open at some time of a span.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    after: Option<u32>,
    open_within: (u64, u64),
}

impl Wanted {
    fn takes(self, shard: &Shard) -> bool {
        let (from, to) = self.open_within;
        self.after.is_none_or(|after| shard.number > after)
            && shard.opened <= to
            && shard.closed.is_none_or(|closed| closed > from)
    }
}

pub(crate) fn list_shards(
    world: &World,
    caller: &Caller,
    input: ListShards,
) -> Result<Plain<ListShardsOutput>, AwsError> {
    let max = checked(&input)?;
    let now = world.clock.now();
    let token = input
        .next_token
        .as_deref()
        .map(|token| go_on(world, caller, token, now))
        .transpose()?;
    let stream = match &token {
        Some(ShardsToken {
            account,
            region,
            stream,
            ..
        }) => world.stream_of(
            &Key {
                account: account.clone(),
                region: region.clone(),
                name: stream.clone(),
            },
            now,
        )?,
        None => world.stream(caller, input.target(), now)?,
    };
    let stream = settled(&stream, now);
    let Key {
        account,
        region,
        name,
    } = &stream.key;
    if !matches!(stream.status(now), Status::Active | Status::Updating) {
        let state = stream.status(now).name();
        return Err(AwsError::in_use(format!(
            "Stream {name} under account {account} not ACTIVE or UPDATING, instead in state {state}"
        )));
    }
    let other = token.as_ref().is_some_and(|it| it.stream_id != stream.id)
        || input
            .stream_creation_timestamp
            .is_some_and(|at| at.0 / 1000 != stream.created / 1000);
    if other {
        return Err(crate::stream::not_found(&stream.key));
    }
    let wanted = match &token {
        Some(token) => Wanted {
            after: Some(token.after),
            open_within: token.open_within,
        },
        None => wanted(&stream, &input, now)?,
    };
    let mut matching = stream.shards().filter(|it| wanted.takes(it));
    let page: Vec<&Shard> = matching.by_ref().take(max).collect();
    let next_token = page
        .last()
        .filter(|_| matching.next().is_some())
        .map(|last| {
            world.seal.seal(&ShardsToken {
                account: account.clone(),
                region: region.clone(),
                stream: name.clone(),
                stream_id: stream.id,
                after: last.number,
                open_within: wanted.open_within,
                issued: now,
            })
        });
    Ok(Plain(ListShardsOutput {
        shards: page.into_iter().map(ShardView::from).collect(),
        next_token,
    }))
}

/// The size of a page, once the request holds together.
fn checked(input: &ListShards) -> Result<usize, AwsError> {
    let mut constraints = Constraints::default();
    if let Some(max) = input.max_results {
        constraints.range("maxResults", max, 1, 10_000);
    }
    if let Some(id) = &input.exclusive_start_shard_id {
        constraints.shard_id("exclusiveStartShardId", id);
    }
    if let Some(filter) = &input.shard_filter {
        constraints.required("shardFilter.type", filter.r#type.is_some());
        if let Some(name) = &filter.r#type {
            constraints.one_of("shardFilter.type", name, &FILTERS);
        }
        if let Some(id) = &filter.shard_id {
            constraints.shard_id("shardFilter.shardId", id);
        }
    }
    constraints.finish()?;
    let beside_token = [
        ("StreamName", input.stream_name.is_some()),
        ("StreamARN", input.stream_arn.is_some()),
        (
            "ExclusiveStartShardId",
            input.exclusive_start_shard_id.is_some(),
        ),
        (
            "StreamCreationTimestamp",
            input.stream_creation_timestamp.is_some(),
        ),
    ];
    if input.next_token.is_some()
        && let Some((field, _)) = beside_token.iter().find(|(_, given)| *given)
    {
        return Err(AwsError::invalid(format!(
            "NextToken and {field} cannot be provided together."
        )));
    }
    Ok(input
        .max_results
        .and_then(|max| usize::try_from(max).ok())
        .unwrap_or(PAGE)
        .min(PAGE))
}

fn go_on(world: &World, caller: &Caller, token: &str, now: u64) -> Result<ShardsToken, AwsError> {
    let token: ShardsToken = world
        .seal
        .open(token)
        .ok_or_else(|| AwsError::invalid("NextToken is invalid."))?;
    if token.account != caller.account || token.region != caller.region {
        return Err(AwsError::invalid("NextToken is invalid."));
    }
    if now.saturating_sub(token.issued) > millis(world.config().next_token_ttl) {
        return Err(AwsError::new(
            "ExpiredNextTokenException",
            "NextToken has expired. List again from the start.",
        ));
    }
    Ok(token)
}

fn wanted(stream: &Stream, input: &ListShards, now: u64) -> Result<Wanted, AwsError> {
    let horizon = stream.horizon(now);
    let mut wanted = Wanted {
        after: input
            .exclusive_start_shard_id
            .as_deref()
            .and_then(shard::number),
        open_within: (0, u64::MAX),
    };
    let Some(filter) = &input.shard_filter else {
        return Ok(wanted);
    };
    let at = || {
        let at = filter.timestamp.ok_or_else(|| {
            AwsError::invalid("Timestamp must be given with a ShardFilter of this type.")
        })?;
        Ok::<_, AwsError>(at.0.max(horizon))
    };
    wanted.open_within = match filter.r#type.as_deref().unwrap_or_default() {
        "AT_LATEST" => (u64::MAX, u64::MAX),
        "AT_TRIM_HORIZON" => (horizon, horizon),
        "AT_TIMESTAMP" => at().map(|at| (at, at))?,
        "FROM_TIMESTAMP" => (at()?, u64::MAX),
        "AFTER_SHARD_ID" => {
            let id = filter.shard_id.as_deref().ok_or_else(|| {
                AwsError::invalid(
                    "ShardId must be given with a ShardFilter of type AFTER_SHARD_ID.",
                )
            })?;
            wanted.after = wanted.after.max(shard::number(id));
            wanted.open_within
        }
        // FROM_TRIM_HORIZON: whatever is still there.
        _ => wanted.open_within,
    };
    Ok(wanted)
}
