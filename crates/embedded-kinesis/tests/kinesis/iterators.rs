//! Where iterators start, what they are refused for, and when they end.

use std::time::Duration;

use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::ShardIteratorType;

use crate::support::*;

#[tokio::test]
async fn every_iterator_type() {
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    let first = put(&client, "a").await;
    let second = put(&client, "b").await;
    assert_eq!(first.len(), 56);
    assert!(first < second);
    server.advance(Duration::from_secs(10));
    put(&client, "c").await;

    let from_start = read(
        &client,
        &iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await,
    )
    .await;
    assert_eq!(texts(&from_start), ["a", "b", "c"]);
    assert_eq!(from_start.millis_behind_latest(), Some(0));
    let record = &from_start.records()[0];
    assert_eq!(
        (record.sequence_number(), record.partition_key()),
        (first.as_str(), Some("k"))
    );

    let latest = iterator(&client, SHARD, ShardIteratorType::Latest).await;
    assert!(texts(&read(&client, &latest).await).is_empty());
    put(&client, "d").await;
    assert_eq!(texts(&read(&client, &latest).await), ["d"]);

    let at = at_sequence(&client, ShardIteratorType::AtSequenceNumber, &second).await;
    assert_eq!(texts(&read(&client, &at).await), ["b", "c", "d"]);
    let after = at_sequence(&client, ShardIteratorType::AfterSequenceNumber, &second).await;
    assert_eq!(texts(&read(&client, &after).await), ["c", "d"]);

    let arrived = from_start.records()[2]
        .approximate_arrival_timestamp()
        .unwrap()
        .to_owned();
    let at_time = |at: DateTime| {
        let call = client
            .get_shard_iterator()
            .stream_arn(server.stream_arn("s"))
            .shard_id(SHARD);
        call.shard_iterator_type(ShardIteratorType::AtTimestamp)
            .timestamp(at)
            .send()
    };
    let at = at_time(arrived).await.unwrap();
    assert_eq!(
        texts(&read(&client, at.shard_iterator().unwrap()).await),
        ["c", "d"]
    );
    server.advance(Duration::from_secs(100));
    let later = DateTime::from_secs_f64(arrived.as_secs_f64() + 50.0);
    let later = at_time(later).await.unwrap();
    let answer = read(&client, later.shard_iterator().unwrap()).await;
    assert!(texts(&answer).is_empty(), "nothing old");
    put(&client, "e").await;
    assert_eq!(
        texts(&read(&client, answer.next_shard_iterator().unwrap()).await),
        ["e"]
    );
    let future = at_time(DateTime::from_secs_f64(arrived.as_secs_f64() + 5000.0)).await;
    assert_eq!(code(future), "InvalidArgumentException");
}

#[tokio::test]
async fn foreign_sequence_numbers_are_refused() {
    let (server, client) = server().await;
    create(&client, "s", 2).await;
    let key_of_second = u128::MAX.to_string();
    let put = client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .explicit_hash_key(key_of_second);
    let of_second = put.data(Blob::new("x")).send().await.unwrap();
    assert_eq!(of_second.shard_id(), "shardId-000000000001");
    let ask = |sequence: &str| {
        let call = client.get_shard_iterator().stream_name("s").shard_id(SHARD);
        call.shard_iterator_type(ShardIteratorType::AtSequenceNumber)
            .starting_sequence_number(sequence)
            .send()
    };
    let (code_, message) = refusal(ask(of_second.sequence_number()).await);
    assert_eq!(code_, "InvalidArgumentException");
    assert_eq!(
        message,
        "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with shardId-000000000000"
    );
    let (code_, message) =
        refusal(ask("49680483476475808707584783019624565094204474651800764418").await);
    assert_eq!(code_, "InvalidArgumentException");
    assert!(
        message.ends_with("is invalid because it did not come from this stream."),
        "{message}"
    );
    assert_eq!(code(ask("17").await), "InvalidArgumentException");
    assert_eq!(code(ask("x").await), "ValidationException");
    let unknown = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id("shardId-000000000007");
    let (code_, message) = refusal(
        unknown
            .shard_iterator_type(ShardIteratorType::Latest)
            .send()
            .await,
    );
    assert_eq!(code_, "ResourceNotFoundException");
    assert_eq!(
        message,
        "Shard shardId-000000000007 in stream s under account 111122223333 does not exist"
    );

    // A stream made again under the same name knows neither the numbers nor the iterators of the
    // old one.
    let old = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    let sequence = {
        let put = client
            .put_record()
            .stream_name("s")
            .partition_key("k")
            .explicit_hash_key("0");
        put.data(Blob::new("x"))
            .send()
            .await
            .unwrap()
            .sequence_number()
            .to_owned()
    };
    client
        .delete_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    server.advance(Duration::from_secs(5));
    create(&client, "s", 2).await;
    assert_eq!(code(ask(&sequence).await), "InvalidArgumentException");
    assert_eq!(
        code(client.get_records().shard_iterator(old).send().await),
        "InvalidArgumentException"
    );
}

#[tokio::test]
async fn iterators_expire_and_records_age_out() {
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    let old = put(&client, "a").await;
    let start = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    server.advance(Duration::from_secs(301));
    assert_eq!(
        code(client.get_records().shard_iterator(&start).send().await),
        "ExpiredIteratorException"
    );

    server.advance(Duration::from_secs(24 * 3600));
    put(&client, "b").await;
    let page = read(
        &client,
        &iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await,
    )
    .await;
    assert_eq!(texts(&page), ["b"]);
    let page = read(
        &client,
        &at_sequence(&client, ShardIteratorType::AfterSequenceNumber, &old).await,
    )
    .await;
    assert_eq!(texts(&page), ["b"]);

    let last = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    resize(&client, "s", 2).await;
    server.configure(|config| config.iterator_ttl = Duration::from_secs(48 * 3600));
    server.advance(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(numbers(&shards(&client, "s").await), [1, 2]);
    let (code, message) = refusal(client.get_records().shard_iterator(last).send().await);
    assert_eq!(code, "ResourceNotFoundException");
    assert_eq!(
        message,
        "Shard shardId-000000000000 in stream s under account 111122223333 does not exist"
    );
}
