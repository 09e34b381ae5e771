//! What puts are refused for, and the rates of a shard.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use embedded_kinesis::{Config, FOREVER, Fault};

use crate::support::*;

#[tokio::test]
async fn puts_are_checked() {
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    let one = |entry| client.put_records().stream_name("s").records(entry).send();
    assert_eq!(
        code(
            client
                .put_records()
                .stream_name("s")
                .set_records(Some(Vec::new()))
                .send()
                .await
        ),
        "ValidationException"
    );
    let many = (0..501).map(|_| entry("k", 1)).collect();
    assert_eq!(
        code(
            client
                .put_records()
                .stream_name("s")
                .set_records(Some(many))
                .send()
                .await
        ),
        "ValidationException"
    );
    assert_eq!(code(one(entry("", 1)).await), "ValidationException");
    assert_eq!(
        code(one(entry(&"k".repeat(257), 1)).await),
        "ValidationException"
    );
    one(entry(&"ü".repeat(256), 1)).await.unwrap();
    one(entry("quote\"back\\slash\n", 0)).await.unwrap();
    assert_eq!(
        put_raw(&server, &[(1 << 20) + 2]).await.as_deref(),
        Some("ValidationException")
    );
    assert_eq!(put_raw(&server, &[(1 << 20) - 1]).await, None);
    client
        .update_max_record_size()
        .stream_arn(server.stream_arn("s"))
        .max_record_size_in_kib(10_240)
        .send()
        .await
        .unwrap();
    assert_eq!(put_raw(&server, &[(10 << 20) - 1]).await, None);
    assert_eq!(
        put_raw(&server, &[6 << 20, 5 << 20]).await.as_deref(),
        Some("InvalidArgumentException")
    );
    let hash = |key: &str| {
        let call = client
            .put_record()
            .stream_name("s")
            .partition_key("k")
            .data(Blob::new("x"));
        call.explicit_hash_key(key).send()
    };
    assert_eq!(code(hash("01").await), "ValidationException");
    assert_eq!(
        code(hash("340282366920938463463374607431768211456").await),
        "InvalidArgumentException"
    );
    hash("340282366920938463463374607431768211455")
        .await
        .unwrap();
    assert_eq!(
        code(
            client
                .put_record()
                .stream_name("t")
                .partition_key("k")
                .data(Blob::new("x"))
                .send()
                .await
        ),
        "ResourceNotFoundException"
    );

    let page = read(
        &client,
        &iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await,
    )
    .await;
    assert_eq!(
        page.records()[1].partition_key(),
        Some("quote\"back\\slash\n")
    );
    assert_eq!(
        page.records()[0].partition_key(),
        Some("ü".repeat(256).as_str())
    );
}

#[tokio::test]
async fn a_shard_takes_a_thousand_records_a_second() {
    let (server, client) = server_with(Config {
        write_limits: true,
        ..Config::default()
    })
    .await;
    server.stop_clock();
    create(&client, "s", 1).await;
    let mut failed = 0;
    for _ in 0..3 {
        let call = client.put_records().stream_name("s");
        let answer = (0..500)
            .fold(call, |call, _| call.records(entry("k", 1)))
            .send()
            .await
            .unwrap();
        let refused: Vec<_> = answer
            .records()
            .iter()
            .filter(|it| it.error_code().is_some())
            .collect();
        assert_eq!(
            answer.failed_record_count(),
            Some(i32::try_from(refused.len()).unwrap())
        );
        for record in &refused {
            assert_eq!(
                record.error_code(),
                Some("ProvisionedThroughputExceededException")
            );
            assert_eq!(
                record.error_message(),
                Some(
                    "Rate exceeded for shard shardId-000000000000 in stream s under account 111122223333."
                )
            );
            assert_eq!(record.sequence_number(), None);
        }
        failed += refused.len();
    }
    assert_eq!(failed, 500);
    server.advance(Duration::from_secs(1));
    put(&client, "x").await;
    let page = read(
        &client,
        &iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await,
    )
    .await;
    assert_eq!(page.records().len(), 1501 - failed);
}

#[tokio::test]
async fn a_shard_gives_five_replies_a_second() {
    let (server, client) = server_with(Config {
        read_limits: true,
        ..Config::default()
    })
    .await;
    server.stop_clock();
    create(&client, "s", 1).await;
    let start = iterator(&client, SHARD, ShardIteratorType::TrimHorizon).await;
    let calls = (0..10).map(|_| client.get_records().shard_iterator(&start).send());
    let answers = futures::future::join_all(calls).await;
    let refused = answers.iter().filter(|it| it.is_err()).count();
    assert_eq!(refused, 5);
    let error = answers
        .into_iter()
        .find_map(Result::err)
        .unwrap()
        .into_service_error();
    assert!(error.is_provisioned_throughput_exceeded_exception());
    server.advance(Duration::from_secs(1));
    read(&client, &start).await;

    assert_eq!(put_raw(&server, &[999_999; 8]).await, None);
    server.advance(Duration::from_secs(1));
    let body = format!(r#"{{"ShardIterator":"{start}"}}"#);
    let (status, _, _) = raw(
        &server,
        "GetRecords",
        "application/x-amz-json-1.1",
        body.as_bytes(),
    )
    .await;
    assert_eq!(status, 200);
    server.advance(Duration::from_secs(2));
    assert_eq!(
        code(client.get_records().shard_iterator(&start).send().await),
        "ProvisionedThroughputExceededException"
    );
    server.advance(Duration::from_secs(3));
    read(&client, &start).await;
    server
        .faults()
        .inject("GetRecords", Fault::throughput_exceeded(), FOREVER);
    assert_eq!(
        code(client.get_records().shard_iterator(&start).send().await),
        "ProvisionedThroughputExceededException"
    );
}
