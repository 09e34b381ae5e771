//! Records that cannot be stored: kept whole, or told, or the shard halts. Never lost, never in a
//! log.

use crate::support::{self, APPLICATION, Item, TABLE, World, text};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate,
    KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType,
};
use embedded_kinesis::Fault;

async fn rejects(world: &World, wanted: usize) -> Vec<Item> {
    let ask = async || Some(world.items("rejects").await).filter(|items| items.len() >= wanted);
    let mut items = support::until("rejects", ask).await;
    items.sort_by_key(|item| {
        (
            text(item, "record"),
            text(item, "part").parse::<usize>().ok(),
        )
    });
    items
}

/// Makes DynamoDB refuse items whose field `city` is no text.
async fn index_by_city(world: &World) {
    let key = KeySchemaElement::builder()
        .attribute_name("city")
        .key_type(KeyType::Hash)
        .build()
        .unwrap();
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name("by-city")
        .key_schema(key)
        .projection(
            Projection::builder()
                .projection_type(ProjectionType::All)
                .build(),
        )
        .build()
        .unwrap();
    let city = AttributeDefinition::builder()
        .attribute_name("city")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    let update = world
        .dynamodb
        .client
        .update_table()
        .table_name(TABLE)
        .attribute_definitions(city);
    update
        .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(index).build())
        .send()
        .await
        .unwrap();
}

fn data(item: &Item) -> &[u8] {
    item["data"].as_b().expect("binary").as_ref()
}

