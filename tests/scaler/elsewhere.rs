//! A lease table that is not where the stream is: another region, another account, another
//! identity. The real binary, an STS on loopback, and a proxy before DynamoDB that sees what is
//! asked for.

use std::collections::BTreeSet;

use crate::check::{file, run};
use crate::support::world::{Application, SCALER_KEY};
use crate::support::*;
use keda_kinesis_scaler::proto::ScaledObjectRef;
use test_support::TableAsked;
use tonic::Code;

const TABLE: &str = "arn:aws:dynamodb:eu-central-1:444455556666:table/billing";
const STREAM_ROLE: &str = "arn:aws:iam::111122223333:role/keda-orders";
const TABLE_ROLE: &str = "arn:aws:iam::444455556666:role/keda-leases";

const CONFIG: &str = "
    aws: {refresh: 50ms, timeout: 2s, callsPerSecond: 1000, maxStale: 200ms}
    policy:
      - namespaces: [team-a]
        endpoints: ['http://127.0.0.1:*']
        roles: ['arn:aws:iam::111122223333:role/keda-*', 'arn:aws:iam::444455556666:role/keda-*']
        tables: ['*', 'arn:aws:dynamodb:*:444455556666:table/*']
";

/// An application with the leases of its two shards.
async fn with_leases() -> Application {
    let application = Application::start(2).await;
    let worker = application.run("one", 0);
    eventually("leases", application.leases(2)).await;
    worker.stop().await;
    application.stack.kinesis.clear_calls();
    application
}

/// What anyone but the tests' own identity asked DynamoDB for.
fn asked(application: &Application) -> Vec<TableAsked> {
    let asked = application.dynamodb.tables_asked().into_iter();
    asked.filter(|it| it.access_key != ACCESS_KEY).collect()
}

/// The roles that were assumed, each with its external id.
fn assumed(application: &Application) -> BTreeSet<(String, Option<String>)> {
    let calls = application.stack.kinesis.calls().into_iter();
    let assumed = calls.filter(|call| call.operation == "AssumeRole");
    assumed
        .map(|call| (call.role_arn.unwrap_or_default(), call.external_id))
        .collect()
}

#[tokio::test]
async fn a_table_by_arn_is_asked_for_in_its_region_and_account_as_its_role() {
    let application = with_leases().await;
    let identities = application.stack.kinesis.identities();
    identities.require_external_id(STREAM_ROLE, "orders-1");
    identities.require_external_id(TABLE_ROLE, "leases-1");
    let scaler = application.scaler(CONFIG).await;
    let object = application.trigger(
        "readableShards",
        &[
            ("awsRoleArn", STREAM_ROLE),
            ("awsExternalId", "orders-1"),
            ("leaseTable", TABLE),
            ("leaseTableRoleArn", TABLE_ROLE),
            ("leaseTableExternalId", "leases-1"),
        ],
    );
    wait_for_value(&mut scaler.client().await, &object, 2.0).await;

    let [table] = &asked(&application)[..] else {
        panic!("{:?}", asked(&application))
    };
    assert_eq!((&*table.table, &*table.region), (TABLE, "eu-central-1"));
    let calls = application.stack.kinesis.calls();
    let listed = calls.iter().find(|call| call.operation == "ListShards");
    let listed = listed.unwrap();
    assert_eq!(listed.region, REGION);
    assert!(table.access_key.starts_with("ASIA"), "{table:?}");
    assert!(listed.access_key_id.starts_with("ASIA"), "{listed:?}");
    assert_ne!(table.access_key, listed.access_key_id);
    let role = |arn: &str, id: &str| (arn.to_owned(), Some(id.to_owned()));
    let path = "/explain/team-a/scaled-object?format=json";
    let (_, explained) = http_get(scaler.admin, path).await;
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    let shown = explained["triggers"][0]["metadata"].as_array().unwrap();
    for (key, value) in [
        ("leaseTable", TABLE),
        ("leaseTableRegion", "eu-central-1"),
        ("leaseTableRoleArn", TABLE_ROLE),
        ("leaseTableExternalId", "given, not shown"),
    ] {
        let pair = serde_json::json!({"key": key, "value": value});
        assert!(shown.contains(&pair), "{pair} is not in {shown:?}");
    }
    assert_eq!(
        assumed(&application),
        [role(STREAM_ROLE, "orders-1"), role(TABLE_ROLE, "leases-1")].into()
    );
}

