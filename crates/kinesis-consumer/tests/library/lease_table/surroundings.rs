//! What is around the leases: KCL 3's state, tables of another kind, tables that are gone, no
//! answer.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
};
use embedded_kinesis::Fault;
use jiff::Timestamp;
use kinesis_consumer::{
    Checkpoint, TableError,
    lease::Lease,
    test_util::{DynamoDbTable, Kcl3State, LeaderLock, LeaseTable},
};
use rstest::rstest;
use tokio::time::timeout;

use super::{
    dynamodb::{APPLICATION, DynamoDb, TABLE, from_json, number, text},
    fixtures::{FIXTURES, loaded},
};

fn leader(version: &str) -> Option<LeaderLock> {
    Some(LeaderLock {
        owner: "r3".to_owned(),
        version: version.to_owned(),
        lease_millis: 120_000,
    })
}

#[tokio::test]
async fn kcl_3_is_seen_in_the_lease_table() {
    let (db, _) = loaded(FIXTURES[4].1).await;
    let want = Kcl3State {
        client_version: Some("CLIENT_VERSION_3X".to_owned()),
        denied: None,
        leader: leader("d8798a63-c7c9-4021-89f3-9fa6bd02c822"),
    };
    assert_eq!(db.table().kcl3_state().await.expect("an answer"), want);
}

