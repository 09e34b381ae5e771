//! What may go wrong with a subscription, as the real SDK meets it.

use std::time::Duration;

use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::types::ShardIteratorType;

use crate::subscriptions::started;
use crate::support::*;
use embedded_kinesis::{Config, FOREVER, Fault, Trouble};

const SUBSCRIBE: &str = "SubscribeToShard";

fn trouble(after: u32, then: Trouble) -> Fault {
    Fault::Events { after, then }
}

#[tokio::test]
async fn errors_instead_of_a_subscription() {
    let (server, client, consumer) = started(Config::default()).await;
    for fault in [
        Fault::throttling(),
        Fault::access_denied(),
        Fault::not_found(),
        Fault::internal_error(),
    ] {
        let Fault::Aws { code: wanted, .. } = fault.clone() else {
            panic!("{fault:?}")
        };
        server.faults().inject_on("s", SUBSCRIBE, fault, 1);
        let refused = subscribe(&client, &consumer, latest()).await;
        assert_eq!(code(refused), wanted);
    }
    for fault in [Fault::Reset, Fault::Garbage, Fault::EmptyJson] {
        server.faults().inject(SUBSCRIBE, fault.clone(), 1);
        let refused = subscribe(&client, &consumer, latest()).await;
        assert!(refused.is_err(), "{fault:?}");
    }
    assert_eq!(server.calls().last().unwrap().stream.as_deref(), Some("s"));
    // Nothing of it was performed.
    subscribe(&client, &consumer, latest()).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_has_taken_the_shard() {
    let (server, client, consumer) = started(Config::default()).await;
    server.faults().inject(SUBSCRIBE, Fault::LoseAnswer, 1);
    subscribe(&client, &consumer, latest()).await.unwrap_err();
    let again = subscribe(&client, &consumer, latest()).await;
    assert_eq!(code(again), "ResourceInUseException");
}

#[tokio::test]
async fn cut_in_the_middle_of_an_event() {
    let (server, client, consumer) = started(Config::default()).await;
    for (fault, whole) in [
        (Fault::HalfBody, 0),
        (trouble(0, Trouble::Cut), 0),
        (trouble(2, Trouble::Cut), 2),
    ] {
        server.faults().inject(SUBSCRIBE, fault, 1);
        let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
        for _ in 0..whole {
            put(&client, "whole").await;
            assert_eq!(arrivals(&mut events).await, ["whole"]);
        }
        put(&client, "cut").await;
        let error = events.recv().await.unwrap_err();
        assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
        server.advance(Duration::from_secs(5));
    }
}

/// A half-open connection: the records are there, and nothing says so.
#[tokio::test]
async fn silent_until_somebody_leaves() {
    let (server, client, consumer) = started(Config::default()).await;
    server
        .faults()
        .inject(SUBSCRIBE, trouble(1, Trouble::Silence), FOREVER);
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    put(&client, "heard").await;
    assert_eq!(arrivals(&mut events).await, ["heard"]);
    put(&client, "not heard").await;
    server.advance(Duration::from_secs(299));
    open_shards(&client, "s").await;
    tokio::select! {
        biased;
        event = events.recv() => panic!("{event:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(server.subscriptions(), 1);
    drop(events);
    server.wait_for_subscriptions(0).await;

    server.faults().clear();
    let start = position(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &consumer, start).await.unwrap();
    assert_eq!(arrivals(&mut events).await, ["heard", "not heard"]);
    server.faults().inject(SUBSCRIBE, Fault::Hang, 1);
    let asking = tokio::spawn(async move {
        let hung = subscribe(&client, &consumer, latest()).await;
        hung.map(drop)
    });
    server.wait_for_held_calls(1).await;
    server.shutdown().await;
    asking.await.unwrap().unwrap_err();
    events.recv().await.unwrap_err();
}

#[tokio::test]
async fn an_error_in_the_middle() {
    let (server, client, consumer) = started(Config::default()).await;
    for error in [
        "InternalFailureException",
        "ResourceInUseException",
        "KMSThrottlingException",
    ] {
        let then = Trouble::Exception {
            code: error.to_owned(),
            message: "on purpose".to_owned(),
        };
        server.faults().inject(SUBSCRIBE, trouble(1, then), 1);
        let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
        put(&client, "heard").await;
        assert_eq!(arrivals(&mut events).await, ["heard"]);
        let (code, message) = refusal(events.recv().await);
        assert_eq!((&*code, &*message), (error, "on purpose"));
        assert!(events.recv().await.unwrap().is_none());
        server.advance(Duration::from_secs(5));
    }
}

#[tokio::test]
async fn slow_by_so_many_bytes_a_second() {
    let (server, client, consumer) = started(Config::default()).await;
    put_raw(&server, &[3000]).await;
    server.faults().inject(SUBSCRIBE, Fault::Slow(20_000), 1);
    let before = tokio::time::Instant::now();
    let start = position(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &consumer, start).await.unwrap();
    assert_eq!(event(&mut events).await.records().len(), 1);
    // 4,000 bytes of base64 at 1,000 a step.
    assert!(before.elapsed() >= Duration::from_millis(200));
}
