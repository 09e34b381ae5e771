//! What waiting does not mend: it is mended in place, or ends the process.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType};
use embedded_kinesis::{FOREVER, Fault};
use rstest::rstest;

use crate::support::{APPLICATION, TABLE, World, until};

#[tokio::test]
async fn a_lease_table_deleted_while_it_runs_is_made_anew_and_nothing_is_skipped() {
    let world = World::tutorial(2).await;
    let latest = world
        .consumer("pod-1")
        .with("INITIAL_POSITION", "LATEST")
        .start();
    latest
        .metric_when("millis_behind_latest", "", |_| true)
        .await;
    for user in 0..20 {
        world.put(&format!("before-{user}"), r#"{"v":1}"#).await;
    }
    for user in 0..20 {
        world.user_when(&format!("before-{user}"), |_| true).await;
    }
    let delete = world.dynamodb.client.delete_table().table_name(APPLICATION);
    delete.send().await.unwrap();
    for user in 0..20 {
        world.put(&format!("after-{user}"), r#"{"v":1}"#).await;
    }
    for user in 0..20 {
        world.user_when(&format!("after-{user}"), |_| true).await;
    }
    until("the leases", async || {
        let scan = world.dynamodb.client.scan().table_name(APPLICATION);
        let leases = scan.send().await.ok()?;
        (leases.count == 2).then_some(())
    })
    .await;
    world.put("last", r#"{"v":1}"#).await;
    world.user_when("last", |_| true).await;
    latest
        .metric_when("leases_put_back_total", "", |count| count == 2.0)
        .await;
    latest.stop().await;
}

#[tokio::test]
async fn a_permission_that_stays_withdrawn_ends_the_process_with_its_cause() {
    let world = World::tutorial(1).await;
    let mut consumer = world.consumer("pod-1").with("GIVE_UP_AFTER", "4s").start();
    consumer
        .metric_when("current_leases", "", |count| count == 1.0)
        .await;
    assert_eq!(consumer.get("/livez").await, (200, "ok".to_owned()));
    let denied = Fault::access_denied();
    let faults = world.dynamodb.faults();
    faults.inject_on(APPLICATION, "UpdateItem", denied, FOREVER);
    consumer
        .metric_when("failing", "renew", |failing| failing == 1.0)
        .await;
    let (status, body) = consumer.get("/livez").await;
    assert_eq!(status, 200);
    assert!(body.contains("renew has failed for"), "{body}");
    assert_eq!(consumer.ended().await, 1, "{}", consumer.log());
    let log = consumer.log();
    assert!(
        log.contains("AccessDeniedException") && log.contains("dynamodb:UpdateItem"),
        "{log}"
    );
}

#[rstest]
#[case::items(TABLE, r#"{"v":1}"#)]
#[case::rejects("rejects", "no JSON")]
#[tokio::test]
async fn a_table_that_cannot_be_written_ends_the_process_unless_it_is_mended(
    #[case] table: &str,
    #[case] record: &str,
) {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    let start = |patience: &str| {
        let consumer = world.consumer("pod-1").with("REJECTS_TABLE", "rejects");
        consumer.with("GIVE_UP_AFTER", patience).start()
    };
    let faults = world.dynamodb.faults();
    let patient = start("1h");
    faults.inject_on(table, "PutItem", Fault::access_denied(), FOREVER);
    world.put("a", record).await;
    patient
        .metric_when("failing", "processor", |failing| failing == 1.0)
        .await;
    let (_, body) = patient.get("/livez").await;
    assert!(
        body.contains("processor has failed for") && body.contains(table),
        "{body}"
    );
    faults.clear();
    until("the mended table", async || {
        let (_, body) = patient.get("/livez").await;
        (body == "ok").then_some(())
    })
    .await;
    patient.stop().await;

    faults.inject_on(table, "PutItem", Fault::access_denied(), FOREVER);
    world.put("b", record).await;
    let mut consumer = start("2s");
    assert_eq!(consumer.ended().await, 1, "{}", consumer.log());
    let log = consumer.log();
    assert!(
        log.contains("AccessDeniedException") && log.contains("dynamodb:PutItem"),
        "{log}"
    );
    let leases = world.items(APPLICATION).await;
    assert!(leases.iter().all(|lease| !lease.contains_key("leaseOwner")));
}

#[tokio::test]
async fn a_rejects_table_made_anew_with_another_key_ends_the_process() {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    let consumer = world.consumer("pod-1").with("REJECTS_TABLE", "rejects");
    let mut consumer = consumer.with("GIVE_UP_AFTER", "2s").start();
    consumer.consuming().await;
    let delete = world.dynamodb.client.delete_table().table_name("rejects");
    delete.send().await.unwrap();
    let key = [("other", KeyType::Hash, ScalarAttributeType::S)];
    world.table("rejects", &key).await;
    world.put("bad", "no JSON").await;
    assert_eq!(consumer.ended().await, 1, "{}", consumer.log());
    let log = consumer.log();
    assert!(
        log.contains("rejects table rejects has the key other"),
        "{log}"
    );
}

/// A table is deleted and made anew, or loses its key, while records come.
#[rstest]
#[tokio::test]
async fn a_table_that_cannot_be_used_for_a_while_gets_every_record(
    #[values(TABLE, "rejects", APPLICATION)] table: &str,
) {
    let world = World::tutorial(2).await;
    world.rejects_table("rejects").await;
    let consumer = world.consumer("pod-1").with("REJECTS_TABLE", "rejects");
    let consumer = consumer.start();
    consumer
        .metric_when("current_leases", "", |count| count == 2.0)
        .await;
    let operation = if table == APPLICATION {
        "renew"
    } else {
        "processor"
    };
    world
        .dynamodb
        .set_status(table, Some("INACCESSIBLE_ENCRYPTION_CREDENTIALS"));
    let fails = || consumer.metric_when("failing", operation, |failing| failing == 1.0);
    if table == APPLICATION {
        // What is acknowledged is written with the next renewal, which is a checkpoint then.
        fails().await;
    }
    for user in 0..10 {
        world.put(&format!("user-{user}"), "{}").await;
        world.put(&format!("bad-{user}"), "no JSON").await;
    }
    fails().await;
    let (status, body) = consumer.get("/livez").await;
    assert_eq!(status, 200);
    assert!(body.contains(operation), "{body}");
    if table != APPLICATION {
        assert!(body.contains("Enable the KMS key"), "{body}");
    }
    world.dynamodb.set_status(table, None);
    for user in 0..10 {
        world.user_when(&format!("user-{user}"), |_| true).await;
    }
    until("the rejects", async || {
        (world.items("rejects").await.len() == 10).then_some(())
    })
    .await;
    until("the end of the trouble", async || {
        let (_, body) = consumer.get("/livez").await;
        (body == "ok").then_some(())
    })
    .await;
    consumer.stop().await;
}

/// Waiting mends it, but nobody would know of it that knows only the log.
#[rstest]
#[case::items(TABLE, r#"{"v":1}"#, Fault::internal_error())]
#[case::rejects("rejects", "no JSON", Fault::throughput_exceeded())]
#[tokio::test]
async fn writes_that_do_not_get_through_for_long_are_told_by_the_log(
    #[case] table: &str,
    #[case] record: &str,
    #[case] fault: Fault,
) {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    let faults = world.dynamodb.faults();
    faults.inject_on(table, "PutItem", fault, FOREVER);
    let consumer = world.consumer("pod-1").without("LOG_LEVEL");
    let consumer = consumer.with("REJECTS_TABLE", "rejects").start();
    world.put("a", record).await;
    let told = consumer.logged("calls do not get through").await;
    assert!(told.contains(&format!(r#""on":"{table}""#)), "{told}");
    faults.clear();
    consumer.logged("a call got through").await;
    consumer
        .metric_when("settled_records_total", "", |count| count == 1.0)
        .await;
    consumer.stop().await;
}

#[tokio::test]
async fn throttling_is_told_by_the_log_once_a_minute() {
    let world = World::tutorial(1).await;
    let consumer = world.consumer("pod-1").without("LOG_LEVEL").start();
    world.put("a", r#"{"v":1}"#).await;
    world.user_when("a", |_| true).await;
    let faults = world.embedded.faults();
    faults.inject("GetRecords", Fault::throughput_exceeded(), 2);
    consumer
        .metric_when("throttles_total", "GetRecords", |count| count == 2.0)
        .await;
    let log = consumer.stop().await;
    assert_eq!(log.matches("throttled; it is tried again").count(), 1);
}
