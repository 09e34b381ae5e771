//! Running it: signals, probes, metrics, initial positions.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{APPLICATION, Item, TABLE, World, text};
use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use clap::CommandFactory as _;
use embedded_kinesis::{FOREVER, Fault};
use kinesis_to_dynamodb::Settings;
use serde_json::Value;

#[tokio::test]
async fn sigterm_leaves_everything_checkpointed_and_no_owner() {
    let world = World::tutorial(2).await;
    let consumer = world.consumer("pod-1").start();
    let mut last = String::new();
    for user in 0..20 {
        last = world.put("same-shard", format!(r#"{{"v":{user}}}"#)).await;
    }
    world
        .user_when("same-shard", |item| text(item, "v") == "19")
        .await;
    consumer.stop().await;
    let leases = world.items(APPLICATION).await;
    assert_eq!(leases.len(), 2);
    for lease in &leases {
        assert!(!lease.contains_key("leaseOwner"), "{lease:?}");
    }
    assert!(
        leases.iter().any(|lease| text(lease, "checkpoint") == last),
        "{leases:?}"
    );
}

#[tokio::test]
async fn the_lease_table_shows_who_reads_what() {
    let world = World::tutorial(2).await;
    let consumer = world.consumer("pod-1").start();
    consumer
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    let owners: BTreeSet<String> = world
        .items(APPLICATION)
        .await
        .iter()
        .map(|lease| text(lease, "leaseOwner"))
        .collect();
    assert_eq!(owners, BTreeSet::from(["pod-1".to_owned()]));
    consumer.stop().await;
}

#[tokio::test]
async fn the_batch_at_hand_is_ended_by_sigterm_and_a_second_signal_does_not_wait_for_it() {
    let world = World::tutorial(1).await;
    world.dynamodb.faults().inject_on(
        TABLE,
        "PutItem",
        Fault::aws("ThrottlingException", "injected"),
        FOREVER,
    );
    world.put("ann", r#"{"v":1}"#).await;
    let ends = world.consumer("pod-1").start();
    ends.metric_when("throttles_total", "PutItem", |count| count >= 1.0)
        .await;
    ends.terminate();
    ends.logged("stopping").await;
    world.dynamodb.faults().clear();
    let mut ends = ends;
    assert_eq!(ends.ended().await, 0, "{}", ends.log());
    assert!(world.user("ann").await.is_some());

    world.dynamodb.faults().inject_on(
        TABLE,
        "PutItem",
        Fault::aws("ThrottlingException", "injected"),
        FOREVER,
    );
    world.put("bob", r#"{"v":1}"#).await;
    let mut cut = world.consumer("pod-1").start();
    cut.metric_when("throttles_total", "PutItem", |count| count >= 1.0)
        .await;
    cut.terminate();
    cut.logged("stopping").await;
    cut.terminate();
    assert_eq!(cut.ended().await, 1);
    assert!(cut.log().contains("second signal"), "{}", cut.log());
}

#[tokio::test]
async fn probes_and_metrics_tell_the_truth() {
    let world = World::tutorial(1).await;
    let consumer = world.consumer("pod-1").start();
    consumer.consuming().await;
    assert_eq!(consumer.get("/livez").await.0, 200);
    assert_eq!(consumer.get("/readyz").await.0, 200);
    world.put("ann", r#"{"name":"Ann"}"#).await;
    consumer
        .metric_when("settled_records_total", "shardId-000000000000", |count| {
            count == 1.0
        })
        .await;
    consumer
        .metric_when("data_bytes_processed_total", "", |bytes| bytes == 14.0)
        .await;
    consumer
        .metric_when("batches_processed_total", "", |count| count == 1.0)
        .await;
    consumer
        .metric_when("millis_behind_latest", "shardId-000000000000", |millis| {
            millis == 0.0
        })
        .await;
    consumer
        .metric_when("checkpoint_age_seconds", "shardId-000000000000", |_| true)
        .await;

    let state: Value = serde_json::from_str(&consumer.get("/state").await.1).unwrap();
    assert_eq!(
        (
            state["instance"].as_str(),
            state["records"].as_u64(),
            state["ready"].as_bool()
        ),
        (Some("pod-1"), Some(1), Some(true))
    );
    assert_eq!(state["leases"][0]["shard"], "shardId-000000000000");

    // A second consumer with no shard: a lease given up leaves no line behind.
    let other = world.consumer("pod-2").start();
    other.consuming().await;
    assert_eq!(other.metric("current_leases", "").await, Some(0.0));
    assert_eq!(other.metric("millis_behind_latest", "").await, None);
    consumer.stop().await;
    other
        .metric_when("current_leases", "", |count| count == 1.0)
        .await;
    other.stop().await;
}

#[tokio::test]
async fn it_is_alive_but_not_ready_until_it_consumes() {
    let world = World::tutorial(1).await;
    world
        .dynamodb
        .faults()
        .inject_on(TABLE, "DescribeTable", Fault::Hang, 1);
    let consumer = world.consumer("pod-1").start();
    assert_eq!(consumer.get("/livez").await.0, 200);
    assert_eq!(consumer.get("/readyz").await.0, 503);
    consumer.stop().await;
}

/// An application that KCL 3 workers may lead is not ours yet.
#[tokio::test]
async fn it_is_not_ready_while_a_kcl_3_leader_may_live() {
    let world = World::tutorial(1).await;
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    world.table(APPLICATION, &[key]).await;
    let item = |items: &[(&str, &str)]| {
        let text = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), AttributeValue::S((*value).to_owned()))
        };
        items.iter().map(text).collect::<Item>()
    };
    let leader = [("leaseKey", "Leader"), ("entityType", "LEADER")];
    let lock = [
        ("ownerName", "java"),
        ("leaseDuration", "600000"),
        ("recordVersionNumber", "a"),
    ];
    let migration = [
        ("leaseKey", "Migration3.0"),
        ("entityType", "CLIENT_VERSION_MIGRATION"),
        ("cv", "CLIENT_VERSION_3X"),
    ];
    for items in [item(&[&leader[..], &lock[..]].concat()), item(&migration)] {
        let put = world.dynamodb.client.put_item().table_name(APPLICATION);
        put.set_item(Some(items)).send().await.unwrap();
    }
    let consumer = world.consumer("pod-1").start();
    consumer.logged("\"starting\"").await;
    assert_eq!(consumer.get("/readyz").await.0, 503);
    // The leader stops, and removes its lock.
    let delete = world.dynamodb.client.delete_item().table_name(APPLICATION);
    delete
        .set_key(Some(item(&leader[..1])))
        .send()
        .await
        .unwrap();
    consumer.consuming().await;
    assert_eq!(consumer.get("/readyz").await.0, 200);
    consumer.stop().await;
}

#[tokio::test]
async fn a_new_application_starts_at_the_time_that_is_set() {
    let world = World::tutorial(1).await;
    world.put("before", r#"{"v":1}"#).await;
    let between = jiff::Timestamp::now() + Duration::from_secs(30);
    world.embedded.advance(Duration::from_secs(60));
    world.put("after", r#"{"v":1}"#).await;
    let timed = world
        .consumer("pod-1")
        .with("INITIAL_POSITION", &between.to_string())
        .start();
    world.user_when("after", |_| true).await;
    timed.stop().await;
    assert!(world.user("before").await.is_none());
}

#[tokio::test]
async fn latest_loses_nothing_that_arrives_while_nobody_runs() {
    let world = World::tutorial(1).await;
    let latest = || {
        world
            .consumer("pod-1")
            .with("INITIAL_POSITION", "LATEST")
            .start()
    };
    let first = latest();
    first
        .metric_when("millis_behind_latest", "", |_| true)
        .await;
    first.stop().await;
    assert_eq!(
        text(&world.items(APPLICATION).await[0], "checkpoint"),
        "LATEST"
    );
    world.put("meanwhile", r#"{"v":1}"#).await;
    let second = latest();
    world.user_when("meanwhile", |_| true).await;
    second.stop().await;
}

#[tokio::test]
async fn leases_move_to_a_second_consumer_and_come_back() {
    let world = World::tutorial(2).await;
    let first = world.consumer("pod-1").start();
    first
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    let second = world.consumer("pod-2").start();
    second
        .metric_when("current_leases", "", |count| count == 1.0)
        .await;
    first
        .metric_when("handed_over_leases_total", "", |count| count == 1.0)
        .await;
    world
        .put_all((0..50).map(|user| (format!("u{user}"), format!(r#"{{"v":{user}}}"#))))
        .await;
    for user in 0..50 {
        world.user_when(&format!("u{user}"), |_| true).await;
    }
    let writers: BTreeSet<String> = world
        .items(TABLE)
        .await
        .iter()
        .map(|item| text(item, "processed_by"))
        .collect();
    assert_eq!(writers.len(), 2, "{writers:?}");
    second.stop().await;
    first
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    first.stop().await;
}

// === README ===

const README: &str = include_str!("../../README.md");

/// The first column of the table under a heading.
fn column(heading: &str) -> BTreeSet<String> {
    let section = README
        .split(&format!("## {heading}\n"))
        .nth(1)
        .expect("a table under that heading")
        .split("\n## ")
        .next()
        .expect("a table under that heading");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        row.split('`')
            .next()
            .expect("a table under that heading")
            .to_owned()
    })
    .collect()
}

#[test]
fn the_readme_has_every_setting() {
    let command = Settings::command();
    let parsed: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    assert_eq!(column("Settings"), parsed);
    for argument in command
        .get_arguments()
        .filter(|argument| argument.get_env().is_some())
    {
        let name = argument.get_env().unwrap().to_string_lossy();
        assert_eq!(
            argument.get_long().unwrap(),
            name.to_lowercase().replace('_', "-")
        );
        let default = argument
            .get_default_values()
            .first()
            .map(|value| value.to_string_lossy());
        if let Some(default) = default {
            let row = README
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}`")))
                .unwrap();
            assert!(
                row.contains(&format!("`{default}`")),
                "{row}: want {default}"
            );
        }
    }
}
