//! All shards of a stream, with their lineage.

use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType};
use kinesis_consumer::{kinesis::sdk::to_shard, shard::Shard};

use super::{MOST_PAGES, call};
use crate::{error::SourceError, source::aws::Client, trigger::Stream};

/// A list is begun anew so often because its token expired (after 300 s).
const LISTINGS: usize = 3;

pub(super) async fn shards(client: &Client, stream: &Stream) -> Result<Vec<Shard>, SourceError> {
    for _ in 1..LISTINGS {
        match list(client, stream).await {
            Err(error) if error.code == "ExpiredNextTokenException" => {}
            answer => return answer,
        }
    }
    list(client, stream).await
}

async fn list(client: &Client, stream: &Stream) -> Result<Vec<Shard>, SourceError> {
    let call = call(client, "ListShards", stream);
    let within_retention = ShardFilter::builder()
        .r#type(ShardFilterType::FromTrimHorizon)
        .build()
        .expect("the type is set");
    let kinesis = client.kinesis().await;
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let request = kinesis.list_shards().max_results(10_000);
        let request = match (token.take(), stream) {
            // A token stands for the stream and the filter: Kinesis refuses them beside it.
            (Some(token), _) => request.next_token(token),
            (None, Stream::Name(name)) => request
                .stream_name(name)
                .shard_filter(within_retention.clone()),
            (None, Stream::Arn(arn)) => request
                .stream_arn(arn)
                .shard_filter(within_retention.clone()),
        };
        let answer = client.attempt(call, request.send()).await;
        let answer = answer.map_err(|failed| failed.error)?;
        let Some(page) = answer.shards else {
            return Err(call.senseless("the answer has no Shards"));
        };
        for shard in page {
            let shard = to_shard(shard).map_err(|error| call.senseless(&error.to_string()))?;
            shards.push(shard);
        }
        token = answer.next_token;
        if token.is_none() {
            return Ok(shards);
        }
    }
    Err(call.senseless("the list of shards does not end"))
}
