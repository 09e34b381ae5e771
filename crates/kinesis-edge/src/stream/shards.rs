//! The list of a stream's shards: whole, or an error.

use std::ops::RangeInclusive;

use aws_sdk_kinesis::types::{self, ShardFilterType};
use jiff::Timestamp;

use super::{
    Stream,
    records::{to_date_time, to_range},
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
        self.calls.call(OPERATION, request.send()).await.map(drop)
    }

    async fn list(&self, filter: &types::ShardFilter) -> Result<Vec<Shard>, Failure> {
        let senseless = |message: &str| self.calls.senseless(OPERATION, message);
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
            let answer = self.calls.call(OPERATION, request.send()).await?;
            let page = answer.shards;
            for shard in page.ok_or_else(|| senseless("the answer has no Shards"))? {
                let id = shard.shard_id.clone();
                let lacks = || senseless(&format!("shard {id} has no ranges of numbers"));
                shards.push(to_shard(shard).ok_or_else(lacks)?);
            }
            token = answer.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
        Err(senseless(&format!(
            "the list of shards does not end: {MOST_PAGES} pages, of 1,000 shards at AWS, are the most that is read"
        )))
    }
}

fn to_shard(shard: types::Shard) -> Option<Shard> {
    let numbers = shard.sequence_number_range?;
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
    Some(Shard {
        id: shard.shard_id,
        parents: parents.into_iter().flatten().collect(),
        hash_range: to_range(shard.hash_key_range.as_ref())?,
        starting_sequence_number: numbers.starting_sequence_number,
        closed: numbers.ending_sequence_number.is_some(),
    })
}
