//! The list of a stream's shards: whole, or an error.

use std::ops::RangeInclusive;

use aws_sdk_kinesis::types::{self, ShardFilterType};
use jiff::Timestamp;

use super::{
    Stream,
    records::{to_date_time, to_range},
    senseless,
};
use crate::{Failure, Kind};

const OPERATION: &str = "ListShards";

/// More pages (of 1,000) than any stream has: an endpoint that never stops would keep us forever.
const MOST_PAGES: usize = 100;

/// A list is begun anew so often because its token expired (after 300 s).
const LISTINGS: usize = 3;

/// Which shards a list has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShardFilter {
    /// All within the retention period.
    All,
    /// Open at the trim horizon.
    AtTrimHorizon,
    /// Open now.
    AtLatest,
    /// Open at that time.
    AtTimestamp(Timestamp),
}

/// A shard of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shard {
    /// Its id, such as `shardId-000000000002`.
    pub id: String,
    /// Parent and adjacent parent: none, one (split) or two (merge).
    pub parents: Vec<String>,
    /// The hash keys that it takes.
    pub hash_range: RangeInclusive<u128>,
    /// The first sequence number that it can hold.
    pub starting_sequence_number: String,
    /// Is it closed, by a split, a merge or the end of the stream?
    pub closed: bool,
}

impl Stream {
    /// The shards, all pages.
    ///
    /// # Errors
    /// Whenever the list is not known to be whole.
    pub async fn shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, Failure> {
        let (kind, time) = match filter {
            ShardFilter::All => (ShardFilterType::FromTrimHorizon, None),
            ShardFilter::AtTrimHorizon => (ShardFilterType::AtTrimHorizon, None),
            ShardFilter::AtLatest => (ShardFilterType::AtLatest, None),
            ShardFilter::AtTimestamp(time) => (ShardFilterType::AtTimestamp, Some(time)),
        };
        let filter = types::ShardFilter::builder()
            .r#type(kind)
            .set_timestamp(time.map(to_date_time))
            .build()
            .expect("the type is set");
        for _ in 1..LISTINGS {
            match self.list(&filter).await {
                Err(failure) if failure.kind == Kind::ExpiredToken => {}
                answer => return answer,
            }
        }
        self.list(&filter).await
    }

    /// Asks for one shard, to learn whether the stream is there and may be listed.
    ///
    /// # Errors
    /// AWS says no, or nothing.
    pub async fn try_list(&self) -> Result<(), Failure> {
        let request = self.client.list_shards().max_results(1);
        let request = request
            .set_stream_name(self.name.clone())
            .set_stream_arn(self.arn.clone());
        self.call(OPERATION, request.send()).await.map(drop)
    }

    async fn list(&self, filter: &types::ShardFilter) -> Result<Vec<Shard>, Failure> {
        let mut shards = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let request = self.client.list_shards();
            let request = match token.take() {
                // A token stands for the stream and the filter: Kinesis refuses them beside it.
                Some(token) => request.next_token(token),
                None => request
                    .set_stream_name(self.name.clone())
                    .set_stream_arn(self.arn.clone())
                    .shard_filter(filter.clone()),
            };
            let answer = self.call(OPERATION, request.send()).await?;
            let Some(page) = answer.shards else {
                return Err(senseless(OPERATION, "the answer has no Shards"));
            };
            for shard in page {
                shards.push(to_shard(shard)?);
            }
            token = answer.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
        Err(senseless(OPERATION, "the list of shards does not end"))
    }
}

fn to_shard(shard: types::Shard) -> Result<Shard, Failure> {
    let without = |what: &str| {
        let message = format!("shard {} without {what}", shard.shard_id);
        senseless(OPERATION, &message)
    };
    let range = shard.hash_key_range.as_ref().and_then(to_range);
    let hash_range = range.ok_or_else(|| without("a HashKeyRange of 128-bit numbers"))?;
    let numbers = shard.sequence_number_range.as_ref();
    let numbers = numbers.ok_or_else(|| without("SequenceNumberRange"))?;
    Ok(Shard {
        hash_range,
        starting_sequence_number: numbers.starting_sequence_number.clone(),
        closed: numbers.ending_sequence_number.is_some(),
        id: shard.shard_id,
        parents: [shard.parent_shard_id, shard.adjacent_parent_shard_id]
            .into_iter()
            .flatten()
            .collect(),
    })
}
