//! Lease tables of others, and rows that nobody can read.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::primitives::Blob;
use rstest::rstest;
use serde_json::Value;

use crate::support::{APPLICATION, Item, STREAM, TABLE, World, text, until};

/// All of the lease table, by key, without what renewals move.
async fn leases(world: &World) -> Vec<(String, String)> {
    let mut items = world.items(APPLICATION).await;
    for item in &mut items {
        let moved = ["leaseCounter", "nativeCounter", "nativeClock", "busy"];
        item.retain(|name, _| !moved.contains(&name.as_str()));
    }
    let mut leases: Vec<_> = items
        .iter()
        .map(|item| {
            let mut rest: Vec<_> = item.iter().collect();
            rest.sort_by_key(|(name, _)| (*name).clone());
            (text(item, "leaseKey"), format!("{rest:?}"))
        })
        .collect();
    leases.sort();
    leases
}

async fn put(world: &World, item: &[(&str, AttributeValue)]) {
    let item: Item = (item.iter().cloned())
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let put = world.dynamodb.client.put_item().table_name(APPLICATION);
    put.set_item(Some(item)).send().await.unwrap();
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(digits: &str) -> AttributeValue {
    AttributeValue::N(digits.to_owned())
}

/// The application's name was copied with the deployment; the stream is another one.
#[tokio::test]
async fn a_copied_deployment_of_another_stream_stops_and_harms_nobody() {
    let world = World::tutorial(2).await;
    let create = world.kinesis.create_stream().stream_name("orders-copy");
    create.shard_count(2).send().await.unwrap();
    let first = world.consumer("pod-1").start();
    world.put("before", r#"{"v":1}"#).await;
    world.user_when("before", |_| true).await;
    first
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    // A checkpoint comes with the next renewal.
    let before = until("the checkpoint", async || {
        let leases = leases(&world).await;
        let is_read = |(_, lease): &(_, String)| !lease.contains("TRIM_HORIZON");
        leases.iter().any(is_read).then_some(leases)
    })
    .await;
    let copy = world.consumer("pod-2").with("STREAM_NAME", "orders-copy");
    let (code, log) = copy.run().await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains("is of another stream than orders-copy"),
        "{log}"
    );
    assert!(log.contains(&format!("is of {STREAM}")), "{log}");
    assert!(!log.contains("elete the table"), "{log}");
    assert_eq!(leases(&world).await, before, "untouched");
    world.put("after", r#"{"v":1}"#).await;
    world.user_when("after", |_| true).await;
    first.stop().await;
}

/// The newer stream's positions lie beyond all of the older one's, whose records would be dropped
/// as covered.
#[rstest]
#[tokio::test]
async fn an_older_stream_stops_at_the_leases_of_a_newer_one(
    #[values(true, false)] leases_name_their_stream: bool,
) {
    const OLDER: &str = "orders-older";
    let world = World::empty().await;
    let create = world.kinesis.create_stream().stream_name(OLDER);
    create.shard_count(1).send().await.unwrap();
    for user in 0..10 {
        let put = world.kinesis.put_record().stream_name(OLDER);
        let put = put.partition_key(format!("older-{user}"));
        put.data(Blob::new("{}")).send().await.unwrap();
    }
    // Streams of one second have the same numbers.
    world.embedded.advance(Duration::from_secs(60));
    world.stream(1).await;
    let key = ("email", KeyType::Hash, ScalarAttributeType::S);
    world.table(TABLE, &[key]).await;
    let newer = world.consumer("pod-1");
    let first = newer.start();
    world.put("before", "{}").await;
    world.user_when("before", |_| true).await;
    first.stop().await;
    if !leases_name_their_stream {
        // As the Java KCL writes them.
        for mut lease in world.items(APPLICATION).await {
            lease.retain(|name, _| !name.starts_with("native"));
            let put = world.dynamodb.client.put_item().table_name(APPLICATION);
            put.set_item(Some(lease)).send().await.unwrap();
        }
    }

    let before = leases(&world).await;
    let older = world.consumer("pod-2").with("STREAM_NAME", OLDER);
    let (code, log) = older.run().await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains(&format!("is of another stream than {OLDER}")),
        "{log}"
    );
    assert!(!log.contains("elete the table"), "{log}");
    assert_eq!(leases(&world).await, before, "untouched");
    let second = newer.start();
    world.put("after", "{}").await;
    world.user_when("after", |_| true).await;
    second.stop().await;
}

#[tokio::test]
async fn the_table_of_a_multi_stream_application_is_refused() {
    let world = World::tutorial(1).await;
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    world.table(APPLICATION, &[key]).await;
    let stream = "123456789012:orders:1700000000";
    put(
        &world,
        &[
            ("leaseKey", s(&format!("{stream}:shardId-000000000000"))),
            ("streamName", s(stream)),
            ("shardId", s("shardId-000000000000")),
            ("leaseCounter", n("3")),
            ("checkpoint", s("TRIM_HORIZON")),
        ],
    )
    .await;
    let (code, log) = world.consumer("pod-1").run().await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("reads several streams"), "{log}");
    assert_eq!(
        world.items(APPLICATION).await.len(),
        1,
        "nothing was written"
    );
}