#[tokio::test]
async fn kcl_3_is_seen_in_its_own_table() {
    let db = DynamoDb::with_table().await;
    let early = db.table();
    assert_eq!(
        early.kcl3_state().await.expect("an answer"),
        Kcl3State::default()
    );
    let side_table = format!("{APPLICATION}-CoordinatorState");
    db.create_table(&side_table, "key").await;
    for item in [
        serde_json::json!({"key": {"S": "Migration3.0"}, "cv": {"S": "CLIENT_VERSION_2X"}}),
        serde_json::json!({
            "key": {"S": "Leader"}, "ownerName": {"S": "r3"}, "leaseDuration": {"S": "120000"},
            "recordVersionNumber": {"S": "v"}
        }),
    ] {
        db.put(&side_table, &from_json(&item)).await;
    }
    let want = Kcl3State {
        client_version: Some("CLIENT_VERSION_2X".to_owned()),
        denied: None,
        leader: leader("v"),
    };
    assert_eq!(db.table().kcl3_state().await.expect("an answer"), want);
    let remembered = early.kcl3_state().await.expect("an answer");
    assert_eq!(
        remembered,
        Kcl3State::default(),
        "a table that was absent is not asked for each minute"
    );
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

/// As a worker of KCL 3.5 that can measure nothing reports itself.
#[tokio::test]
async fn a_worker_reports_itself_as_java_does() {
    let (db, items) = loaded(FIXTURES[4].1).await;
    let table = db.table();
    table.kcl3_state().await.expect("an answer");
    table.report_worker("rust", now()).await.expect("reported");
    let javas = items.iter().find(|item| item.contains_key("lut"));
    let mut want = javas.expect("a report").clone();
    want.insert("leaseKey".to_owned(), text("rust"));
    for time in ["lut", "slu"] {
        want.insert(time.to_owned(), number(1_800_000_000));
    }
    assert_eq!(db.item("rust").await, want);
    table.report_worker("rust", now()).await.expect("again");
    table.retire_worker("rust").await.expect("retired");
    let items = db.items().await;
    assert!(!items.contains(&want));
    table.retire_worker("rust").await.expect("it is gone");
}

#[tokio::test]
async fn a_report_goes_over_nothing_else() {
    let (db, items) = loaded(FIXTURES[4].1).await;
    let table = db.table();
    let lease = items
        .iter()
        .find(|item| item.contains_key("checkpoint"))
        .expect("a lease");
    let key = lease["leaseKey"].as_s().expect("a key");
    let error = table.report_worker(key, now()).await.expect_err("a lease");
    assert!(error.to_string().contains("want a worker id"), "{error}");
    table.retire_worker(key).await.expect("nothing to retire");
    assert_eq!(db.item(key).await, *lease);
}

#[rstest]
#[case::not_begun(None, true)]
#[case::deployed(Some("TABLE_MIGRATION_STATUS_DEPLOYED"), true)]
#[case::pending(Some("TABLE_MIGRATION_STATUS_PENDING"), false)]
#[case::complete(Some("TABLE_MIGRATION_STATUS_COMPLETE"), false)]
#[tokio::test]
async fn a_report_goes_where_the_leader_looks(
    #[case] migration: Option<&str>,
    #[case] aside: bool,
) {
    let db = DynamoDb::with_table().await;
    let state = format!("{APPLICATION}-CoordinatorState");
    let workers = format!("{APPLICATION}-WorkerMetricStats");
    db.create_table(&state, "key").await;
    db.create_table(&workers, "wid").await;
    if let Some(migration) = migration {
        let item = serde_json::json!({"key": {"S": "TableMigration3.5"}, "tm": {"S": migration}});
        db.put(&state, &from_json(&item)).await;
    }
    let table = db.table();
    table.kcl3_state().await.expect("an answer");
    table.report_worker("rust", now()).await.expect("reported");
    let scan = db.client.scan().table_name(&workers).send().await;
    assert_eq!(scan.expect("scanned").count, i32::from(aside));
    assert_eq!(db.items().await.len(), usize::from(!aside));
    table.retire_worker("rust").await.expect("retired");
    let scan = db.client.scan().table_name(&workers).send().await;
    assert_eq!(scan.expect("scanned").count, 0);
    assert_eq!(db.items().await, []);
}

/// Workers of the second phase report themselves among the leases, and wait for the last report
/// elsewhere: the table still says DEPLOYED.
#[tokio::test]
async fn a_report_follows_the_others_to_the_lease_table() {
    let db = DynamoDb::with_table().await;
    let (state, workers) = (
        format!("{APPLICATION}-CoordinatorState"),
        format!("{APPLICATION}-WorkerMetricStats"),
    );
    db.create_table(&state, "key").await;
    db.create_table(&workers, "wid").await;
    let javas = serde_json::json!({
        "leaseKey": {"S": "java"}, "entityType": {"S": "WORKER_METRIC_STATS"}, "lut": {"N": "1"}
    });
    db.put(TABLE, &from_json(&javas)).await;
    let table = db.table();
    table.kcl3_state().await.expect("an answer");
    table.scan().await.expect("scanned");
    table.report_worker("rust", now()).await.expect("reported");
    assert_eq!(db.items().await.len(), 2);
}

#[tokio::test]
async fn a_table_of_another_kind_is_refused() {
    let db = DynamoDb::start().await;
    db.create_table(TABLE, "email").await;
    let error = db
        .table()
        .ensure_exists()
        .await
        .expect_err("no lease table");
    assert!(matches!(error, TableError::Permanent(_)), "{error:?}");
    assert!(
        error.to_string().contains("email") && error.to_string().contains("want leaseKey"),
        "{error}"
    );
}

#[tokio::test]
async fn a_table_that_was_deleted_is_told() {
    let db = DynamoDb::with_table().await;
    db.client
        .delete_table()
        .table_name(TABLE)
        .send()
        .await
        .expect("deleted");
    let table = db.table();
    let lease = Lease::new("0", Checkpoint::Latest);
    for error in [
        table.scan().await.map(drop),
        table.create(&lease).await.map(drop),
        table.renew(&lease).await.map(drop),
    ] {
        let error = error.expect_err("no table");
        assert!(matches!(error, TableError::Permanent(_)), "{error:?}");
        assert!(
            error.to_string().contains("deleted while the worker ran"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn no_answer_is_unavailable() {
    let nobody = test_support::aws::dynamodb("http://127.0.0.1:1");
    let table = DynamoDbTable::new(nobody, TABLE, APPLICATION);
    let error = table.scan().await.expect_err("nobody listens");
    assert!(matches!(error, TableError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().starts_with("Scan on leases: "), "{error}");
}

/// What the program around the library sets for its own calls would make one renewal outlast the
/// lease.
#[tokio::test]
async fn a_call_for_a_lease_is_tried_again_whatever_the_client_has() {
    let db = DynamoDb::with_table().await;
    let config = db.client.config().to_builder();
    let times = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(600))
        .read_timeout(Duration::from_secs(600))
        .build();
    let config = config.timeout_config(times);
    let patient = Client::from_conf(config.retry_config(RetryConfig::disabled()).build());
    let table = DynamoDbTable::new(patient, TABLE, APPLICATION);
    let lease = Lease::new("0", Checkpoint::Latest);
    assert!(table.create(&lease).await.expect("created"));
    let lease = table.take(&lease, "a").await.expect("taken");
    db.faults().inject_on(TABLE, "UpdateItem", Fault::Hang, 1);
    let renewed = timeout(Duration::from_secs(60), table.renew(&lease)).await;
    let renewed = renewed.expect("not for the client's ten minutes");
    assert_eq!(renewed.expect("renewed").counter, lease.counter + 1);
}

#[tokio::test]
async fn a_scan_tells_what_is_no_lease_of_ours() {
    let db = DynamoDb::with_table().await;
    let item = |more: serde_json::Value| {
        let mut item = serde_json::json!({
            "leaseCounter": { "N": "3" }, "checkpoint": { "S": "TRIM_HORIZON" }
        });
        let fields = more.as_object().expect("an object").clone();
        item.as_object_mut().expect("an object").extend(fields);
        from_json(&item)
    };
    for more in [
        serde_json::json!({ "leaseKey": { "S": "good" }, "leaseOwner": { "S": "java" } }),
        serde_json::json!({ "leaseKey": { "S": "null" }, "checkpoint": { "N": "0" } }),
        serde_json::json!({ "leaseKey": { "S": "text" }, "leaseCounter": { "S": "3" } }),
        serde_json::json!({ "leaseKey": { "S": "none" }, "parentShardId": { "NULL": true } }),
        serde_json::json!({ "leaseKey": { "S": "parent" }, "parentShardId": { "N": "1" } }),
        serde_json::json!({
            "leaseKey": { "S": "since" }, "checkpoint": { "S": "LATEST" }, "latestSince": { "S": "noon" }
        }),
        serde_json::json!({
            "leaseKey": { "S": "1:orders:2:shardId-0" },
            "streamName": { "S": "1:orders:2" },
            "shardId": { "S": "shardId-0" }
        }),
        serde_json::json!({ "leaseKey": { "S": "Leader" }, "entityType": { "S": "LEADER" } }),
    ] {
        db.put(TABLE, &item(more)).await;
    }
    let mut scan = db.table().scan().await.expect("scanned");
    scan.broken.sort();
    let keys: Vec<_> = scan.broken.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["null", "parent", "since", "text"], "{scan:?}");
    assert_eq!(scan.leases.len(), 2, "{scan:?}");
    assert_eq!(scan.foreign[0].0, "1:orders:2:shardId-0");
    assert!(scan.has_others && !scan.shows_kcl3);
    let nameless = serde_json::json!({ "leaseKey": { "S": "1:orders:2:shardId-1" } });
    db.put(TABLE, &item(nameless)).await;
    let of_several = db.table().of_several_streams().scan().await;
    let of_several = of_several.expect("scanned");
    let mut broken = of_several.broken.iter();
    let (_, why) = broken
        .find(|(key, _)| key == "1:orders:2:shardId-1")
        .expect("no lease");
    assert!(why.starts_with("no streamName: want it"), "{why}");
    assert_eq!(of_several.leases.len(), 1, "{of_several:?}");
    let kcl3 = serde_json::json!({
        "leaseKey": { "S": "good" }, "leaseOwner": { "S": "java" }, "throughputKBps": { "N": "1" }
    });
    db.put(TABLE, &item(kcl3)).await;
    assert!(db.table().scan().await.expect("scanned").shows_kcl3);
    db.table()
        .read(&"null".into())
        .await
        .expect_err("not taken for absent");
}
