//! One application on a stream of 5,000 shards, with 10,000 leases in its table: what a refresh
//! costs.
//!
//! `cargo bench --bench scaler -- application`. The scaler runs as a process of its own; Kinesis
//! and DynamoDB are embedded in this one.

use std::{collections::HashMap, time::Duration};

use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::{Config, EmbeddedKinesis};
use keda_kinesis_scaler::proto::{ScaledObjectRef, external_scaler_client::ExternalScalerClient};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::process::Scaler;

const SHARDS: i32 = 5_000;
const LEASES: usize = 10_000;
/// As many of the shards have an unread record.
const UNREAD: usize = 500;
const REFRESH: Duration = Duration::from_secs(15);
const REFRESHES: u32 = 4;

pub(crate) async fn run() {
    let binary = super::binary();
    let kinesis = EmbeddedKinesis::start(Config {
        shard_limit: 10_000,
        ..Config::default()
    });
    let kinesis = kinesis.await.unwrap();
    fill(&kinesis).await;
    let dynamodb = lease_table().await;

    println!(
        "{SHARDS} shards, {LEASES} leases, a refresh of {} s; {binary}\n",
        REFRESH.as_secs()
    );
    for scale_on in ["readableShards", "lag"] {
        let scaler = Scaler::start(&binary, REFRESH).await;
        let mut client = ExternalScalerClient::new(scaler.channel.clone());
        sleep(Duration::from_secs(1)).await;
        let at_rest = scaler.rss_mib();
        let object = object(&kinesis, &dynamodb, "billing", scale_on);
        let begin = Instant::now();
        while client.is_active(object.clone()).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        let first_answer = begin.elapsed();
        sleep(REFRESH / 2).await;
        kinesis.clear_calls();
        let cpu = scaler.cpu_seconds();
        sleep(REFRESH * REFRESHES).await;
        let cpu = (scaler.cpu_seconds() - cpu) / f64::from(REFRESHES);
        let calls = |operation: &str| kinesis.count(operation) as f64 / f64::from(REFRESHES);
        println!("{scale_on}");
        println!(
            "  first answer after                {:>9.2} s",
            first_answer.as_secs_f64()
        );
        println!(
            "  ListShards a refresh              {:>9.1}",
            calls("ListShards")
        );
        println!(
            "  GetShardIterator a refresh        {:>9.1}",
            calls("GetShardIterator")
        );
        println!(
            "  GetRecords a refresh              {:>9.1}",
            calls("GetRecords")
        );
        println!(
            "  CPU a refresh                     {cpu:>9.2} s, {:.1} % of a core",
            cpu / REFRESH.as_secs_f64() * 100.0
        );
        println!(
            "  RSS at rest / with the application {at_rest:>8.1} / {:.1} MiB",
            scaler.rss_mib()
        );
    }
}

async fn fill(kinesis: &EmbeddedKinesis) {
    let aws = test_support::aws::kinesis(&kinesis.endpoint());
    let create = aws.create_stream().stream_name("large").shard_count(SHARDS);
    create.send().await.unwrap();
    for record in 0..UNREAD {
        let put = aws
            .put_record()
            .stream_name("large")
            .partition_key(record.to_string());
        put.data(Blob::new("x")).send().await.unwrap();
    }
}

/// Half of the leases are of shards that the stream has forgotten.
async fn lease_table() -> String {
    let database = dynoxide::Database::memory().unwrap();
    let shards = (0..LEASES).map(|lease| match lease < SHARDS as usize {
        true => lease,
        false => lease + 1_000_000,
    });
    create_lease_table(&database, "billing", shards);
    serve(database).await
}

/// A table with a lease for each of these shards.
pub(super) fn create_lease_table(
    database: &dynoxide::Database,
    name: &str,
    shards: impl Iterator<Item = usize>,
) {
    let create = json!({
        "TableName": name,
        "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    let create = serde_json::from_value(create).unwrap();
    database.create_table(create).unwrap();
    for (lease, shard) in shards.enumerate() {
        let item = json!({"TableName": name, "Item": {
            "leaseKey": {"S": format!("shardId-{shard:012}")},
            "leaseOwner": {"S": format!("pod-{}", lease % 50)},
            "leaseCounter": {"N": "7"},
            "checkpoint": {"S": "TRIM_HORIZON"},
            "checkpointSubSequenceNumber": {"N": "0"},
            "ownerSwitchesSinceCheckpoint": {"N": "0"},
            "startingHashKey": {"S": "0"},
            "endingHashKey": {"S": "340282366920938463463374607431768211455"},
        }});
        database
            .put_item(serde_json::from_value(item).unwrap())
            .unwrap();
    }
}

/// Its endpoint.
pub(super) async fn serve(database: dynoxide::Database) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    endpoint
}

pub(super) fn object(
    kinesis: &EmbeddedKinesis,
    dynamodb: &str,
    application: &str,
    scale_on: &str,
) -> ScaledObjectRef {
    let metadata = [
        ("streamName", "large".to_owned()),
        ("awsRegion", "us-east-1".to_owned()),
        ("awsEndpoint", kinesis.endpoint()),
        ("leaseTableEndpoint", dynamodb.to_owned()),
        ("applicationName", application.to_owned()),
        ("scaleOn", scale_on.to_owned()),
    ];
    ScaledObjectRef {
        name: application.to_owned(),
        namespace: "bench".to_owned(),
        scaler_metadata: metadata
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    }
}
