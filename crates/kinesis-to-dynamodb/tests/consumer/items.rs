//! What ends up in the table: items, their order, and nothing twice or older.

use crate::support::{self, Item, STREAM, TABLE, World, text, until};
use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::Fault;

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

async fn seed(world: &World, item: &[(&str, &str)]) {
    let item: Item = item
        .iter()
        .map(|(name, value)| ((*name).to_owned(), s(value)))
        .collect();
    world
        .dynamodb
        .client
        .put_item()
        .table_name(TABLE)
        .set_item(Some(item))
        .send()
        .await
        .expect("a seed item");
}

#[tokio::test]
async fn a_record_of_the_tutorial_becomes_its_item() {
    let world = World::tutorial(2).await;
    let sequence = world.put("ann@example.com", r#"{"name":"Ann","city":"Oslo","processed_by":"me","email":"other","n":1e2,"big":12345678901234567890123456789012345678}"#).await;
    let consumer = world.consumer("pod-1").start();
    let item = world.user_when("ann@example.com", |_| true).await;
    let arrived = text(&item, "kinesis_arrived");
    assert_eq!(arrived.len(), "2026-11-23T12:00:00.000Z".len(), "{arrived}");
    let shard = text(&item, "kinesis_shard");
    assert!(shard.starts_with("shardId-"), "{shard}");
    let expected = [
        ("kinesis_arrived", s(&arrived)),
        ("kinesis_shard", s(&shard)),
        ("email", s("ann@example.com")),
        ("name", s("Ann")),
        ("city", s("Oslo")),
        ("processed_by", s("pod-1")),
        ("kinesis_position", s(&format!("{sequence:0>57}.{:020}", 0))),
        ("n", AttributeValue::N("100".to_owned())),
        (
            "big",
            AttributeValue::N("12345678901234567890123456789012345678".to_owned()),
        ),
    ];
    assert_eq!(
        item,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
    consumer.stop().await;
}

#[tokio::test]
async fn the_key_has_the_name_that_the_table_gives_it() {
    let world = World::empty().await;
    world.stream(1).await;
    world
        .table(TABLE, &[("user id", KeyType::Hash, ScalarAttributeType::S)])
        .await;
    world.put("ann", r#"{"email":"ann@example.com"}"#).await;
    let consumer = world.consumer("pod-1").start();
    let items = support::until("the item", async || {
        Some(world.items(TABLE).await).filter(|items| !items.is_empty())
    })
    .await;
    assert_eq!(
        (text(&items[0], "user id"), text(&items[0], "email")),
        ("ann".into(), "ann@example.com".into())
    );
    consumer.stop().await;
}

#[tokio::test]
async fn newer_data_stays_and_older_data_and_that_of_others_is_replaced() {
    let world = World::tutorial(1).await;
    let (older, newer) = (
        format!("{}.{:020}", "0".repeat(57), 0),
        format!("{}.{:020}", "9".repeat(57), 0),
    );
    seed(
        &world,
        &[
            ("email", "older"),
            ("kinesis_position", &older),
            ("left", "over"),
        ],
    )
    .await;
    seed(&world, &[("email", "newer"), ("kinesis_position", &newer)]).await;
    seed(
        &world,
        &[
            ("email", "java"),
            ("name", "x"),
            ("processed_by", "java-pod"),
        ],
    )
    .await;
    for key in ["older", "newer", "java"] {
        world.put(key, r#"{"name":"stream"}"#).await;
    }
    let consumer = world.consumer("pod-1").start();
    for key in ["older", "java"] {
        let item = world
            .user_when(key, |item| {
                item.contains_key("name") && text(item, "name") == "stream"
            })
            .await;
        assert!(!item.contains_key("left"), "an item is replaced whole");
    }
    consumer
        .metric_when("stale_writes_total", "", |count| count == 1.0)
        .await;
    consumer
        .metric_when("items_written_total", "", |count| count == 2.0)
        .await;
    assert_eq!(
        text(&world.user("newer").await.unwrap(), "kinesis_position"),
        newer
    );
    consumer.stop().await;
}

#[tokio::test]
async fn a_stream_read_again_from_its_start_changes_nothing() {
    let world = World::tutorial(2).await;
    for version in 0..5 {
        world
            .put_all((0..20).map(|user| (format!("u{user}"), format!(r#"{{"v":{version}}}"#))))
            .await;
    }
    let first = world.consumer("pod-1").start();
    for user in 0..20 {
        world
            .user_when(&format!("u{user}"), |item| text(item, "v") == "4")
            .await;
    }
    first.stop().await;
    let before = sorted(world.items(TABLE).await);
    // Another application has no checkpoints: it delivers every record again.
    let again = world
        .consumer("pod-2")
        .with("APPLICATION_NAME", "again")
        .start();
    again
        .metric_when("settled_records_total", "processed", |records| {
            records == 100.0
        })
        .await;
    assert_eq!(again.metric("items_written_total", "").await, Some(0.0));
    again.stop().await;
    assert_eq!(sorted(world.items(TABLE).await), before);
}

fn sorted(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by_key(|item| text(item, "email"));
    items
}

#[tokio::test]
async fn of_many_records_of_a_key_the_last_one_stays() {
    let world = World::tutorial(1).await;
    world
        .put_all((0..300).map(|version| ("hot".to_owned(), format!(r#"{{"v":{version}}}"#))))
        .await;
    let consumer = world.consumer("pod-1").start();
    world
        .user_when("hot", |item| text(item, "v") == "299")
        .await;
    consumer
        .metric_when("settled_records_total", "processed", |records| {
            records == 300.0
        })
        .await;
    until("each record is counted once", async || {
        let written = consumer.metric("items_written_total", "").await?;
        let superseded = consumer.metric("superseded_records_total", "").await?;
        (written + superseded == 300.0).then_some(())
    })
    .await;
    consumer.stop().await;
}

/// Producers that choose the shard themselves spread one key: the last to arrive wins, whatever the
/// sequence numbers of its shard are, and in whatever order the shards are read.
#[tokio::test]
async fn of_one_key_in_several_shards_the_last_to_arrive_stays() {
    let world = World::tutorial(4).await;
    let last_shards = [0, 3, 1, 2];
    for (user, last) in last_shards.into_iter().enumerate() {
        for shard in (0..4).filter(|shard| *shard != last).chain([last]) {
            let put = world
                .kinesis
                .put_record()
                .stream_name(STREAM)
                .partition_key(format!("user-{user}"))
                .explicit_hash_key(((u128::MAX / 4) * shard + 9).to_string())
                .data(Blob::new(format!(r#"{{"shard":{shard}}}"#)));
            put.send().await.unwrap();
            // Times of arrival are in milliseconds.
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    }
    let consumer = world.consumer("pod-1").start();
    let is_of = |item: &Item, last: u128| text(item, "shard") == last.to_string();
    for (user, last) in last_shards.into_iter().enumerate() {
        world
            .user_when(&format!("user-{user}"), |item| is_of(item, last))
            .await;
    }
    consumer
        .metric_when("settled_records_total", "processed", |count| count == 16.0)
        .await;
    let written = consumer.metric("items_written_total", "").await.unwrap();
    let older = consumer.metric("stale_writes_total", "older").await;
    assert_eq!(written + older.unwrap_or(0.0), 16.0);
    consumer.stop().await;
    for (user, last) in last_shards.into_iter().enumerate() {
        let item = world.user(&format!("user-{user}")).await.unwrap();
        assert!(is_of(&item, last), "{item:?}");
    }
}

#[tokio::test]
async fn throttling_and_lost_answers_are_waited_out() {
    let world = World::tutorial(1).await;
    world.dynamodb.faults().inject_on(
        TABLE,
        "PutItem",
        Fault::aws("ProvisionedThroughputExceededException", "injected"),
        3,
    );
    world
        .dynamodb
        .faults()
        .inject_on(TABLE, "PutItem", Fault::LoseAnswer, 1);
    world.put("ann", r#"{"v":1}"#).await;
    let consumer = world.consumer("pod-1").start();
    world.user_when("ann", |_| true).await;
    consumer
        .metric_when("settled_records_total", "processed", |records| {
            records == 1.0
        })
        .await;
    let put = "operation=\"PutItem\"";
    consumer
        .metric_when("throttles_total", put, |count| count == 3.0)
        .await;
    consumer
        .metric_when("retries_total", put, |count| count == 1.0)
        .await;
    // The put whose answer was lost had happened.
    consumer
        .metric_when("stale_writes_total", "", |count| count == 1.0)
        .await;
    assert_eq!(
        consumer.metric("processor_failures_total", "").await,
        Some(0.0)
    );
    consumer.stop().await;
}

#[tokio::test]
async fn a_write_that_is_denied_is_told_and_goes_on_when_it_is_allowed() {
    let world = World::tutorial(1).await;
    world
        .dynamodb
        .faults()
        .inject_on(TABLE, "PutItem", Fault::access_denied(), 2);
    world.put("ann", r#"{"v":1}"#).await;
    let consumer = world.consumer("pod-1").start();
    let line = consumer.logged("batch failed").await;
    assert!(
        line.contains("aws iam put-role-policy") && line.contains("dynamodb:PutItem"),
        "{line}"
    );
    world.user_when("ann", |_| true).await;
    consumer
        .metric_when("processor_failures_total", "", |count| count == 2.0)
        .await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_table_that_vanished_and_came_back_has_every_record() {
    let world = World::tutorial(1).await;
    let consumer = world.consumer("pod-1").start();
    consumer.consuming().await;
    world
        .dynamodb
        .client
        .delete_table()
        .table_name(TABLE)
        .send()
        .await
        .unwrap();
    world.put("ann", r#"{"v":1}"#).await;
    let line = consumer.logged("batch failed").await;
    assert!(
        line.contains("aws dynamodb create-table --table-name users"),
        "{line}"
    );
    world
        .table(TABLE, &[("email", KeyType::Hash, ScalarAttributeType::S)])
        .await;
    world.user_when("ann", |_| true).await;
    consumer.stop().await;
}

/// An attribute of our name that is no text is another program's.
#[tokio::test]
async fn an_item_with_a_position_or_shard_of_another_type_is_replaced() {
    let world = World::tutorial(1).await;
    let older = format!("{}.{:020}", "0".repeat(57), 0);
    let seven = || AttributeValue::N("7".to_owned());
    let attributes = |position, shard| {
        [
            ("kinesis_position", position),
            ("kinesis_shard", shard),
            ("left", s("over")),
        ]
    };
    for (key, attributes) in [
        ("position", attributes(seven(), s("shardId-000000000000"))),
        ("shard", attributes(s(&older), seven())),
        ("both", attributes(AttributeValue::Null(true), seven())),
    ] {
        let item = attributes.map(|(name, value)| (name.to_owned(), value));
        let mut item = Item::from(item);
        item.insert("email".to_owned(), s(key));
        let put = world.dynamodb.client.put_item().table_name(TABLE);
        put.set_item(Some(item)).send().await.unwrap();
        world.put(key, r#"{"name":"stream"}"#).await;
    }
    let consumer = world.consumer("pod-1").start();
    for key in ["position", "shard", "both"] {
        let item = world
            .user_when(key, |item| !item.contains_key("left"))
            .await;
        assert_eq!(text(&item, "name"), "stream");
    }
    consumer
        .metric_when("items_written_total", "", |count| count == 3.0)
        .await;
    consumer.stop().await;
}

/// A proxy's empty page has status 200, too: nothing was stored by it.
#[tokio::test]
async fn an_item_is_stored_when_dynamodb_says_so_and_nobody_else() {
    let world = World::tutorial(1).await;
    let users: Vec<_> = (0..20).map(|user| format!("u{user}")).collect();
    let records = users
        .iter()
        .map(|user| (user.clone(), r#"{"v":1}"#.to_owned()));
    world.put_all(records).await;
    let faults = world.dynamodb.faults();
    faults.inject_on(TABLE, "PutItem", Fault::EmptyJson, 10);
    let consumer = world.consumer("pod-1").start();
    for user in &users {
        world.user_when(user, |_| true).await;
    }
    consumer
        .metric_when("items_written_total", "", |count| count == 20.0)
        .await;
    consumer.stop().await;
}
