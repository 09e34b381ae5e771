//! What waiting does not mend: it is mended in place, or ends the process.

use embedded_kinesis::{FOREVER, Fault};

use crate::support::{APPLICATION, World, until};

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
