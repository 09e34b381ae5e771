//! `examples/iam`: each of the scaler's policies allows what the scaler calls for it, and nothing
//! else.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::world::{Application, SCALER_KEY};
use crate::support::*;
use embedded_kinesis::{FOREVER, Fault};
use rstest::rstest;
use serde_json::Value;
use test_support::policy;

const NAMES: &[(&str, &str)] = &[
    ("kinesis-keda-demo", "orders"),
    ("kinesis-keda-demo-consumer", "billing"),
    ("keda-*", "keda-orders"),
];

const CONFIG: &str = "
    aws: {refresh: 50ms, timeout: 2s, callsPerSecond: 1000}
    policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*'], roles: ['arn:aws:iam::111122223333:role/keda-*']}]
";

fn needed(application: &Application) -> BTreeSet<policy::Permission> {
    let tables = application.dynamodb.called_by(SCALER_KEY);
    policy::needed(&application.stack.kinesis.calls(), tables, SCALER_KEY)
}

#[rstest]
#[case("scaler-policy.json", &["openShards"])]
#[case("scaler-readable-shards-policy.json", &["openShards", "readableShards"])]
#[case("scaler-lag-policy.json", &["openShards", "readableShards", "lag"])]
#[tokio::test]
async fn a_policy_is_what_the_scaler_calls(#[case] file: &str, #[case] scale_ons: &[&str]) {
    let application = Application::start(2).await;
    application.put("a").await;
    // It makes the lease table, and leaves the record unread.
    let worker = application.run("one", 0);
    application
        .stack
        .kinesis
        .wait_for_calls("GetRecords", 2)
        .await;
    worker.stop().await;
    let scaler = application.scaler(CONFIG).await;
    let mut client = scaler.client().await;

    for scale_on in scale_ons {
        let object = match *scale_on {
            "openShards" => application.stack.object("orders", &[]),
            other => application.trigger(other, &[]),
        };
        let value = if *scale_on == "lag" { 1.0 } else { 2.0 };
        wait_for_value(&mut client, &object, value).await;
    }
    // Others use up the quota of DescribeStreamSummary: it goes on by ListShards.
    let faults = application.stack.kinesis.faults();
    faults.inject("DescribeStreamSummary", Fault::throttling(), FOREVER);
    application.stack.update_shard_count("orders", 4).await;
    wait_for_value(&mut client, &application.stack.object("orders", &[]), 4.0).await;

    assert_eq!(needed(&application), policy::allowed(file, NAMES));
}

#[tokio::test]
async fn a_role_needs_the_policy_to_assume_it_and_nothing_else() {
    let application = Application::start(2).await;
    let scaler = application.scaler(CONFIG).await;
    let role = ("awsRoleArn", "arn:aws:iam::111122223333:role/keda-orders");
    let object = application.stack.object("orders", &[role]);
    let asked = async {
        while !needed(&application)
            .iter()
            .any(|(action, _)| action == "sts:AssumeRole")
        {
            let _ = value(&mut scaler.client().await, &object).await;
        }
    };
    eventually("the role to be assumed", asked).await;
    assert_eq!(
        needed(&application),
        policy::allowed("scaler-assume-role-policy.json", NAMES)
    );
}

#[tokio::test]
async fn the_role_of_a_lease_table_reads_it_and_nothing_else() {
    let application = Application::start(2).await;
    let scaler = application.scaler(CONFIG).await;
    let role = (
        "leaseTableRoleArn",
        "arn:aws:iam::111122223333:role/keda-orders",
    );
    let object = application.trigger("readableShards", &[role]);
    // It looked for the table, which nobody has made.
    wait_for_code(&mut scaler.client().await, &object, tonic::Code::NotFound).await;
    let tables = application.dynamodb.tables_asked();
    let role = tables.iter().find(|it| it.access_key.starts_with("ASIA"));
    let role = role.unwrap().access_key.clone();
    let needed = policy::needed(
        &application.stack.kinesis.calls(),
        application.dynamodb.called_by(&role),
        &role,
    );
    assert_eq!(
        needed,
        policy::allowed("scaler-lease-table-policy.json", NAMES)
    );
}

#[test]
fn the_stacks_statements_are_those_of_the_policies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/iam");
    let stack = fs::read_to_string(folder.join("cloudformation.yaml")).unwrap();
    let mut seen = 0;
    for file in [
        "scaler-lag-policy.json",
        "consumer-policy.json",
        "consumer-fan-out-policy.json",
    ] {
        let policy = fs::read_to_string(folder.join(file)).unwrap();
        let policy: Value = serde_json::from_str(&policy).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let sid = format!("Sid: {}\n", statement["Sid"].as_str().unwrap());
            let (_, of_stack) = stack.split_once(&sid).unwrap();
            let (actions, _) = of_stack.split_once("Resource:").unwrap();
            let actions: Vec<_> = actions.split('"').skip(1).step_by(2).collect();
            assert_eq!(statement["Action"], serde_json::json!(actions), "{sid}");
            seen += 1;
        }
    }
    assert_eq!(
        stack.matches("Sid: ").count(),
        seen,
        "the stack has statements of its own"
    );
}
