//! The pod's clock is wrong, and AWS refuses signatures that are five minutes off.

use std::time::Duration;

use embedded_kinesis::Config;
use rstest::rstest;

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