#[tokio::test]
async fn tables_of_one_name_in_two_places_are_two_sources() {
    let application = with_leases().await;
    let scaler = application.scaler(CONFIG).await;
    let mut client = scaler.client().await;
    // In the scaler's own account, beside a stream of another; and where the stream is.
    let role = ("awsRoleArn", STREAM_ROLE);
    let own = [
        role,
        ("leaseTableRoleArn", "none"),
        ("leaseTableRegion", "eu-north-1"),
    ];
    for more in [&own[..], &[role]] {
        let object = application.trigger("readableShards", more);
        wait_for_value(&mut client, &object, 2.0).await;
    }
    let asked = asked(&application);
    assert_eq!(asked.len(), 2, "{asked:?}");
    let of = |region: &str| asked.iter().find(|it| it.region == region).unwrap();
    let (own, beside) = (of("eu-north-1"), of(REGION));
    assert_eq!((&*own.table, &*own.access_key), ("billing", SCALER_KEY));
    assert_eq!(beside.table, "billing");
    assert!(beside.access_key.starts_with("ASIA"), "{beside:?}");
}

type Keys<'a> = &'a [(&'a str, &'a str)];

async fn refusal(scaler: &Process, object: &ScaledObjectRef, wanted: &[&str]) {
    let status = wait_for_code(&mut scaler.client().await, object, Code::NotFound).await;
    for wanted in wanted {
        let message = status.message();
        assert!(message.contains(wanted), "{wanted} is missing in {message}");
    }
}

#[tokio::test]
async fn a_missing_table_is_an_error_where_a_role_or_a_region_is_in_play() {
    let application = Application::start(2).await;
    let scaler = application.scaler(CONFIG).await;
    let role = ("awsRoleArn", STREAM_ROLE);
    let region = ("leaseTableRegion", "eu-central-1");
    let cases: [(Keys<'_>, &[&str]); 4] = [
        (
            &[role],
            &[
                "no lease table billing in us-east-1",
                STREAM_ROLE,
                "onMissingTable",
            ],
        ),
        (
            &[region],
            &["no lease table billing in eu-central-1", "leaseTableRegion"],
        ),
        (&[("leaseTable", TABLE)], &[TABLE, "correct leaseTable"]),
        (
            &[role, ("leaseTableRoleArn", "none")],
            &["no lease table billing in us-east-1", "leaseTableRoleArn"],
        ),
    ];
    for (more, wanted) in cases {
        for scale_on in ["readableShards", "lag"] {
            refusal(&scaler, &application.trigger(scale_on, more), wanted).await;
        }
        let more = [more, &[("onMissingTable", "activate")]].concat();
        let object = application.trigger("lag", &more);
        wait_for_value(&mut scaler.client().await, &object, 1.0).await;
    }
}

#[tokio::test]
async fn check_shows_where_the_table_is_and_who_asks() {
    let application = with_leases().await;
    let manifest = |more: &[(&str, &str)]| {
        let metadata = application.trigger("readableShards", more).scaler_metadata;
        let lines = metadata
            .iter()
            .map(|(key, value)| format!("        {key}: \"{value}\"\n"));
        format!(
            "kind: ScaledObject\nmetadata: {{name: billing, namespace: team-a}}\nspec:\n  triggers:\n    - type: external\n      metadata:\n{}",
            lines.collect::<String>()
        )
    };
    let kinesis = application.stack.kinesis.endpoint();
    let checked = async |more: &[(&str, &str)]| {
        let yaml = file(&manifest(more));
        let path = yaml.path().to_str().unwrap();
        run(&kinesis, CONFIG, "", &["-f", path]).await
    };
    let role = ("leaseTableRoleArn", TABLE_ROLE);
    let shown = checked(&[("leaseTable", TABLE), role]).await;
    assert_eq!(shown.code, Some(0), "{}{}", shown.text, shown.complaint);
    for part in [
        &format!("leaseTable               {TABLE}\n"),
        "leaseTableRegion         eu-central-1 (default)\n",
        &format!("leaseTableRoleArn        {TABLE_ROLE}\n"),
        "onMissingTable           error (default)\n",
        "asks for the table as    arn:aws:sts::444455556666:assumed-role/keda-leases/",
        "✓ dynamodb:Scan",
    ] {
        assert!(
            shown.text.contains(part),
            "{part:?} is not in\n{}",
            shown.text
        );
    }

    let missing = checked(&[("leaseTable", "bilings"), role]).await;
    assert_eq!(missing.code, Some(1), "{}", missing.text);
    let wanted = "there is no lease table bilings in us-east-1";
    assert!(missing.text.contains(wanted), "{}", missing.text);

    // What is asked for is of the table's own account and region.
    application.dynamodb.faults().inject_on(
        "billing",
        "Scan",
        embedded_kinesis::Fault::aws("AccessDeniedException", "injected"),
        embedded_kinesis::FOREVER,
    );
    let denied = checked(&[("leaseTableRegion", "eu-north-1"), role]).await;
    let wanted = "dynamodb:Scan on arn:aws:dynamodb:eu-north-1:444455556666:table/billing:";
    assert!(denied.text.contains(wanted), "{}", denied.text);
}
