//! What is missing, wrong or denied is said at the start, with the command that mends it, and exit
//! code 1.

use crate::support::{self, APPLICATION, Setup, TABLE, World};
use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType};
use embedded_kinesis::{FOREVER, Fault};
use rstest::rstest;

/// Runs to the end and wants code 1 and `wanted` in the log.
async fn refuses(consumer: Setup, wanted: &[&str]) {
    let (code, log) = consumer.run().await;
    assert_eq!(code, 1, "{log}");
    let log = log.replace("\\\"", "\"");
    for wanted in wanted {
        assert!(log.contains(wanted), "want {wanted}\nin {log}");
    }
}

#[tokio::test]
async fn all_that_is_missing_is_told_at_once() {
    let world = World::empty().await;
    refuses(
        world.consumer("pod-1").with("REJECTS_TABLE", "rejects"),
        &[
            "stream orders does not exist in us-east-1",
            "aws kinesis create-stream --stream-name orders",
            "table users does not exist in us-east-1",
            "aws dynamodb create-table --table-name users --attribute-definitions AttributeName=email,AttributeType=S",
            "rejects table rejects does not exist",
            "--key-schema AttributeName=record,KeyType=HASH AttributeName=part,KeyType=RANGE",
            "ResourceNotFoundException",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_key_that_no_partition_key_fits_is_refused() {
    let world = World::empty().await;
    world.stream(1).await;
    let hash = |name| (name, KeyType::Hash, ScalarAttributeType::S);
    world
        .table(
            "sorted",
            &[
                hash("email"),
                ("city", KeyType::Range, ScalarAttributeType::S),
            ],
        )
        .await;
    world
        .table("numbered", &[("id", KeyType::Hash, ScalarAttributeType::N)])
        .await;
    world.table("ours", &[hash("kinesis_position")]).await;
    for (table, told) in [
        ("sorted", "has the key email (HASH, S) and city (RANGE, S)"),
        ("numbered", "has the key id (HASH, N)"),
        ("ours", "has the key kinesis_position (HASH, S)"),
    ] {
        refuses(
            world.consumer("pod-1").with("TABLE_NAME", table),
            &[
                told,
                "want one HASH key of type S",
                &format!("aws dynamodb create-table --table-name {table}-2"),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_rejects_table_with_another_key_is_refused() {
    let world = World::tutorial(1).await;
    world
        .table(
            "rejects",
            &[("record", KeyType::Hash, ScalarAttributeType::S)],
        )
        .await;
    refuses(
        world.consumer("pod-1").with("REJECTS_TABLE", "rejects"),
        &[
            "has the key record (HASH, S): want record (HASH, S) and part (RANGE, N)",
            "create-table --table-name rejects-2",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_denied_is_told_with_the_policy_that_allows_it() {
    let world = World::tutorial(1).await;
    world
        .embedded
        .faults()
        .inject("ListShards", Fault::access_denied(), FOREVER);
    let table = "arn:aws:dynamodb:us-east-1:111122223333:table/users";
    world.dynamodb.faults().inject_on(
        TABLE,
        "DescribeTable",
        Fault::aws(
            "AccessDeniedException",
            format!("{NOT_AUTHORIZED}: dynamodb:DescribeTable on resource: {table} because no identity-based policy allows the dynamodb:DescribeTable action"),
        ),
        FOREVER,
    );
    refuses(
        world.consumer("pod-1"),
        &[
            "AccessDeniedException",
            "aws iam put-role-policy",
            "\"kinesis:ListShards\",\"kinesis:GetShardIterator\",\"kinesis:GetRecords\"",
            "arn:aws:kinesis:us-east-1:*:stream/orders",
            "\"dynamodb:DescribeTable\",\"dynamodb:PutItem\"",
            table,
        ],
    )
    .await;
}

const NOT_AUTHORIZED: &str =
    "User: arn:aws:sts::111122223333:assumed-role/consumer/1 is not authorized to perform";

/// AWS's own words, which no emulator says: where no statement helps, none is told.
#[tokio::test]
async fn what_a_statement_would_not_mend_is_told_as_that() {
    let stream = "arn:aws:kinesis:us-east-1:111122223333:stream/orders";
    for (why, wanted) in [
        (
            " with an explicit deny in a service control policy",
            "the organization's administrators must change it",
        ),
        (
            " because no VPC endpoint policy allows the kinesis:ListShards action",
            "the endpoint's owner must change it",
        ),
        ("", "AWS does not say what denies kinesis:ListShards"),
    ] {
        let world = World::tutorial(1).await;
        let message = format!("{NOT_AUTHORIZED}: kinesis:ListShards on resource: {stream}{why}");
        let fault = Fault::aws("AccessDeniedException", &message);
        world.embedded.faults().inject("ListShards", fault, FOREVER);
        let (code, log) = world.consumer("pod-1").run().await;
        assert_eq!(code, 1, "{log}");
        assert!(log.contains(&message) && log.contains(wanted), "{log}");
        assert!(!log.contains("put-role-policy"), "{log}");
    }
}

#[tokio::test]
async fn a_lease_table_that_is_denied_is_told() {
    let world = World::tutorial(1).await;
    for operation in ["DescribeTable", "CreateTable", "Scan"] {
        world.dynamodb.faults().inject_on(
            support::APPLICATION,
            operation,
            Fault::access_denied(),
            FOREVER,
        );
    }
    refuses(
        world.consumer("pod-1"),
        &[
            "lease table demo-app",
            "AccessDeniedException",
            "aws iam put-role-policy",
            "dynamodb:UpdateItem",
        ],
    )
    .await;
}

#[tokio::test]
async fn no_credentials_no_region_no_endpoint_are_told() {
    let world = World::tutorial(1).await;
    let nobody = world
        .consumer("pod-1")
        .without("AWS_ACCESS_KEY_ID")
        .with("AWS_EC2_METADATA_DISABLED", "true");
    refuses(
        nobody,
        &[
            "no credentials found",
            "IRSA or EKS Pod Identity",
            "aws sts get-caller-identity",
        ],
    )
    .await;
    let nowhere = world
        .consumer("pod-1")
        .without("AWS_REGION")
        .with("AWS_EC2_METADATA_DISABLED", "true");
    refuses(nowhere, &["AWS_REGION \"\": want a region"]).await;
    let elsewhere = world.consumer("pod-1").with(
        "STREAM_NAME",
        "arn:aws:kinesis:eu-west-1:111122223333:stream/orders",
    );
    refuses(
        elsewhere,
        &["AWS_REGION \"us-east-1\": want the region of the ARN"],
    )
    .await;
    let unreachable = world
        .consumer("pod-1")
        .with("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:9");
    refuses(
        unreachable,
        &[
            "stream orders cannot be used",
            "Connection refused",
            "a network path from here to AWS",
        ],
    )
    .await;
}

#[tokio::test]
async fn settings_that_are_missing_or_wrong_are_told() {
    let world = World::tutorial(1).await;
    for (name, value, wanted) in [
        ("STREAM_NAME", None, "--stream-name"),
        ("TABLE_NAME", Some(""), "--table-name"),
        (
            "INITIAL_POSITION",
            Some("yesterday"),
            "want TRIM_HORIZON, LATEST or a time",
        ),
        ("ON_REJECT", Some("drop"), "skip, halt"),
        ("LOG_LEVEL", Some("a=b=c"), "want error, warn, info"),
    ] {
        let consumer = world.consumer("pod-1").without(name);
        let consumer = if let Some(value) = value {
            consumer.with(name, value)
        } else {
            consumer
        };
        let (code, log) = consumer.run().await;
        assert_eq!(code, 2, "{log}");
        assert!(log.contains(wanted), "{log}");
    }
}

#[tokio::test]
async fn a_second_consumer_on_one_machine_is_told_the_flag_once() {
    let world = World::tutorial(1).await;
    let first = world.consumer("pod-1").start();
    let line: serde_json::Value = serde_json::from_str(&first.logged("admin port").await).unwrap();
    let address = line["address"].as_str().unwrap();
    let (code, log) = world.consumer("pod-2").with("ADMIN", address).run().await;
    assert_eq!(code, 1, "{log}");
    assert_eq!(log.matches("--admin").count(), 1, "{log}");
    assert!(log.contains("--admin 127.0.0.1:0"), "{log}");
    let second = world
        .consumer("pod-2")
        .with("ADMIN", address)
        .argument("--admin=127.0.0.1:0")
        .start();
    second.consuming().await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_stream_may_be_given_by_its_arn() {
    let world = World::tutorial(1).await;
    world.put("ann", r#"{"v":1}"#).await;
    let arn = world.embedded.stream_arn(support::STREAM);
    let consumer = world.consumer("pod-1").with("STREAM_NAME", &arn).start();
    world.user_when("ann", |_| true).await;
    consumer.stop().await;
}

// === what is there, and cannot be used ===

/// All three tables; the lease table is an older worker's.
async fn with_tables() -> (World, Setup) {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    world.table(APPLICATION, &[key]).await;
    let consumer = world.consumer("pod-1").with("REJECTS_TABLE", "rejects");
    (world, consumer)
}

#[rstest]
#[tokio::test]
async fn a_table_that_is_not_ready_is_waited_for_with_its_reason(
    #[values(TABLE, "rejects", APPLICATION)] table: &str,
    #[values("CREATING", "INACCESSIBLE_ENCRYPTION_CREDENTIALS")] status: &'static str,
) {
    let (world, consumer) = with_tables().await;
    world.dynamodb.set_status(table, Some(status));
    world.put("ann", "{}").await;
    let running = consumer.start();
    if (table, status) == (APPLICATION, "CREATING") {
        // That is routine; it is told after ten seconds.
        world.dynamodb.wait_for_calls("DescribeTable", 6).await;
    } else {
        running.logged(status).await;
    }
    let (ready, _) = running.get("/readyz").await;
    assert_eq!(ready, 503);
    assert_eq!(running.get("/livez").await.0, 200);
    world.dynamodb.set_status(table, None);
    world.user_when("ann", |_| true).await;
    running.stop().await;
}

#[rstest]
#[tokio::test]
async fn a_table_that_stays_unusable_ends_the_process_with_its_cause(
    #[values(TABLE, "rejects", APPLICATION)] table: &str,
) {
    let (world, consumer) = with_tables().await;
    world.dynamodb.set_status(table, Some("ARCHIVED"));
    let told = [table, "ARCHIVED", "restore it from the backup"];
    refuses(consumer.with("GIVE_UP_AFTER", "1s"), &told).await;
}

/// Kubernetes may want the pod gone before it has begun.
#[rstest]
#[case::the_stream("ListShards", None)]
#[case::the_table("DescribeTable", Some(TABLE))]
#[case::the_rejects_table("DescribeTable", Some("rejects"))]
#[case::the_lease_table("DescribeTable", Some(APPLICATION))]
#[case::its_creation("CreateTable", Some(APPLICATION))]
#[case::its_leases("Scan", Some(APPLICATION))]
#[case::a_leader("BatchGetItem", Some(APPLICATION))]
#[case::the_first_lease("PutItem", Some(APPLICATION))]
#[case::the_first_take("UpdateItem", Some(APPLICATION))]
#[tokio::test]
async fn sigterm_ends_a_start_that_hangs(#[case] operation: &str, #[case] table: Option<&str>) {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    let consumer = world.consumer("pod-1").with("REJECTS_TABLE", "rejects");
    match table {
        Some(table) => {
            let faults = world.dynamodb.faults();
            faults.inject_on(table, operation, Fault::Hang, FOREVER);
        }
        None => world
            .embedded
            .faults()
            .inject(operation, Fault::Hang, FOREVER),
    }
    let running = consumer.start();
    let asked = async || match table {
        Some(table) => {
            let tallies = world.dynamodb.tallies_on(table);
            tallies.iter().any(|(called, _)| called == operation)
        }
        None => running.log().contains("admin port"),
    };
    support::until("the call", async || asked().await.then_some(())).await;
    running.stop().await;
}

/// The lease table was deleted while nobody ran.
#[tokio::test]
async fn a_start_without_leases_is_told() {
    let world = World::tutorial(1).await;
    let latest = world.consumer("pod-1").with("INITIAL_POSITION", "LATEST");
    let first = latest.start();
    first.consuming().await;
    first
        .metric_when("started_anew_total", "LATEST", |count| count == 1.0)
        .await;
    first.stop().await;
    let second = latest.start();
    second
        .metric_when("current_leases", "", |count| count == 1.0)
        .await;
    assert_eq!(second.metric("started_anew_total", "").await, None);
    second.stop().await;
    let delete = world.dynamodb.client.delete_table().table_name(APPLICATION);
    delete.send().await.unwrap();
    let third = latest.start();
    third.logged("what arrived before is not read").await;
    third.stop().await;
}
