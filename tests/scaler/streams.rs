//! The duties of the push streams: the state at once, then changes, `true` again now and then,
//! silence while AWS fails.

use std::time::Duration;

use crate::support::{Stack, eventually, wait_for_code};
use embedded_kinesis::{FOREVER, Fault};
use tonic::{Code, Streaming};

use keda_kinesis_scaler::proto::IsActiveResponse;

const DESCRIBE: &str = "DescribeStreamSummary";

async fn next(states: &mut Streaming<IsActiveResponse>) -> Option<bool> {
    let state = eventually("a state", states.message()).await;
    state.unwrap().map(|state| state.result)
}

/// Nothing comes while AWS is asked `calls` times more.
async fn silence(stack: &Stack, states: &mut Streaming<IsActiveResponse>, calls: usize) {
    let so_far = stack.kinesis.count(DESCRIBE);
    tokio::select! {
        biased;
        state = states.message() => panic!("not silent: {state:?}"),
        () = eventually("calls", stack.kinesis.wait_for_calls(DESCRIBE, so_far + calls)) => {}
    }
}

#[tokio::test]
async fn the_state_at_once_then_changes_only() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 2).await;
    let object = stack.object("orders", &[("activationShardCount", "2")]);
    let mut client = stack.client().await;
    let mut states = client.stream_is_active(object).await.unwrap().into_inner();
    assert_eq!(next(&mut states).await, Some(false));
    silence(&stack, &mut states, 3).await;
    stack.update_shard_count("orders", 3).await;
    assert_eq!(next(&mut states).await, Some(true));
    // A change of the number that changes no state is not told.
    stack.update_shard_count("orders", 4).await;
    silence(&stack, &mut states, 3).await;
    stack.update_shard_count("orders", 2).await;
    assert_eq!(next(&mut states).await, Some(false));
}

#[tokio::test]
async fn true_is_repeated_and_false_is_not() {
    let stack = Stack::with(|_, tuning| tuning.repeat = Duration::from_millis(40)).await;
    stack.create_stream("orders", 2).await;
    let mut client = stack.client().await;
    let active = stack.object("orders", &[]);
    let mut states = client.stream_is_active(active).await.unwrap().into_inner();
    for _ in 0..5 {
        assert_eq!(next(&mut states).await, Some(true));
    }
    let inactive = stack.object("orders", &[("activationShardCount", "2")]);
    let mut states = client
        .stream_is_active(inactive)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut states).await, Some(false));
    silence(&stack, &mut states, 5).await;
}

#[tokio::test]
async fn while_aws_fails_a_stream_is_silent_but_open() {
    let stack = Stack::with(|config, tuning| {
        config.aws.max_stale = Duration::from_millis(300);
        tuning.repeat = Duration::from_millis(40);
    })
    .await;
    stack.create_stream("orders", 2).await;
    let object = stack.object("orders", &[]);
    let mut client = stack.client().await;
    let mut states = client
        .stream_is_active(object.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut states).await, Some(true));

    stack
        .kinesis
        .faults()
        .inject(DESCRIBE, Fault::internal_error(), FOREVER);
    wait_for_code(&mut client, &object, Code::Unavailable).await;
    // What was sent while the last good answer stood in may still be on its way.
    let mut late = 0;
    let quiet = async {
        let mut calls = stack.kinesis.count(DESCRIBE);
        loop {
            tokio::select! {
                biased;
                state = states.message() => {
                    state.unwrap().expect("the stream stays open");
                    late += 1;
                    calls = stack.kinesis.count(DESCRIBE);
                }
                () = stack.kinesis.wait_for_calls(DESCRIBE, calls + 4) => return,
            }
        }
    };
    eventually("silence", quiet).await;

    stack.kinesis.faults().clear();
    assert_eq!(
        next(&mut states).await,
        Some(true),
        "and goes on when AWS does, after {late} late ones"
    );
}

#[tokio::test]
async fn a_stream_that_is_not_there_yet_is_waited_for() {
    let stack = Stack::start().await;
    let object = stack.object("orders", &[]);
    let mut client = stack.client().await;
    let mut states = client.stream_is_active(object).await.unwrap().into_inner();
    silence(&stack, &mut states, 4).await;
    stack.create_stream("orders", 1).await;
    assert_eq!(next(&mut states).await, Some(true));
}

#[tokio::test]
async fn the_spec_is_sent_once_and_the_stream_stays_open() {
    let stack = Stack::start().await;
    let object = stack.object("orders", &[("shardCount", "7")]);
    let mut client = stack.client().await;
    let mut specs = client
        .stream_metric_spec(object.clone())
        .await
        .unwrap()
        .into_inner();
    let streamed = eventually("the spec", specs.message())
        .await
        .unwrap()
        .unwrap();
    let polled = client.get_metric_spec(object).await.unwrap().into_inner();
    assert_eq!(streamed, polled);
    assert_eq!(stack.kinesis.count("*"), 0, "without AWS");
    stack.shutdown.cancel();
    let end = eventually("the end", specs.message()).await;
    assert!(end.unwrap().is_none(), "one spec, then a clean end");
}

#[tokio::test]
async fn an_idle_push_stream_keeps_its_source_watched() {
    let stack = Stack::with(|config, tuning| {
        let mut pace = keda_kinesis_scaler::watch::Pace::from(&config.aws);
        pace.idle = Duration::from_millis(1);
        tuning.pace = Some(pace);
    })
    .await;
    stack.create_stream("orders", 2).await;
    let object = stack.object("orders", &[("activationShardCount", "2")]);
    let mut client = stack.client().await;
    let mut states = client.stream_is_active(object).await.unwrap().into_inner();
    assert_eq!(next(&mut states).await, Some(false));
    silence(&stack, &mut states, 10).await;
    stack.update_shard_count("orders", 3).await;
    assert_eq!(next(&mut states).await, Some(true));
}