#[tokio::test]
async fn rejects_are_kept_whole_in_parts_where_they_are_large() {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    // Not JSON, and larger than two items may be.
    let large: Vec<u8> = (0..900_000u32).map(|i| (i % 251) as u8).collect();
    let sequence = world.put("large", large.clone()).await;
    world.put("small", "hello").await;
    world.put("empty", "").await;
    world.put("good", r#"{"v":1}"#).await;
    let consumer = world
        .consumer("pod-1")
        .with("REJECTS_TABLE", "rejects")
        .start();
    world.user_when("good", |_| true).await;
    let items = rejects(&world, 5).await;

    let parts: Vec<_> = items
        .iter()
        .filter(|item| text(item, "partition_key") == "large")
        .collect();
    assert_eq!(
        parts
            .iter()
            .map(|item| (text(item, "part"), text(item, "parts")))
            .collect::<Vec<_>>(),
        [("1", "3"), ("2", "3"), ("3", "3")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    assert_eq!(
        parts
            .iter()
            .flat_map(|item| data(item).to_vec())
            .collect::<Vec<u8>>(),
        large
    );
    let first = parts[0];
    assert_eq!(
        text(first, "record"),
        format!("orders/shardId-000000000000/{sequence}.0")
    );
    assert_eq!(text(first, "sequence_number"), sequence);
    assert_eq!(
        (text(first, "stream"), text(first, "shard")),
        ("orders".into(), "shardId-000000000000".into())
    );
    assert!(text(first, "reason").starts_with("not JSON"));
    text(first, "arrived").parse::<jiff::Timestamp>().unwrap();

    let whole = |key: &str| {
        items
            .iter()
            .find(|item| text(item, "partition_key") == key)
            .unwrap()
    };
    assert_eq!(data(whole("small")), b"hello");
    assert_eq!(data(whole("empty")), b"");
    consumer
        .metric_when("rejected_records_total", "reason=\"not_json\"", |count| {
            count == 3.0
        })
        .await;
    consumer.stop().await;
}

#[tokio::test]
async fn without_a_table_the_log_has_position_size_and_reason_and_never_data() {
    let world = World::tutorial(1).await;
    let sequence = world
        .put("ann", r#"{"password":"hunter2", "n":1e999}"#)
        .await;
    world.put("bob", r#"["hunter2"]"#).await;
    world.put("eve", "hunter2").await;
    let consumer = world
        .consumer("pod-1")
        .with("LOG_LEVEL", "trace,hyper=info,h2=info,aws=info")
        .start();
    consumer
        .metric_when("rejected_records_total", "", |count| count == 3.0)
        .await;
    let line = consumer.logged(&sequence).await;
    let line = if line.contains("record rejected") {
        line
    } else {
        consumer.logged("a number beyond").await
    };
    assert!(
        line.contains("\"bytes\":33") && line.contains("a number beyond DynamoDB's range"),
        "{line}"
    );
    let log = consumer.stop().await;
    assert!(
        !log.contains("hunter2") && !log.contains("password"),
        "{log}"
    );
    assert!(world.items(TABLE).await.is_empty());
}

#[tokio::test]
async fn what_dynamodb_refuses_is_rejected_and_the_record_before_it_is_stored() {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    index_by_city(&world).await;

    // An index on a text, and a number for it: of the same batch as the record that it would have
    // replaced.
    world
        .put_all(
            [r#"{"city":"Oslo"}"#, r#"{"city":7}"#].map(|data| ("ann".to_owned(), data.to_owned())),
        )
        .await;
    let consumer = world
        .consumer("pod-1")
        .with("REJECTS_TABLE", "rejects")
        .start();
    let items = rejects(&world, 1).await;
    assert_eq!(data(&items[0]), br#"{"city":7}"#);
    assert!(
        text(&items[0], "reason").contains("ValidationException"),
        "{}",
        text(&items[0], "reason")
    );
    assert_eq!(
        text(&world.user_when("ann", |_| true).await, "city"),
        "Oslo"
    );
    consumer.stop().await;
}

#[tokio::test]
async fn many_refused_items_cost_one_look_at_the_table_and_throttling_is_waited_out() {
    const REFUSED: usize = 300;
    let world = World::tutorial(1).await;
    index_by_city(&world).await;
    let consumer = world.consumer("pod-1").start();
    consumer.consuming().await;
    world.dynamodb.clear_tallies();
    world.dynamodb.faults().inject_on(
        TABLE,
        "DescribeTable",
        Fault::aws("ThrottlingException", "injected"),
        3,
    );
    world
        .put_all((0..REFUSED).map(|user| (format!("user-{user}"), r#"{"city":7}"#.to_owned())))
        .await;
    consumer
        .metric_when("rejected_records_total", "refused", |count| {
            count == REFUSED as f64
        })
        .await;
    let looks = world.dynamodb.tally("DescribeTable").calls;
    assert!((4..=6).contains(&looks), "{looks}");
    assert_eq!(
        consumer.metric("processor_failures_total", "").await,
        Some(0.0)
    );
    consumer.stop().await;
}

/// Three user records, of `ann`, `bob` and `ann`, whose hash keys are in different halves.
const STRADDLING: &[u8] = b"\xf3\x89\x9a\xc2\n\x03ann\n\x03bob\
    \x1a\x0b\x08\x00\x1a\x07{\"v\":1}\x1a\x0b\x08\x01\x1a\x07{\"v\":2}\x1a\x0b\x08\x00\x1a\x07{\"v\":3}\
    i\xfc\xc0J\xe9ALQ\x14\xe0\xf4\xcd\x07\x89\xbb\xfe";

#[tokio::test]
async fn an_aggregate_of_two_shards_is_kept_whole_told_and_checkpointed() {
    let world = World::tutorial(2).await;
    world.rejects_table("rejects").await;
    let sequence = world.put("ann", STRADDLING).await;
    let consumer = world
        .consumer("pod-1")
        .with("REJECTS_TABLE", "rejects")
        .start();
    let items = rejects(&world, 1).await;
    assert_eq!(data(&items[0]), STRADDLING);
    let reason = text(&items[0], "reason");
    assert!(reason.contains("user record 1 (of 3, from 0)"), "{reason}");
    let line = consumer.logged("record rejected").await;
    assert!(line.contains("WARN") && line.contains(&sequence), "{line}");
    consumer
        .metric_when("rejected_records_total", "aggregate", |count| count == 1.0)
        .await;
    consumer
        .metric_when("settled_records_total", "rejected", |count| count == 3.0)
        .await;
    support::until("the checkpoint", async || {
        let leases = world.items(APPLICATION).await;
        let is_there = |lease: &Item| {
            text(lease, "checkpoint") == sequence
                && text(lease, "checkpointSubSequenceNumber") == "2"
        };
        leases.iter().any(is_there).then_some(())
    })
    .await;
    assert_eq!(consumer.metric("records_in_hand", "").await, Some(0.0));
    consumer.stop().await;
    assert!(world.items(TABLE).await.is_empty());
}

#[tokio::test]
async fn a_setting_stores_what_is_in_an_aggregate_of_two_shards() {
    let world = World::tutorial(2).await;
    world.put("ann", STRADDLING).await;
    let consumer = world
        .consumer("pod-1")
        .with("UNFIT_AGGREGATES", "deliver")
        .start();
    assert_eq!(
        text(&world.user_when("ann", |_| true).await, "v"),
        "3",
        "the last one"
    );
    assert_eq!(text(&world.user_when("bob", |_| true).await, "v"), "2");
    consumer.stop().await;
}

#[tokio::test]
async fn halt_stops_before_an_aggregate_of_two_shards() {
    let world = World::tutorial(2).await;
    let before = world.put("ann", r#"{"v":0}"#).await;
    let sequence = world.put("ann", STRADDLING).await;
    world.put("ann", r#"{"v":9}"#).await;
    let consumer = world.consumer("pod-1").with("ON_REJECT", "halt").start();
    let line = consumer.logged("batch failed").await;
    assert!(line.contains(&sequence), "{line}");
    consumer.stop().await;
    assert_eq!(text(&world.user("ann").await.unwrap(), "v"), "0");
    let leases = world.items(APPLICATION).await;
    let mut checkpoints = leases.iter().map(|lease| text(lease, "checkpoint"));
    assert!(checkpoints.any(|checkpoint| checkpoint == before));
}

#[tokio::test]
async fn halt_stores_all_before_the_reject_and_nothing_behind_it() {
    let world = World::tutorial(1).await;
    let before = world.put("ann", r#"{"v":1}"#).await;
    let bad = world.put("bob", "no json").await;
    world.put("eve", r#"{"v":1}"#).await;
    let halting = world.consumer("pod-1").with("ON_REJECT", "halt").start();
    let line = halting.logged("batch failed").await;
    assert!(
        line.contains(&bad) && line.contains("not JSON") && line.contains("ON_REJECT=skip"),
        "{line}"
    );
    halting.logged("\"attempt\":2").await;
    halting.stop().await;
    assert!(world.user("ann").await.is_some() && world.user("eve").await.is_none());
    let lease = &world.items(APPLICATION).await[0];
    assert_eq!(text(lease, "checkpoint"), before);

    let skipping = world.consumer("pod-1").argument("--on-reject=skip").start();
    world.user_when("eve", |_| true).await;
    skipping.stop().await;
    assert!(world.user("bob").await.is_none());
}
