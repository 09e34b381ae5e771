//! Records that cannot be stored: kept whole, or told, or the shard halts. Never lost, never in a
//! log.

use crate::support::{self, APPLICATION, Item, TABLE, World, text};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate,
    KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType,
};

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
