//! Pages of records: their size, the lag they tell, the end of a closed shard.

use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use embedded_kinesis::Fault;

use crate::support::*;

#[tokio::test]
async fn pages_and_lag() {
    let (server, client) = server().await;
    server.stop_clock();
    create(&client, "s", 1).await;
    put(&client, "a").await;
    server.advance(Duration::from_secs(60));
    put(&client, "b").await;
    let start = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    let page = client
        .get_records()
        .shard_iterator(start)
        .limit(1)
        .send()
        .await
        .unwrap();
    assert_eq!(texts(&page), ["a"]);
    assert_eq!(page.millis_behind_latest(), Some(60_000));
    let page = read(&client, page.next_shard_iterator().unwrap()).await;
    assert_eq!(
        (texts(&page), page.millis_behind_latest()),
        (vec!["b".to_owned()], Some(0))
    );
    let page = read(&client, page.next_shard_iterator().unwrap()).await;
    assert_eq!(
        (texts(&page).len(), page.millis_behind_latest()),
        (0, Some(0))
    );

    let wrong = client
        .get_records()
        .shard_iterator(page.next_shard_iterator().unwrap());
    assert_eq!(
        code(wrong.clone().limit(0).send().await),
        "ValidationException"
    );
    assert_eq!(
        code(wrong.limit(10_001).send().await),
        "ValidationException"
    );
    assert_eq!(
        code(client.get_records().shard_iterator("AAAA").send().await),
        "InvalidArgumentException"
    );
}

#[tokio::test]
async fn an_empty_page_is_not_the_tip() {
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    put(&client, "a").await;
    server.advance(Duration::from_secs(10));
    server.faults().inject("GetRecords", Fault::EmptyPage, 1);
    let page = read(
        &client,
        &iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await,
    )
    .await;
    assert!(page.records().is_empty());
    assert!(page.millis_behind_latest().unwrap() >= 10_000);
    assert_eq!(
        texts(&read(&client, page.next_shard_iterator().unwrap()).await),
        ["a"]
    );
}

#[tokio::test]
async fn a_reply_is_at_most_ten_mib() {
    const BIG: usize = 3 << 18;
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    for _ in 0..2 {
        assert_eq!(put_raw(&server, &[BIG; 10]).await, None);
    }
    let start = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    let body = format!(r#"{{"ShardIterator":"{start}"}}"#);
    let (_, _, page) = raw(
        &server,
        "GetRecords",
        "application/x-amz-json-1.1",
        body.as_bytes(),
    )
    .await;
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["Records"].as_array().unwrap().len(), (10 << 20) / BIG);
    assert!(page["MillisBehindLatest"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_end_of_a_closed_shard() {
    let (_server, client) = server().await;
    create(&client, "s", 1).await;
    put(&client, "a").await;
    put(&client, "b").await;
    let start = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    let latest = iterator(&client, SHARD, ShardIteratorType::Latest).await;
    resize(&client, "s", 2).await;
    put(&client, "c").await;

    let page = client
        .get_records()
        .shard_iterator(start)
        .limit(1)
        .send()
        .await
        .unwrap();
    assert!(page.child_shards().is_empty());
    let page = read(&client, page.next_shard_iterator().unwrap()).await;
    assert_eq!(texts(&page), ["b"]);
    assert_eq!(page.next_shard_iterator(), None);
    assert_eq!(page.millis_behind_latest(), Some(0));
    let children: Vec<(&str, &[String])> = page
        .child_shards()
        .iter()
        .map(|it| (it.shard_id(), it.parent_shards()))
        .collect();
    let parents = [SHARD.to_owned()];
    assert_eq!(
        children,
        [
            ("shardId-000000000001", parents.as_slice()),
            ("shardId-000000000002", parents.as_slice())
        ]
    );
    let page = read(&client, &latest).await;
    assert_eq!((texts(&page).len(), page.next_shard_iterator()), (0, None));

    resize(&client, "s", 1).await;
    let page = read(
        &client,
        &iterator(
            &client,
            "shardId-000000000002",
            ShardIteratorType::TrimHorizon,
        )
        .await,
    )
    .await;
    assert_eq!(page.next_shard_iterator(), None);
    assert_eq!(
        page.child_shards()[0].parent_shards(),
        ["shardId-000000000001", "shardId-000000000002"]
    );

    // The ending number of a closed shard is a place too: the one after all records.
    let listed = shards(&client, "s").await;
    let end = listed[0]
        .sequence_number_range()
        .unwrap()
        .ending_sequence_number()
        .unwrap();
    let page = read(
        &client,
        &at_sequence(&client, ShardIteratorType::AfterSequenceNumber, end).await,
    )
    .await;
    assert_eq!((texts(&page).len(), page.next_shard_iterator()), (0, None));
    let begin = listed[0]
        .sequence_number_range()
        .unwrap()
        .starting_sequence_number();
    let page = read(
        &client,
        &at_sequence(&client, ShardIteratorType::AtSequenceNumber, begin).await,
    )
    .await;
    assert_eq!(texts(&page), ["a", "b"]);
}
