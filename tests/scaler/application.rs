//! What one application still has to read, asked as KEDA asks: real workers, real tables, from zero
//! and back.

use std::time::Duration;

use crate::support::world::Application;
use crate::support::*;
use embedded_kinesis::{FOREVER, Fault};
use tonic::Code;

/// Whether KEDA is told to scale from zero.
async fn active(client: &mut Client, object: &keda_kinesis_scaler::proto::ScaledObjectRef) -> bool {
    client
        .is_active(object.clone())
        .await
        .unwrap()
        .into_inner()
        .result
}

async fn wait_for_activity(
    client: &mut Client,
    object: &keda_kinesis_scaler::proto::ScaledObjectRef,
    wanted: bool,
) {
    let asked = async {
        loop {
            let answer = client.is_active(object.clone()).await;
            if answer.is_ok_and(|answer| answer.into_inner().result == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually(&format!("activity {wanted}"), asked).await;
}

#[tokio::test]
async fn an_application_that_never_ran_is_worth_what_the_trigger_says() {
    let application = Application::start(4).await;
    let mut client = application.stack.client().await;
    for (says, want) in [(None, 3.0), (Some("activate"), 3.0), (Some("idle"), 0.0)] {
        for scale_on in ["readableShards", "lag"] {
            let mut more = vec![("shardCount", "3")];
            more.extend(says.map(|says| ("onMissingTable", says)));
            let object = application.trigger(scale_on, &more);
            // One replica: value and target are equal.
            assert_eq!(value(&mut client, &object).await.unwrap(), want);
            assert_eq!(active(&mut client, &object).await, want > 0.0);
        }
    }
    let object = application.trigger("lag", &[("onMissingTable", "error")]);
    let error = value(&mut client, &object).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(
        error
            .message()
            .contains("no lease table billing in us-east-1"),
        "{error}"
    );
}

#[tokio::test]
async fn from_zero_to_work_and_back_to_zero() {
    let application = Application::start(2).await;
    let mut client = application.stack.client().await;
    let object = application.trigger("lag", &[]);
    wait_for_activity(&mut client, &object, true).await;

    // The first worker makes the table; nothing is there to read.
    let worker = application.run("one", 100);
    wait_for_activity(&mut client, &object, false).await;
    worker.stop().await;
    assert!(
        !active(&mut client, &object).await,
        "nothing came meanwhile"
    );

    // A record wakes it, although nobody runs.
    application.put("a").await;
    wait_for_activity(&mut client, &object, true).await;
    assert_eq!(value(&mut client, &object).await.unwrap(), 1.0);

    // Stuck: it stays unread for as long as nobody checkpoints it.
    let stuck = application.run("two", 0);
    application
        .stack
        .kinesis
        .wait_for_calls("GetRecords", 30)
        .await;
    assert!(active(&mut client, &object).await);
    drop(stuck);
    assert!(
        active(&mut client, &object).await,
        "killed, and still unread"
    );

    let worker = application.run("three", 100);
    wait_for_activity(&mut client, &object, false).await;
    worker.stop().await;
}

/// A KPL aggregate of three user records.
const AGGREGATE: &[u8] = b"\xf3\x89\x9a\xc2\n\x03ann\n\x03bob\
    \x1a\x0b\x08\x00\x1a\x07{\"v\":1}\x1a\x0b\x08\x01\x1a\x07{\"v\":2}\x1a\x0b\x08\x00\x1a\x07{\"v\":3}\
    i\xfc\xc0J\xe9ALQ\x14\xe0\xf4\xcd\x07\x89\xbb\xfe";

#[tokio::test]
async fn the_remainder_of_an_aggregate_wakes_an_application() {
    let application = Application::start(1).await;
    let mut client = application.stack.client().await;
    let object = application.trigger("lag", &[]);
    application.put_data("ann", AGGREGATE).await;
    let worker = application.run("one", 2);
    eventually("a checkpoint within it", application.checkpointed("1")).await;
    worker.stop().await;
    wait_for_activity(&mut client, &object, true).await;
    assert_eq!(value(&mut client, &object).await.unwrap(), 1.0);

    let worker = application.run("two", 1);
    eventually("all of it", application.checkpointed("2")).await;
    worker.stop().await;
    wait_for_activity(&mut client, &object, false).await;
}

#[tokio::test]
async fn a_reshard_counts_parents_first_then_children() {
    let application = Application::start(2).await;
    let mut client = application.stack.client().await;
    let readable = application.trigger("readableShards", &[]);
    let open = application.stack.object("orders", &[]);
    let worker = application.run("one", 1);
    for key in ["a", "b", "c", "d", "e", "f"] {
        application.put(key).await;
    }
    wait_for_value(&mut client, &readable, 2.0).await;
    worker.stop().await;

    application.stack.update_shard_count("orders", 4).await;
    wait_for_value(&mut client, &open, 4.0).await;
    // The children must wait: two pods are all that could do anything.
    assert_eq!(value(&mut client, &readable).await.unwrap(), 2.0);
    let unread = application.trigger("lag", &[]);
    wait_for_activity(&mut client, &unread, true).await;

    let worker = application.run("two", 100);
    wait_for_value(&mut client, &readable, 4.0).await;
    wait_for_activity(&mut client, &unread, false).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_push_stream_wakes_on_the_first_record() {
    // Whole looks are rare; while a push stream waits, quick ones are not.
    let application = Application::with(2, |config| {
        config.aws.refresh = Duration::from_secs(60);
    })
    .await;
    let mut client = application.stack.client().await;
    let object = application.trigger("lag", &[]);
    let worker = application.run("one", 100);
    eventually("leases", application.leases(2)).await;
    worker.stop().await;
    let stream = client.stream_is_active(object.clone()).await.unwrap();
    let mut stream = stream.into_inner();
    let first = eventually("the state at once", stream.message()).await;
    assert!(!first.unwrap().unwrap().result);
    application.put("a").await;
    let woken = eventually("the record to wake it", stream.message()).await;
    assert!(woken.unwrap().unwrap().result);
}

#[tokio::test]
async fn a_hundred_scaled_objects_cost_one_look_and_it_is_gentle() {
    let application = Application::with(3, |config| {
        config.aws.refresh = Duration::from_millis(500);
    })
    .await;
    let mut client = application.stack.client().await;
    let worker = application.run("one", 100);
    let objects: Vec<_> = (0..100)
        .map(|n| {
            let threshold = format!("{}s", 30 + n % 5);
            let scale_on = if n % 2 == 0 { "lag" } else { "readableShards" };
            let more = if n % 2 == 0 {
                vec![("lagThreshold", threshold.as_str())]
            } else {
                vec![]
            };
            let mut object = application.trigger(scale_on, &more);
            object.name = format!("object-{n}");
            object
        })
        .collect();
    wait_for_activity(&mut client, &objects[0], false).await;
    worker.stop().await;
    let kinesis = &application.stack.kinesis;
    let count = |operation: &str| {
        let calls = kinesis.calls();
        calls
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    };
    let before = (count("ListShards"), count("GetRecords"));
    // Where its end was seen already, it is looked at only when somebody asks.
    let looked = async {
        while count("ListShards") == before.0 {
            value(&mut client, &objects[0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("a look", looked).await;
    for object in &objects {
        value(&mut client, object).await.unwrap();
        active(&mut client, object).await;
    }
    let (lists, pages) = (
        count("ListShards") - before.0,
        count("GetRecords") - before.1,
    );
    assert!(
        pages <= (lists + 1) * 3,
        "{pages} pages in {lists} looks at 3 shards"
    );
    assert!(count("DescribeStreamSummary") == 0);
}

#[tokio::test]
async fn what_aws_refuses_is_told_with_the_permission_that_is_missing() {
    let application = Application::start(1).await;
    let mut client = application.stack.client().await;
    let worker = application.run("one", 100);
    let readable = application.trigger("readableShards", &[]);
    let lag = application.trigger("lag", &[]);
    wait_for_value(&mut client, &readable, 1.0).await;
    wait_for_activity(&mut client, &lag, false).await;
    worker.stop().await;

    let faults = application.stack.kinesis.faults();
    faults.inject("GetRecords", Fault::throughput_exceeded(), FOREVER);
    let throttled = || application.stack.kinesis.count("GetRecords");
    let before = throttled();
    // Nobody works on it: it is looked at when somebody asks.
    while throttled() < before + 10 {
        assert!(
            !active(&mut client, &lag).await,
            "a busy shard keeps its verdict"
        );
    }
    faults.clear();

    faults.inject("GetRecords", Fault::access_denied(), FOREVER);
    let error = wait_for_code(&mut client, &lag, Code::PermissionDenied).await;
    assert!(
        error
            .message()
            .contains(r#""Action":["kinesis:GetRecords"]"#),
        "{error}"
    );
    assert_eq!(
        value(&mut client, &readable).await.unwrap(),
        1.0,
        "needs no records"
    );
    faults.clear();
    wait_for_activity(&mut client, &lag, false).await;

    application.dynamodb.faults().inject_on(
        "billing",
        "Scan",
        Fault::aws("AccessDeniedException", "injected"),
        FOREVER,
    );
    for object in [&readable, &lag] {
        let error = wait_for_code(&mut client, object, Code::PermissionDenied).await;
        let text = error.message();
        assert!(text.contains("Scan of lease table billing"), "{text}");
        assert!(text.contains("what denies dynamodb:Scan on arn:"), "{text}");
    }
    application.dynamodb.faults().clear();
    wait_for_value(&mut client, &readable, 1.0).await;
}

#[tokio::test]
async fn a_failing_refresh_is_bridged_by_the_last_look_for_a_while() {
    let application = Application::with(2, |config| {
        config.aws.max_stale = Duration::from_millis(1500);
    })
    .await;
    let mut client = application.stack.client().await;
    let worker = application.run("one", 100);
    let readable = application.trigger("readableShards", &[]);
    wait_for_value(&mut client, &readable, 2.0).await;
    worker.stop().await;
    let faults = application.stack.kinesis.faults();
    faults.inject("ListShards", Fault::internal_error(), FOREVER);
    let lists = || application.stack.kinesis.count("ListShards");
    let before = lists();
    // Nobody works on it: it is looked at when somebody asks.
    while lists() < before + 2 {
        assert_eq!(value(&mut client, &readable).await.unwrap(), 2.0);
    }
    let error = wait_for_code(&mut client, &readable, Code::Unavailable).await;
    assert!(error.message().contains("InternalFailure"), "{error}");
    faults.clear();
    wait_for_value(&mut client, &readable, 2.0).await;
}

#[tokio::test]
async fn what_was_decided_can_be_decided_again() {
    let directory = tempfile::tempdir().unwrap();
    let dynamodb = DynamoDb::start().await;
    let record = directory.path().to_owned();
    let stack = Stack::with(|_, tuning| tuning.record = Some(record)).await;
    stack.create_stream("orders", 1).await;
    let application = Application::over(stack, dynamodb);
    let mut client = application.stack.client().await;
    let object = application.trigger("lag", &[]);
    let worker = application.run("one", 100);
    wait_for_activity(&mut client, &object, false).await;
    application.put("a").await;
    wait_for_activity(&mut client, &object, false).await;
    worker.stop().await;
    application.put("b").await;
    wait_for_activity(&mut client, &object, true).await;

    let file = directory
        .path()
        .join("us-east-1.orders.billing.30000ms.1.jsonl");
    let recorded = async {
        // The disk is a moment behind.
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("unreadSinceMs")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("the unread record to be recorded", recorded).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret data"));
    let replayed = assert_cmd::Command::cargo_bin("keda-kinesis-scaler")
        .unwrap()
        .args(["replay", "-o", "json"])
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8(replayed.stdout).unwrap();
    assert!(replayed.status.success());
    assert!(printed.lines().count() >= text.lines().count());
    let last: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["replicas"], &last["active"]),
        (&1.into(), &true.into())
    );
}

#[tokio::test]
async fn metrics_tell_of_each_application() {
    let application = Application::with(1, |config| config.per_shard_metrics = true).await;
    let mut client = application.stack.client().await;
    let object = application.trigger("lag", &[]);
    let worker = application.run("one", 0);
    wait_for_activity(&mut client, &object, false).await;
    let labels = r#"{stream="orders",region="us-east-1",lease_table="billing""#;
    let has = |text: &str, name: &str, rest: &str| {
        text.contains(&format!("keda_kinesis_scaler_{name}{labels}{rest}"))
    };
    for (name, rest) in [
        ("readable_shards", "} 1"),
        ("unread_shards", "} 0"),
        ("oldest_unread_age_seconds", "} 0"),
        ("probes_total", r#",outcome="empty"} "#),
    ] {
        scraped(application.stack.admin, name, |text| has(text, name, rest)).await;
    }

    application.put("a").await;
    wait_for_activity(&mut client, &object, true).await;
    for (name, rest) in [
        ("unread_shards", "} 1"),
        ("probes_total", r#",outcome="record"} "#),
        (
            "shard_oldest_unread_age_seconds",
            r#",shard="shardId-000000000000"} "#,
        ),
    ] {
        scraped(application.stack.admin, name, |text| has(text, name, rest)).await;
    }
    drop(worker);
}
