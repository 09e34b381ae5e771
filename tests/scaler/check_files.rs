//! The files that `check` reads, by the real binary: what it finds in them, what it says of it, and
//! its exit code.

use std::{collections::HashMap, fs, os::unix::net::UnixListener};

use serde_json::{Value, json};

use crate::check::{CONFIG, Checked, run};
use crate::support::*;

/// A stack with the stream `orders` of five shards.
async fn orders() -> Stack {
    let stack = Stack::start().await;
    stack.create_stream("orders", 5).await;
    stack
}

async fn check(stack: &Stack, file: &str, args: &[&str]) -> Checked {
    let args = [&["-f", "-"], args].concat();
    run(&stack.kinesis.endpoint(), CONFIG, file, &args).await
}

fn scaled_object(triggers: &[Value]) -> Value {
    json!({"kind": "ScaledObject", "metadata": {"name": "orders", "namespace": "team-a"},
        "spec": {"scaleTargetRef": {"name": "app"}, "triggers": triggers}})
}

/// A trigger about five open shards, one a replica, with more or other keys; an empty one is none.
fn trigger(stack: &Stack, more: &[(&str, &str)]) -> Value {
    let more = [&[("shardCount", "1")], more].concat();
    let metadata: HashMap<_, _> = stack.stream("orders", &more);
    let metadata: HashMap<_, _> = metadata
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    json!({"type": "external", "metadata": metadata})
}

#[track_caller]
fn assert_says(checked: &Checked, code: i32, parts: &[&str]) {
    let Checked {
        text, complaint, ..
    } = checked;
    assert_eq!(checked.code, Some(code), "{text}{complaint}");
    for part in parts {
        let said = text.contains(part) || complaint.contains(part);
        assert!(said, "{part:?} is not in\n{text}{complaint}");
    }
}

