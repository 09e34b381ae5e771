//! ListShards: every filter, both kinds of pages.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType};

use crate::support::*;

async fn filtered(
    client: &Client,
    filter: aws_sdk_kinesis::types::builders::ShardFilterBuilder,
) -> Vec<u32> {
    let answer = client
        .list_shards()
        .stream_name("s")
        .shard_filter(filter.build().unwrap())
        .send()
        .await
        .unwrap();
    numbers(answer.shards())
}

#[tokio::test]
async fn every_filter() {
    let hour = Duration::from_secs(3600);
    let (server, client) = server().await;
    create(&client, "s", 2).await;
    let answer = client
        .describe_stream_summary()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    let created = *answer
        .stream_description_summary()
        .unwrap()
        .stream_creation_timestamp();
    let at = |hours: f64| DateTime::from_secs_f64(created.as_secs_f64() + hours * 3600.0);
    server.advance(hour);
    resize(&client, "s", 4).await; // 2 3 4 5, an hour later
    server.advance(hour);
    let (a, b) = ("shardId-000000000002", "shardId-000000000003");
    client
        .merge_shards()
        .stream_name("s")
        .shard_to_merge(a)
        .adjacent_shard_to_merge(b)
        .send()
        .await
        .unwrap(); // 6, two hours later
    let filter = |kind| ShardFilter::builder().r#type(kind);

    assert_eq!(numbers(&shards(&client, "s").await), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(
        filtered(&client, filter(ShardFilterType::AtLatest)).await,
        [4, 5, 6]
    );
    assert_eq!(
        filtered(&client, filter(ShardFilterType::AtTrimHorizon)).await,
        [0, 1]
    );
    assert_eq!(
        filtered(&client, filter(ShardFilterType::FromTrimHorizon)).await,
        [0, 1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        filtered(&client, filter(ShardFilterType::AfterShardId).shard_id(b)).await,
        [4, 5, 6]
    );
    assert_eq!(
        filtered(
            &client,
            filter(ShardFilterType::AtTimestamp).timestamp(at(0.5))
        )
        .await,
        [0, 1]
    );
    assert_eq!(
        filtered(
            &client,
            filter(ShardFilterType::AtTimestamp).timestamp(at(1.5))
        )
        .await,
        [2, 3, 4, 5]
    );
    assert_eq!(
        filtered(
            &client,
            filter(ShardFilterType::FromTimestamp).timestamp(at(1.5))
        )
        .await,
        [2, 3, 4, 5, 6]
    );
    assert_eq!(
        filtered(
            &client,
            filter(ShardFilterType::FromTimestamp).timestamp(at(-5.0))
        )
        .await,
        [0, 1, 2, 3, 4, 5, 6]
    );
    for incomplete in [ShardFilterType::AfterShardId, ShardFilterType::AtTimestamp] {
        let call = client
            .list_shards()
            .stream_name("s")
            .shard_filter(filter(incomplete).build().unwrap());
        assert_eq!(code(call.send().await), "InvalidArgumentException");
    }

    // A day after the first were closed.
    server.advance(23 * hour + hour / 2);
    assert_eq!(numbers(&shards(&client, "s").await), [2, 3, 4, 5, 6]);
    assert_eq!(
        filtered(&client, filter(ShardFilterType::AtTrimHorizon)).await,
        [2, 3, 4, 5]
    );
    server.advance(hour);
    assert_eq!(numbers(&shards(&client, "s").await), [4, 5, 6]);
}

#[tokio::test]
async fn both_kinds_of_pages() {
    let (server, client) = server().await;
    create(&client, "s", 5).await;
    let first = client
        .list_shards()
        .stream_arn(server.stream_arn("s"))
        .max_results(2)
        .send()
        .await
        .unwrap();
    assert_eq!(numbers(first.shards()), [0, 1]);
    let token = first.next_token().unwrap();
    let second = client
        .list_shards()
        .next_token(token)
        .max_results(2)
        .send()
        .await
        .unwrap();
    assert_eq!(numbers(second.shards()), [2, 3]);
    let third = client
        .list_shards()
        .next_token(second.next_token().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(numbers(third.shards()), [4]);
    assert_eq!(third.next_token(), None);
    let exact = client
        .list_shards()
        .stream_name("s")
        .max_results(5)
        .send()
        .await
        .unwrap();
    assert_eq!(exact.next_token(), None, "nothing is left");

    let after = client
        .list_shards()
        .stream_name("s")
        .exclusive_start_shard_id("shardId-000000000002");
    assert_eq!(numbers(after.send().await.unwrap().shards()), [3, 4]);

    let (code_, message) = refusal(
        client
            .list_shards()
            .stream_name("s")
            .next_token(token)
            .send()
            .await,
    );
    assert_eq!(
        (code_.as_str(), message.as_str()),
        (
            "InvalidArgumentException",
            "NextToken and StreamName cannot be provided together."
        )
    );
    assert_eq!(
        code(client.list_shards().next_token("AAAA").send().await),
        "InvalidArgumentException"
    );
    server.advance(Duration::from_secs(301));
    assert_eq!(
        code(client.list_shards().next_token(token).send().await),
        "ExpiredNextTokenException"
    );
}

/// The page after a token keeps to the filter of the first.
#[tokio::test]
async fn pages_of_a_filter() {
    let (_server, client) = server().await;
    create(&client, "s", 2).await;
    resize(&client, "s", 4).await;
    let filter = ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build()
        .unwrap();
    let first = client
        .list_shards()
        .stream_name("s")
        .max_results(3)
        .shard_filter(filter)
        .send()
        .await
        .unwrap();
    assert_eq!(numbers(first.shards()), [2, 3, 4]);
    let second = client
        .list_shards()
        .next_token(first.next_token().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(numbers(second.shards()), [5]);
}