/// As other libraries leave them.
#[rstest]
#[case::checkpoint("checkpoint", AttributeValue::Null(true))]
#[case::counter("leaseCounter", s("3"))]
#[tokio::test]
async fn a_row_that_nobody_can_read_is_loud(
    #[case] attribute: &str,
    #[case] value: AttributeValue,
) {
    let world = World::tutorial(2).await;
    let first = world.consumer("pod-1").start();
    first
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    first.stop().await;
    let key = "shardId-000000000001";
    let lease = [
        ("leaseKey", s(key)),
        ("leaseCounter", n("4")),
        ("checkpoint", s("TRIM_HORIZON")),
    ];
    let mut odd = lease.clone();
    let is_odd = |(name, _): &&mut (_, _)| *name == attribute;
    odd.iter_mut().find(is_odd).unwrap().1 = value;
    put(&world, &odd).await;
    let consumer = world.consumer("pod-1").start();
    consumer
        .metric_when("unreadable_leases", "", |count| count == 1.0)
        .await;
    consumer.logged("nobody can read this lease").await;
    let (status, body) = consumer.get("/readyz").await;
    assert_eq!(status, 200, "a rollout must be able to mend it");
    assert!(body.contains(key) && body.contains(attribute), "{body}");
    let state: Value = serde_json::from_str(&consumer.get("/state").await.1).unwrap();
    assert_eq!(state["unreadable"][0]["lease"], key, "{state}");
    consumer.logged("no lease covers hash keys").await;
    put(&world, &lease).await;
    consumer
        .metric_when("unreadable_leases", "", |count| count == 0.0)
        .await;
    consumer
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    consumer.stop().await;
}

/// Written over by hand while a worker holds it, the row says again where that worker stands.
#[rstest]
#[case::no_number("banana", "no sequence number")]
#[case::the_end("SHARD_END", "SHARD_END")]
#[tokio::test]
async fn a_held_rows_checkpoint_that_somebody_writes_over_is_put_back(
    #[case] written: &str,
    #[case] found: &str,
) {
    let world = World::tutorial(1).await;
    let consumer = world.consumer("pod-1").start();
    consumer
        .metric_when("current_leases", "", |count| count == 1.0)
        .await;
    let position = world.put("first", "{}").await;
    let row = async || world.items(APPLICATION).await.pop();
    let stands = async || Some(text(&row().await?, "checkpoint")).filter(|it| *it == position);
    until("a checkpoint", stands).await;
    let update = world.dynamodb.client.update_item().table_name(APPLICATION);
    let update = update.key("leaseKey", s("shardId-000000000000"));
    let update = update.update_expression("SET checkpoint = :odd");
    let update = update.expression_attribute_values(":odd", s(written));
    update.send().await.unwrap();
    until("the checkpoint again", stands).await;
    consumer.logged("its checkpoint is put back").await;
    consumer.logged(found).await;
    consumer
        .metric_when("leases_put_back_total", "", |count| count == 1.0)
        .await;
    world.put("second", "{}").await;
    world.user_when("second", |_| true).await;
    assert_eq!(consumer.metric("lost_leases_total", "").await, Some(0.0));
    consumer.stop().await;
}