#[tokio::test]
async fn lists_and_broken_neighbours() {
    let stack = orders().await;
    let object = scaled_object(&[trigger(&stack, &[])]);
    let list = json!({"kind": "List", "items": [{"kind": "Pod"}, object]});
    let answered = "aws-kinesis-orders = 5, target 1, active: replicas 5";
    assert_says(&check(&stack, &list.to_string(), &[]).await, 0, &[answered]);

    let pretty = serde_json::to_string_pretty(&list).unwrap();
    let broken = format!("\u{feff}{pretty}\n---\na: [\n---\nb: {{{{ .Values.b }}}}\n");
    let checked = check(&stack, &broken, &[]).await;
    let says = [
        answered,
        "standard input document 2 (from line ",
        "neither YAML nor JSON at line",
        "standard input document 3 (from line ",
        "want it rendered",
        "2 documents or objects cannot be read",
    ];
    assert_says(&checked, 2, &says);
    let checked = check(&stack, &broken, &["-o", "json"]).await;
    let json: Value = serde_json::from_str(&checked.text).unwrap();
    assert_eq!(json["unread"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["triggers"][0]["told"]["replicas"], 5, "{json}");
}

#[tokio::test]
async fn directories_are_read_whole() {
    let stack = orders().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let object = scaled_object(&[trigger(&stack, &[])]).to_string();
    write("a.yaml", &object);
    write("below/b.json", &object);
    write("note.txt", "no: [");
    write(".hidden/c.yaml", "no: [");
    let _no_file = UnixListener::bind(folder.path().join("socket.yaml")).unwrap();
    let folder = folder.path().to_str().unwrap();
    let kinesis = stack.kinesis.endpoint();
    let checked = run(&kinesis, CONFIG, "", &["-f", folder]).await;
    assert_says(&checked, 0, &[]);
    assert_eq!(
        checked.text.matches("replicas 5").count(),
        2,
        "{}",
        checked.text
    );
}

#[tokio::test]
async fn exit_codes_tell_an_error_from_what_cannot_be_judged() {
    let stack = orders().await;
    let wrong = scaled_object(&[trigger(&stack, &[("shardCount", "two")])]).to_string();
    assert_says(
        &check(&stack, &wrong, &[]).await,
        1,
        &["shardCount \"two\""],
    );
    let number = scaled_object(&[json!({"type": "external", "metadata": {"streamName": 3}})]);
    let says = ["would refuse it", "streamName is 3: want text, in quotes"];
    assert_says(&check(&stack, &number.to_string(), &[]).await, 1, &says);
    for (file, says) in [
        ("", "no ScaledObject with a trigger for this scaler"),
        (
            "kind: Pod",
            "no ScaledObject with a trigger for this scaler",
        ),
        ("kind: ScaledObject\nspec: {}", "want a list of triggers"),
        (
            &format!("{wrong}\n---\na: ["),
            "an error for 1 of 1 triggers",
        ),
    ] {
        assert_says(&check(&stack, file, &[]).await, 2, &[says]);
    }
    let kinesis = stack.kinesis.endpoint();
    for (config, args, says) in [
        (
            CONFIG,
            &["-f", "/nowhere.yaml"][..],
            "cannot read /nowhere.yaml",
        ),
        (CONFIG, &["--set", "streamName"], "want NAME=VALUE"),
        (CONFIG, &["-f", "-", "--env", "STREAM"], "want NAME=VALUE"),
        (
            "grace: soon",
            &["--set", "streamName=orders"],
            "want a duration",
        ),
    ] {
        assert_says(&run(&kinesis, config, "", args).await, 2, &[says]);
    }
}

#[tokio::test]
async fn every_trigger_that_could_be_ours_is_judged() {
    let stack = orders().await;
    let triggers = [
        trigger(&stack, &[]),
        trigger(&stack, &[("streamName", ""), ("streamname", "orders")]),
        trigger(&stack, &[("streamNameFromEnv", "STREAM")]),
        trigger(
            &stack,
            &[(
                "streamName",
                "arn:aws:kinesis:us-east-1:111122223333:stream/orders",
            )],
        ),
    ];
    let file = scaled_object(&triggers).to_string();
    let says = [
        "streamname               not read: want streamName",
        "want streamName where \"streamname\" stands",
        "want either streamName or streamNameFromEnv, not both",
        "an ARN goes into streamArn",
        "an error for 3 of 4 triggers",
    ];
    assert_says(&check(&stack, &file, &[]).await, 1, &says);
}

#[tokio::test]
async fn variables_come_from_the_command_line_or_the_deployment_or_only_the_cluster_knows() {
    let stack = orders().await;
    let trigger = trigger(
        &stack,
        &[("streamName", ""), ("streamNameFromEnv", "STREAM")],
    );
    let object = scaled_object(&[trigger]);
    let answered = "aws-kinesis-orders = 5";
    let checked = check(&stack, &object.to_string(), &[]).await;
    let says = ["streamNameFromEnv \"STREAM\": known only in the cluster"];
    assert_says(&checked, 2, &says);
    let mut wrong = object.clone();
    wrong["spec"]["triggers"][0]["metadata"]["shardCount"] = json!("two");
    let says = ["shardCount \"two\": want", says[0]];
    assert_says(&check(&stack, &wrong.to_string(), &[]).await, 1, &says);
    let checked = check(&stack, &object.to_string(), &["--env", "STREAM=orders"]).await;
    assert_says(&checked, 0, &[answered]);

    let mut app = json!({"kind": "Deployment", "metadata": {"name": "app", "namespace": "team-a"},
        "spec": {"template": {"spec": {"containers": [{"env": [{"name": "STREAM", "value": "orders"}]}]}}}});
    let checked = check(&stack, &format!("{object}\n---\n{app}"), &[]).await;
    assert_says(&checked, 0, &[answered]);
    app["spec"]["template"]["spec"]["containers"][0]["env"] = json!([]);
    let checked = check(&stack, &format!("{object}\n---\n{app}"), &[]).await;
    assert_says(&checked, 1, &["streamName: want the stream's name"]);
}

#[tokio::test]
async fn replicas_are_those_of_the_whole_object_or_not_said() {
    let stack = orders().await;
    let mut object = scaled_object(&[trigger(&stack, &[])]);
    object["spec"]["maxReplicaCount"] = json!(3);
    object["spec"]["fallback"] = json!({"failureThreshold": 3, "replicas": 6});
    let checked = check(&stack, &object.to_string(), &[]).await;
    let says = [
        "replicas 3 (of 5; maxReplicaCount is 3)",
        "fallback: 6 replicas once it fails more than 3 times in a row",
    ];
    assert_says(&checked, 0, &says);
    assert!(!checked.text.contains("replicas 5"), "{}", checked.text);

    let change = |pointer: &str, key: &str, value: Value| {
        let mut object = scaled_object(&[trigger(&stack, &[])]);
        object.pointer_mut(pointer).unwrap()[key] = value;
        object.to_string()
    };
    for (file, says) in [
        (
            change("/spec/triggers/0", "metricType", json!("Value")),
            "metricType Value",
        ),
        (
            change(
                "/spec",
                "advanced",
                json!({"scalingModifiers": {"formula": "a"}}),
            ),
            "formula decides",
        ),
        (
            change("", "kind", json!("ScaledJob")),
            "a ScaledJob starts jobs",
        ),
        (
            change(
                "/metadata",
                "annotations",
                json!({"autoscaling.keda.sh/paused": "true"}),
            ),
            "paused by the annotation",
        ),
        (
            scaled_object(&[trigger(&stack, &[]), json!({"type": "cron"})]).to_string(),
            "it has 2 triggers",
        ),
    ] {
        let checked = check(&stack, &file, &[]).await;
        assert_says(
            &checked,
            0,
            &[says, "aws-kinesis-orders = 5, target 1, active\n"],
        );
        assert!(!checked.text.contains("replicas 5"), "{}", checked.text);
    }
}

#[tokio::test]
async fn a_stream_that_is_being_made_is_not_yet_known() {
    let stack = Stack::start().await;
    let aws = crate::creating::creating(false).await;
    let trigger = trigger(&stack, &[("awsEndpoint", &aws.endpoint)]);
    let checked = check(&stack, &scaled_object(&[trigger]).to_string(), &[]).await;
    assert_says(&checked, 1, &["the error UNAVAILABLE", "it is being made"]);
    assert!(!checked.text.contains("not active"), "{}", checked.text);
}
