//! The pod's clock is wrong, and AWS refuses signatures that are five minutes off.

use std::time::Duration;

use embedded_kinesis::Config;
use rstest::rstest;
use test_support::Proxy;

use crate::support::World;

#[rstest]
#[tokio::test]
async fn latest_stores_what_is_put_after_the_start(
    #[values(-3600, -120, 120, 3600)] clock_ahead: i64,
) {
    let world = World::tutorial_with(
        1,
        Config {
            clock_ahead,
            signature_skew: Some(Duration::from_secs(300)),
            ..Config::default()
        },
    )
    .await;
    world.dynamodb.set_clock(clock_ahead);
    world.put("before", r#"{"v":1}"#).await;
    // More than the room that LATEST leaves.
    world.embedded.advance(Duration::from_secs(60));
    let consumer = world
        .consumer("pod-1")
        .with("INITIAL_POSITION", "LATEST")
        .start();
    consumer
        .metric_when("millis_behind_latest", "", |_| true)
        .await;
    world.put("after", r#"{"v":1}"#).await;
    world.user_when("after", |_| true).await;
    assert!(world.user("before").await.is_none());
    consumer.stop().await;
}

/// As when a node's clock is set, or its machine goes on after a pause.
#[tokio::test]
async fn a_clock_that_jumps_while_it_runs_stops_nothing() {
    let world = World::tutorial(2).await;
    world.rejects_table("rejects").await;
    let kinesis = Proxy::start(&world.embedded.endpoint()).await;
    let consumer = world
        .consumer("pod-1")
        .with("AWS_ENDPOINT_URL_KINESIS", &kinesis.endpoint())
        .with("REJECTS_TABLE", "rejects")
        // Some calls fail at a jump, and come again; that is not what loses a lease here.
        .with("FAILOVER_TIME", "10s")
        .start();
    consumer.consuming().await;
    for (round, ahead) in [0, 3600, -3600, 120, 0].into_iter().enumerate() {
        kinesis.set_clock(ahead);
        world.dynamodb.set_clock(ahead);
        for user in 0..10 {
            world.put(&format!("{round}-{user}"), "{}").await;
        }
        world.put("bad", "no JSON").await;
        for user in 0..10 {
            world.user_when(&format!("{round}-{user}"), |_| true).await;
        }
        let rejects = (round + 1) as f64;
        consumer
            .metric_when("rejected_records_total", "", |count| count >= rejects)
            .await;
    }
    assert_eq!(consumer.metric("lost_leases_total", "").await, Some(0.0));
    consumer.stop().await;
}
