//! `check`, the real binary, before embedded Kinesis and DynamoDB.

use std::io::Write as _;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::support::world::Application;
use crate::support::*;
use embedded_kinesis::{FOREVER, Fault};
use rstest::rstest;
use serde_json::Value;

pub const CONFIG: &str = "policy: [{namespaces: ['team-*'], endpoints: ['http://127.0.0.1:*']}]";

pub fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn manifest(application: &Application, scale_on: &str) -> String {
    let metadata = application.trigger(scale_on, &[]).scaler_metadata;
    let mut lines: Vec<_> = metadata
        .iter()
        .map(|(key, value)| format!("        {key}: \"{value}\""))
        .collect();
    lines.sort();
    format!(
        "kind: ScaledObject\nmetadata: {{name: billing, namespace: team-a}}\nspec:\n  triggers:\n    - type: external\n      metadata:\n        secretFromEnv: SECRET\n{}\n",
        lines.join("\n")
    )
}

/// A run of `check`: exit code, what was printed, what was complained of.
pub struct Checked {
    pub code: Option<i32>,
    pub text: String,
    pub complaint: String,
}

/// Runs `check` with this configuration, and this on its standard input.
pub async fn run(kinesis: &str, config: &str, input: &str, args: &[&str]) -> Checked {
    let (config, input) = (file(config), file(input));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_keda-kinesis-scaler"));
    command
        .arg("check")
        .args(args)
        .arg("--config")
        .arg(config.path())
        .stdin(input.reopen().unwrap())
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_ENDPOINT_URL_STS", kinesis);
    let output = eventually("check to end", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Checked {
        code: output.status.code(),
        text: text(output.stdout),
        complaint: text(output.stderr),
    }
}

/// Whether every trigger would be answered, what was printed, what was complained of.
async fn check(application: &Application, args: &[&str]) -> (bool, String, String) {
    let kinesis = application.stack.kinesis.endpoint();
    let checked = run(&kinesis, CONFIG, "", args).await;
    (checked.code == Some(0), checked.text, checked.complaint)
}

/// An application that has read one record and left another.
async fn one_behind() -> Application {
    let application = Application::start(2).await;
    let worker = application.run("pod-1", 100);
    eventually("leases", application.leases(2)).await;
    worker.stop().await;
    application.put("a").await;
    application
}

#[tokio::test]
async fn a_good_trigger_is_shown_with_all_that_was_seen() {
    let application = one_behind().await;
    let yaml = file(&manifest(&application, "lag"));
    let path = yaml.path().to_str().unwrap();
    let (ok, text, complaint) = check(&application, &["-f", path]).await;
    assert!(ok, "{text}{complaint}");
    for part in [
        "team-a/billing triggers[0] (external), namespace team-a",
        "lagThreshold             30s (default)",
        "secretFromEnv            ignored; KEDA puts the variable's value in its place",
        "asks as                  arn:aws:",
        "✓ dynamodb:Scan",
        "✓ kinesis:ListShards",
        "✓ kinesis:GetShardIterator",
        "✓ kinesis:GetRecords",
        "lease table: 2 leases",
        "shardId-000000000000 open, unread for ",
        "KEDA would be told: aws-kinesis-orders = 1, target 1, active: replicas 1",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }

    let (ok, text, _) = check(&application, &["-f", path, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&text).unwrap();
    assert!(ok);
    let trigger = &json["triggers"][0];
    assert_eq!(trigger["told"]["value"], 1);
    assert_eq!(
        trigger["application"]["shards"].as_array().unwrap().len(),
        2
    );
    assert_eq!(trigger["ignored"], serde_json::json!(["secretFromEnv"]));
    assert!(!text.contains("SECRET"), "{text}");
}

#[tokio::test]
async fn a_missing_permission_is_shown_with_the_statement_that_would_give_it() {
    let application = one_behind().await;
    let yaml = file(&manifest(&application, "lag"));
    let path = yaml.path().to_str().unwrap();
    let faults = application.stack.kinesis.faults();
    faults.inject("GetRecords", Fault::access_denied(), FOREVER);
    let (ok, text, complaint) = check(&application, &["-f", path]).await;
    assert!(!ok);
    assert!(text.contains("✗ kinesis:GetRecords"), "{text}");
    let statement = r#"{"Effect":"Allow","Action":["kinesis:GetRecords"],"Resource":["arn:aws:kinesis:us-east-1:"#;
    assert!(text.contains(statement), "{text}");
    assert!(
        text.contains("KEDA would get the error PERMISSION_DENIED"),
        "{text}"
    );
    assert!(
        complaint.contains("an error for 1 of 1 triggers"),
        "{complaint}"
    );
    faults.clear();

    application.dynamodb.faults().inject_on(
        "billing",
        "Scan",
        Fault::aws(
            "AccessDeniedException",
            "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: dynamodb:Scan on resource: arn:aws:dynamodb:us-east-1:111122223333:table/billing because no identity-based policy allows the dynamodb:Scan action",
        ),
        FOREVER,
    );
    let (ok, text, _) = check(&application, &["-f", path]).await;
    assert!(!ok);
    assert!(text.contains("✗ dynamodb:Scan"), "{text}");
    let statement = r#"{"Effect":"Allow","Action":["dynamodb:Scan"],"Resource":["arn:aws:dynamodb:us-east-1:111122223333:table/billing"]}"#;
    assert!(text.contains(statement), "{text}");
}

/// AWS's own words, which no emulator says.
#[rstest]
#[case::key(
    "KMSAccessDeniedException",
    "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:111122223333:key/1234 because no identity-based policy allows the kms:Decrypt action",
    r#"{"Effect":"Allow","Action":["kms:Decrypt"],"Resource":["arn:aws:kms:us-east-1:111122223333:key/1234"]}"#
)]
#[case::key_policy(
    "KMSAccessDeniedException",
    "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:444455556666:key/1234 because no resource-based policy allows the kms:Decrypt action",
    "the key's owner must add it"
)]
#[case::endpoint(
    "AccessDeniedException",
    "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:111122223333:stream/orders because no VPC endpoint policy allows the kinesis:GetRecords action",
    "the endpoint's owner must change it"
)]
#[case::organization(
    "AccessDeniedException",
    "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:111122223333:stream/orders with an explicit deny in a service control policy: arn:aws:organizations::777788889999:policy/o-exampleorgid/service_control_policy/p-example",
    "the organization's administrators must change it"
)]
#[case::boundary(
    "AccessDeniedException",
    "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:111122223333:stream/orders because no permissions boundary allows the kinesis:GetRecords action",
    "whoever sets boundaries in its account must change it"
)]
#[case::unsaid(
    "AccessDeniedException",
    "User: arn:aws:sts::111122223333:assumed-role/scaler/1 is not authorized to perform: kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:111122223333:stream/orders",
    "AWS does not say what denies kinesis:GetRecords on arn:aws:kinesis:us-east-1:111122223333:stream/orders: see that"
)]
#[tokio::test]
async fn a_denial_has_the_remedy_that_awss_words_ask_for(
    #[case] code: &str,
    #[case] message: &str,
    #[case] remedy: &str,
) {
    let application = one_behind().await;
    let faults = application.stack.kinesis.faults();
    faults.inject("GetRecords", Fault::aws(code, message), FOREVER);
    let yaml = file(&manifest(&application, "lag"));
    let path = yaml.path().to_str().unwrap();
    let (ok, text, _) = check(&application, &["-f", path]).await;
    assert!(!ok);
    let (permissions, told) = text.split_once("would get the error").unwrap();
    // Whole, and once a place: at the call, and in KEDA's answer.
    for text in [permissions, told] {
        assert_eq!(text.matches(message).count(), 1, "{text}");
        assert_eq!(text.matches(remedy).count(), 1, "{text}");
    }
    let (_, json, _) = check(&application, &["-f", path, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let tried = json["triggers"][0]["permissions"].as_array().unwrap();
    let statement = tried.iter().find(|it| it["ok"] == false).unwrap();
    assert_eq!(statement["statement"].is_object(), remedy.starts_with('{'));
}

#[tokio::test]
async fn wrong_keys_and_a_refusing_policy_are_what_keda_would_get() {
    let application = Application::start(1).await;
    let set = [
        "--set",
        "streamName=orders",
        "--set",
        "awsRegion=us-east-1",
        "--set",
        "shardCount=two",
    ];
    let (ok, text, _) = check(&application, &set).await;
    assert!(!ok);
    assert!(
        text.contains("shardCount \"two\": want a whole number"),
        "{text}"
    );

    let endpoint = format!("awsEndpoint={}", application.stack.kinesis.endpoint());
    let set = [
        "--set",
        "streamName=orders",
        "--set",
        "awsRegion=us-east-1",
        "--set",
        &endpoint,
    ];
    let (ok, text, _) = check(&application, &set).await;
    assert!(!ok);
    assert!(
        text.contains("is refused for namespace \"default\""),
        "{text}"
    );

    let (ok, text, _) = check(
        &application,
        &[&set[..], &["--namespace", "team-b"]].concat(),
    )
    .await;
    assert!(ok, "{text}");
    assert!(text.contains("✓ kinesis:DescribeStreamSummary"), "{text}");
    assert!(
        text.contains("aws-kinesis-orders = 1, target 2, active"),
        "{text}"
    );
}

#[tokio::test]
async fn an_application_that_never_ran_is_what_the_trigger_says() {
    let application = Application::start(1).await;
    let yaml = file(&manifest(&application, "readableShards"));
    let (ok, text, _) = check(&application, &["-f", yaml.path().to_str().unwrap()]).await;
    assert!(ok, "{text}");
    assert!(text.contains("lease table: no such table"), "{text}");
    assert!(text.contains("as onMissingTable says"), "{text}");

    let application = Application::start(1).await;
    let yaml = manifest(&application, "lag") + "        onMissingTable: error\n";
    let yaml = file(&yaml);
    let (ok, text, _) = check(&application, &["-f", yaml.path().to_str().unwrap()]).await;
    assert!(!ok, "{text}");
    assert!(text.contains("lease table: no such table"), "{text}");
    assert!(text.contains("would get the error NOT_FOUND"), "{text}");
}

#[tokio::test]
async fn leases_of_an_older_stream_are_told_as_the_scaler_tells_them() {
    let application = Application::start(1).await;
    let worker = application.run("pod-1", 0);
    eventually("leases", application.leases(1)).await;
    worker.stop().await;
    // Finished, although its shard is open.
    let finished = application.table.update_item().table_name("billing");
    let key = AttributeValue::S("shardId-000000000000".to_owned());
    let finished = finished
        .key("leaseKey", key)
        .update_expression("SET checkpoint = :end")
        .expression_attribute_values(":end", AttributeValue::S("SHARD_END".to_owned()));
    finished.send().await.unwrap();
    let yaml = file(&manifest(&application, "lag"));
    let (ok, text, _) = check(&application, &["-f", yaml.path().to_str().unwrap()]).await;
    assert!(!ok, "{text}");
    assert!(text.contains("StreamMadeAnew"), "{text}");
}

#[tokio::test]
async fn a_threshold_below_the_checkpoint_interval_is_warned_of() {
    let application = Application::start(1).await;
    // It holds and renews its lease, and checkpoints nothing.
    let worker = application.run("pod-1", 0);
    eventually("leases", application.leases(1)).await;
    application.put("a").await;
    let yaml = file(&manifest(&application, "lag").replace(
        "        scaleOn:",
        "        lagThreshold: \"1s\"\n        scaleOn:",
    ));
    let config = format!("{CONFIG}\naws: {{refresh: 500ms}}");
    let kinesis = application.stack.kinesis.endpoint();
    let path = yaml.path().to_str().unwrap();
    let checked = run(&kinesis, &config, "", &["-f", path]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.complaint);
    for part in [
        "  warning: lagThreshold: 1.0 s is less than the ",
        " for which the checkpoint of shardId-000000000000 stands, although pod-1 renews its lease: ",
        "want at least ",
    ] {
        assert!(
            checked.text.contains(part),
            "{part:?} is not in\n{}",
            checked.text
        );
    }
    worker.stop().await;
}
