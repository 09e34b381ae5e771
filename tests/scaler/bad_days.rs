//! What KEDA is told on bad days: the scaler's binary, workers in processes of their own, and
//! between them and AWS a proxy that breaks what they call.

mod worker;

use std::{collections::HashMap, future::Future, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::{EmbeddedKinesis, FOREVER, Fault};
use keda_kinesis_scaler::proto::ScaledObjectRef;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// The table that workers write records into.
const ITEMS: &str = "items";

/// Leases are overdue after 90 s in which none moved.
const LONG: Duration = Duration::from_secs(180);

const CONFIG: &str = "
aws: {refresh: 500ms, maxStale: 10s}
policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]
";

/// Not a test: what the worker processes run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_process() {
    if std::env::var_os(worker::WORKER).is_some() {
        worker::run().await;
    }
}

struct World {
    kinesis: EmbeddedKinesis,
    aws: aws_sdk_kinesis::Client,
    dynamodb: DynamoDb,
    scaler: Process,
    client: Client,
    object: ScaledObjectRef,
}

impl World {
    async fn start(shards: i32) -> Self {
        Self::start_with(shards, embedded_kinesis::Config::default()).await
    }

    async fn start_with(shards: i32, config: embedded_kinesis::Config) -> Self {
        let kinesis = EmbeddedKinesis::start(config).await.unwrap();
        let aws = aws(&kinesis);
        create_stream(&aws, "orders", shards).await;
        let dynamodb = DynamoDb::start().await;
        let key = ("id", KeyType::Hash, ScalarAttributeType::S);
        dynamodb.create_table(ITEMS, &[key]).await;
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
            // Workers that get little of a busy machine are 2 s late by themselves.
            ("lagThreshold", "10s"),
            ("shardCount", "1"),
        ]));
        Self {
            client: scaler.client().await,
            kinesis,
            aws,
            dynamodb,
            scaler,
            object,
        }
    }

    fn worker(&self, name: &str, leases: usize) -> test_support::Process {
        let (kinesis, dynamodb) = (self.kinesis.endpoint(), self.dynamodb.endpoint());
        worker::start(name, &kinesis, &dynamodb, leases)
    }

    /// The lease table, with a lease that nobody holds.
    async fn put_lease(&self, checkpoint: &str) {
        let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
        self.dynamodb.create_table("billing", &[key]).await;
        let (text, number) = (AttributeValue::S, AttributeValue::N);
        let put = self.dynamodb.client.put_item().table_name("billing");
        let put = put
            .item("leaseKey", text("shardId-000000000000".to_owned()))
            .item("checkpoint", text(checkpoint.to_owned()))
            .item("checkpointSubSequenceNumber", number("0".to_owned()))
            .item("leaseCounter", number("17".to_owned()))
            .item("ownerSwitchesSinceCheckpoint", number("1".to_owned()));
        put.send().await.unwrap();
    }

    /// Until it is active.
    async fn woken(&mut self) {
        let woken = async {
            while !answered_activity(&mut self.client, &self.object).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        eventually("the record to wake it", woken).await;
    }

    /// A record into each shard.
    async fn put(&self) {
        let shards = self.aws.list_shards().stream_name("orders").send().await;
        for shard in shards.unwrap().shards() {
            let range = shard.hash_key_range().unwrap();
            let put = self.aws.put_record().stream_name("orders");
            let put = put.explicit_hash_key(range.starting_hash_key());
            let put = put.partition_key("key").data(Blob::new("data"));
            put.send().await.unwrap();
        }
    }

    /// Waits until workers hold so many leases.
    async fn held(&self, leases: usize) {
        let holds = |item: &HashMap<String, AttributeValue>| item.contains_key("leaseOwner");
        loop {
            let scan = self.dynamodb.client.scan().table_name("billing");
            let scan = scan.send().await;
            if scan.is_ok_and(|scan| scan.items().iter().filter(|it| holds(it)).count() == leases) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the scaler explains of the trigger.
    async fn explained(&self) -> Value {
        let path = "/explain/team-a/scaled-object?format=json";
        let (_, body) = http_get(self.scaler.admin, path).await;
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// The checkpoints, as the scaler saw them last.
    async fn checkpoints(&self) -> Vec<Value> {
        let json = self.explained().await;
        let shards = &json["triggers"][0]["source"]["application"]["shards"];
        let shards = shards.as_array().cloned().unwrap_or_default();
        let checkpoints = shards.iter().map(|it| it["lease"]["checkpoint"].clone());
        checkpoints.collect()
    }

    /// Until the scaler saw each checkpoint move so often.
    async fn move_checkpoints(&mut self, times: usize) {
        for _ in 0..times {
            let before = self.checkpoints().await;
            let moved = async {
                loop {
                    self.put().await;
                    self.told().await;
                    let now = self.checkpoints().await;
                    if now.len() == before.len() && now.iter().zip(&before).all(|(a, b)| a != b) {
                        return;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            };
            patiently("all checkpoints to move", moved).await;
        }
    }

    /// What KEDA is told: replicas, and why.
    async fn told(&mut self) -> (f64, String) {
        let value = value(&mut self.client, &self.object).await;
        let json = self.explained().await;
        let keda = &json["triggers"][0]["keda"];
        let why = [&keda["reason"], &keda["error"]];
        let why = why.into_iter().find_map(Value::as_str);
        (value.unwrap_or(-1.0), why.unwrap_or_default().to_owned())
    }

    /// Asks until so many replicas are told for this reason; a record goes into each shard before
    /// each question.
    async fn until(&mut self, wanted: f64, reason: &str) {
        let mut last = (0.0, String::new());
        let asked = async {
            while last.0 != wanted || !last.1.contains(reason) {
                self.put().await;
                last = self.told().await;
                sleep(Duration::from_millis(100)).await;
            }
        };
        if timeout(LONG, asked).await.is_err() {
            panic!("waited in vain for {wanted}, {reason:?}; the last was {last:?}");
        }
    }
}

async fn patiently<T>(what: &str, event: impl Future<Output = T>) -> T {
    let event = timeout(LONG, event).await;
    event.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// For a minute by default; the recorded one stood for a hundred.
#[tokio::test]
async fn pods_that_cannot_write_are_an_outage_and_stay() {
    let mut world = World::start(4).await;
    let workers = [world.worker("one", 2), world.worker("two", 2)];
    // A scaler that looks before that takes the one pod that it sees to be enough.
    patiently("leases of both", world.held(4)).await;
    world.until(2.0, "on time with 2 pods").await;
    // How often they checkpoint is known then.
    world.move_checkpoints(3).await;
    let faults = world.dynamodb.faults();
    faults.inject_on(ITEMS, "PutItem", Fault::internal_error(), FOREVER);
    world.until(2.0, "outage: ").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let (replicas, why) = world.told().await;
        assert!(replicas >= 2.0 && why.starts_with("outage: "), "{why}");
        sleep(Duration::from_millis(500)).await;
    }
    let scrape = scraped(world.scaler.admin, "an outage", |text| {
        let shards = "lease_table=\"billing\"} 4\n";
        text.contains("keda_kinesis_scaler_outage_shards{") && text.contains(shards)
    });
    scrape.await;
    world.dynamodb.faults().clear();
    let over = async {
        loop {
            let (replicas, why) = world.told().await;
            assert!(replicas >= 2.0, "{why}");
            if !why.starts_with("outage") {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    patiently("the end of the outage", over).await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn pods_that_take_no_more_leases_get_company() {
    let mut world = World::start(4).await;
    let one = world.worker("one", 2);
    world
        .until(2.0, "nobody takes 2 shards, and no pod holds more than 2")
        .await;
    let two = world.worker("two", 2);
    world.until(2.0, "with 2 pods").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_java_application_at_latest_is_woken_from_zero() {
    let mut world = World::start(1).await;
    world.put_lease("LATEST").await;
    let asleep = answered_activity(&mut world.client, &world.object).await;
    assert!(!asleep);
    let (_, why) = world.told().await;
    assert!(
        why.contains("1 at LATEST without a checkpoint: known since"),
        "{why}"
    );
    world.put().await;
    world.woken().await;
    assert_eq!(world.told().await.0, 1.0);
}

/// The scaler's clock is this machine's; AWS's stands, so that no age depends on how fast that is.
#[tokio::test]
async fn a_clock_that_is_not_awss_changes_no_answer() {
    for clock_ahead in [35, -35, 600, -600] {
        let config = embedded_kinesis::Config {
            clock_ahead,
            ..embedded_kinesis::Config::default()
        };
        let mut world = World::start_with(1, config).await;
        let keys = &mut world.object.scaler_metadata;
        keys.insert("activationLagThreshold".to_owned(), "30s".to_owned());
        world.kinesis.stop_clock();
        world.put_lease("TRIM_HORIZON").await;
        let unread = async |world: &mut World| {
            let (_, why) = world.told().await;
            !why.starts_with("nothing is unread") && why.contains("1 pod")
        };
        assert!(!answered_activity(&mut world.client, &world.object).await);
        world.put().await;
        let seen = async {
            while !unread(&mut world).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        eventually("the record to be seen", seen).await;
        let is_active = answered_activity(&mut world.client, &world.object).await;
        assert!(!is_active, "{clock_ahead} s: a new record is no old one");
        world.kinesis.advance(Duration::from_secs(31));
        world.woken().await;
    }
}
