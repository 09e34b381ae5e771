//! Enhanced fan-out: `RETRIEVAL=fanout`.

use embedded_kinesis::{Config, FOREVER, Fault, Trouble};
use test_support::aws;

use crate::support::{STREAM, World};

/// The names of the stream's registered consumers.
async fn registered(world: &World) -> Vec<String> {
    let list = aws::kinesis(&world.embedded.endpoint()).list_stream_consumers();
    let list = list.stream_arn(world.embedded.stream_arn(STREAM));
    let list = list.send().await.unwrap();
    let names = list.consumers().iter().map(|it| it.consumer_name());
    names.map(str::to_owned).collect()
}

async fn put_and_see(world: &World, prefix: &str) {
    for user in 0..10 {
        world.put(&format!("{prefix}-{user}"), "{}").await;
    }
    for user in 0..10 {
        world.user_when(&format!("{prefix}-{user}"), |_| true).await;
    }
}

#[tokio::test]
async fn two_pods_share_a_consumer_that_stays() {
    let world = World::tutorial(2).await;
    let named = |pod| {
        let pod = world.consumer(pod).with("RETRIEVAL", "fanout");
        pod.with("CONSUMER_NAME", "items").start()
    };
    let first = named("pod-1");
    put_and_see(&world, "one").await;
    assert_eq!(world.embedded.count("GetRecords"), 0);
    let second = named("pod-2");
    second
        .metric_when("current_leases", "", |count| count == 1.0)
        .await;
    put_and_see(&world, "two").await;
    first.stop().await;
    put_and_see(&world, "three").await;
    second.stop().await;
    assert_eq!(registered(&world).await, ["items"]);
    assert_eq!(world.embedded.count("DeregisterStreamConsumer"), 0);
    // From the same checkpoints, the other way.
    let polling = world.consumer("pod-1").start();
    put_and_see(&world, "four").await;
    polling.stop().await;
    assert!(world.embedded.count("GetRecords") > 0);
}

#[tokio::test]
async fn subscriptions_that_break_lose_nothing() {
    let config = Config {
        take_over_after: std::time::Duration::from_millis(200),
        ..Config::default()
    };
    let world = World::tutorial_with(1, config).await;
    let fault = Fault::Events {
        after: 1,
        then: Trouble::Cut,
    };
    let faults = world.embedded.faults();
    faults.inject("SubscribeToShard", fault, 2);
    let consumer = world.consumer("pod-1").with("RETRIEVAL", "fanout").start();
    put_and_see(&world, "broken").await;
    consumer
        .metric_when("subscriptions_total", "", |count| count >= 2.0)
        .await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_stream_without_room_for_a_consumer_is_polled_or_an_error() {
    let config = Config {
        consumer_limit: 0,
        ..Config::default()
    };
    let world = World::tutorial_with(1, config).await;
    let pod = world.consumer("pod-1").with("RETRIEVAL", "fanout");
    let polling = pod.clone().with("ON_CONSUMER_LIMIT", "polling").start();
    put_and_see(&world, "polled").await;
    polling
        .metric_when("polls_instead_of_fan_out", "", |told| told == 1.0)
        .await;
    polling.stop().await;
    let (code, log) = pod.with("GIVE_UP_AFTER", "2s").run().await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("LimitExceededException"), "{log}");
}

#[tokio::test]
async fn what_is_denied_is_told_with_the_consumers_permissions() {
    let world = World::tutorial(1).await;
    let faults = world.embedded.faults();
    faults.inject("SubscribeToShard", Fault::access_denied(), FOREVER);
    let pod = world.consumer("pod-1").with("RETRIEVAL", "fanout");
    let (code, log) = pod.with("GIVE_UP_AFTER", "2s").run().await;
    assert_eq!(code, 1, "{log}");
    let log = log.replace("\\\"", "\"");
    for wanted in [
        "AccessDeniedException",
        "\"kinesis:DescribeStreamConsumer\",\"kinesis:SubscribeToShard\"",
        "arn:aws:kinesis:us-east-1:*:stream/orders/consumer/*",
    ] {
        assert!(log.contains(wanted), "want {wanted}\nin {log}");
    }
}
