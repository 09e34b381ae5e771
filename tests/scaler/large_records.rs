//! The memory that probes take where each shard's next record is as large as a record may be.

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::EmbeddedKinesis;
use serde_json::Value;

use crate::support::*;

const SHARDS: i32 = 8;

/// The chart's limit, in MiB.
const LIMIT: f64 = 256.0;

const CONFIG: &str = "
aws: {refresh: 500ms, timeout: 60s, maxStale: 1h}
policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]
";

#[tokio::test]
async fn the_largest_records_of_many_shards_fit_into_the_charts_limit() {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    let aws = aws(&kinesis);
    let create = aws.create_stream().stream_name("orders");
    let create = create.shard_count(SHARDS).max_record_size_in_kib(10_240);
    create.send().await.unwrap();
    let dynamodb = DynamoDb::start().await;
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    dynamodb.create_table("billing", &[key]).await;
    let shards = aws.list_shards().stream_name("orders").send().await;
    for shard in shards.unwrap().shards() {
        let range = shard.hash_key_range().unwrap();
        let put = aws.put_record().stream_name("orders").partition_key("key");
        let put = put.explicit_hash_key(range.starting_hash_key());
        put.data(Blob::new(vec![7; 9_900_000]))
            .send()
            .await
            .unwrap();
        let lease = dynamodb.client.put_item().table_name("billing");
        let lease = lease.item("leaseKey", AttributeValue::S(shard.shard_id().to_owned()));
        let lease = lease.item("leaseCounter", AttributeValue::N("1".to_owned()));
        let at = AttributeValue::S("TRIM_HORIZON".to_owned());
        lease.item("checkpoint", at).send().await.unwrap();
    }
    let env = [
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "AKIDSCALER"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let scaler = Process::start(CONFIG, &env).await;
    let object = object(metadata(&[
        ("streamName", "orders"),
        ("awsEndpoint", &kinesis.endpoint()),
        ("leaseTableEndpoint", &dynamodb.endpoint()),
        ("scaleOn", "lag"),
        ("applicationName", "billing"),
        ("shardCount", "1"),
    ]));
    let mut client = scaler.client().await;
    let path = "/explain/team-a/scaled-object?format=json";
    let all_unread = async {
        loop {
            let _ = value(&mut client, &object).await;
            let (_, body) = http_get(scaler.admin, path).await;
            let json: Value = serde_json::from_str(&body).unwrap_or_default();
            if json.pointer("/triggers/0/source/application/unread") == Some(&SHARDS.into()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    eventually("a verdict on each shard", all_unread).await;
    let most = scaler.most_rss_mib();
    assert!(most < LIMIT, "{most} MiB");
    println!("{SHARDS} records of 9.9 MB: {most:.0} MiB at the most");
}
