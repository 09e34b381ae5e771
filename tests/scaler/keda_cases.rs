//! What KEDA's built-in scaler answered for the same trigger metadata: the same is answered here,
//! over gRPC by the binary, but for the deviations in one table.

use std::collections::HashMap;

use embedded_kinesis::{Config, EmbeddedKinesis, FOREVER, Fault};
use serde::Deserialize;
use serde_json::json;
use tonic::Code;

use crate::support::{
    self, Process, Scripted,
    keda::{Answer, Keda},
};

/// Where we refuse what the built-in scaler accepts: case, the line of the refusal, the reason.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "shardCount-zero",
        "shardCount \"0\": want a whole number from 1 to 9223372036854775807, such as 2",
        "Kubernetes takes no HPA with a target of 0, and KEDA then says so of the HPA, not of the trigger",
    ),
    (
        "shardCount-negative",
        "shardCount \"-1\": want a whole number from 1 to 9223372036854775807, such as 2",
        "Kubernetes takes no HPA with a negative target",
    ),
    (
        "streamName-unicode",
        "streamName \"ströme-注文\": want 1 to 128 of the characters a-z A-Z 0-9 _ . -",
        "no such stream can be: said once and without AWS, instead of AWS's ValidationException at each poll",
    ),
];

/// Where we read what the built-in scaler refuses: case, the metric that it is about, the reason.
const TAKEN: &[(&str, &str, &str)] = &[(
    "streamName-from-env",
    "aws-kinesis-STREAM",
    "KEDA resolves a variable for every key; the built-in scaler has no key that takes one",
)];

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    id: String,
    metadata: HashMap<String, String>,
    open_shards: usize,
    builtin: BuiltIn,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuiltIn {
    specs: Vec<Spec>,
    value: Option<f64>,
    active: bool,
    build_error: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    metric_name: String,
    target: String,
}

/// The keys that lines are about, by the first word of ours, or by what the built-in quotes after
/// "param" or "parameter".
fn keys(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let key = |line: &str| {
        let quoted = ["param \"", "parameter \""]
            .iter()
            .find_map(|before| line.split_once(before));
        let text = quoted.map_or(line, |(_, after)| after);
        text.split(['"', ' ', ':']).next().unwrap().to_owned()
    };
    lines.into_iter().map(|line| key(line.as_ref())).collect()
}

/// What the built-in's answer, or the table of deviations, asks of us.
fn assert_as_wanted(case: &Case, answer: &Answer) {
    let (id, builtin) = (&case.id, &case.builtin);
    if let Some((_, line, _)) = DEVIATIONS.iter().find(|(deviating, ..)| deviating == id) {
        assert_eq!(*answer, Answer::Refused(vec![(*line).to_owned()]), "{id}");
        return;
    }
    if let Some((_, name, _)) = TAKEN.iter().find(|(taken, ..)| taken == id) {
        let Answer::Failing { spec, code } = answer else {
            panic!("{id}: {answer:?}")
        };
        assert_eq!((spec.0.as_str(), *code), (*name, Code::NotFound), "{id}");
        return;
    }
    if let Some(error) = &builtin.build_error {
        let Answer::Refused(lines) = answer else {
            panic!("{id}: {answer:?}")
        };
        assert_eq!(keys(lines), keys(error.lines()), "{id}: {lines:?}");
        return;
    }
    let [spec] = &*builtin.specs else {
        panic!("{id} has one spec")
    };
    // KEDA puts the trigger's index before the name.
    let (_, name) = spec.metric_name.split_once('-').unwrap();
    let spec = (name.to_owned(), spec.target.parse().unwrap());
    let wanted = match (builtin.value, &builtin.error) {
        (Some(value), None) => Answer::Value {
            spec,
            value,
            active: builtin.active,
        },
        (None, Some(error)) => {
            let codes = [
                ("ResourceNotFoundException", Code::NotFound),
                ("AccessDeniedException", Code::PermissionDenied),
                ("LimitExceededException", Code::ResourceExhausted),
            ];
            let (_, code) = codes
                .into_iter()
                .find(|(aws, _)| error.contains(aws))
                .unwrap();
            Answer::Failing { spec, code }
        }
        _ => Answer::Spec(spec),
    };
    assert_eq!(*answer, wanted, "{id}");
}

/// A Kinesis with the streams of the cases, five open shards each.
async fn kinesis() -> EmbeddedKinesis {
    let kinesis = EmbeddedKinesis::start(Config::default()).await.unwrap();
    let aws = support::aws(&kinesis);
    for name in [
        "orders",
        "my.stream.v1",
        "denied",
        "limited",
        &"s".repeat(128),
    ] {
        support::create_stream(&aws, name, 5).await;
    }
    kinesis
        .faults()
        .inject_on("denied", "*", Fault::access_denied(), FOREVER);
    kinesis
        .faults()
        .inject_on("limited", "*", Fault::throttling(), FOREVER);
    kinesis
}

/// An endpoint with an answer that no real stream gives: no open shards.
async fn no_open_shards() -> Scripted {
    let answer = json!({"StreamDescriptionSummary": {
        "StreamName": "orders", "StreamARN": "arn:aws:kinesis:us-east-1:111122223333:stream/orders", "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1.0, "EnhancedMonitoring": [], "OpenShardCount": 0,
    }});
    Scripted::start(move |_, _| Ok(answer.clone())).await
}

/// The binary, allowed to ask loopback endpoints, and KEDA at it.
async fn scaler() -> (Process, Keda) {
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let policy = "policy: [{namespaces: [shop], endpoints: ['http://127.0.0.1:*']}]";
    let scaler = Process::start(policy, &environment).await;
    let keda = Keda {
        client: scaler.client().await,
    };
    (scaler, keda)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_built_ins_or_in_the_table() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../fixtures/keda-builtin-cases.json")).unwrap();
    let (kinesis, empty) = (kinesis().await, no_open_shards().await);
    let (_running, mut keda) = scaler().await;
    for (id, ..) in DEVIATIONS {
        assert!(
            fixture.cases.iter().any(|case| case.id == *id),
            "{id} is no case"
        );
    }
    for case in &fixture.cases {
        let endpoint = match case.open_shards {
            0 => empty.endpoint.clone(),
            5 => kinesis.endpoint().to_string(),
            other => panic!("{}: a stream with {other} open shards", case.id),
        };
        let metadata = case
            .metadata
            .iter()
            .map(|(key, value)| (key.clone(), value.replace("$AWS_ENDPOINT", &endpoint)));
        // An empty endpoint is AWS's own, which no test should ask.
        let answer = keda
            .ask(&metadata.collect(), case.id != "endpoint-empty")
            .await;
        assert_as_wanted(case, &answer);
    }
}

/// Values that the built-in's parser, Go's JSON, has an opinion on; not in the fixture, but in its
/// source.
#[tokio::test(flavor = "multi_thread")]
async fn more_values_are_read_as_go_reads_them() {
    let kinesis = kinesis().await;
    let (_running, mut keda) = scaler().await;
    let base = [
        ("streamName", "orders"),
        ("awsRegion", "us-east-1"),
        ("awsEndpoint", &kinesis.endpoint().to_string()),
    ];
    let metadata = |key: &str, value: &str| {
        let pairs = base
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs
            .chain([(key.to_owned(), value.to_owned())])
            .collect::<HashMap<_, _>>()
    };
    let spec = |target| ("aws-kinesis-orders".to_owned(), target);
    let accepted = [
        ("shardCount", "\u{a0}3\u{2003}", 3, true),
        ("shardCount", "\u{3000}", 2, true),
        ("activationShardCount", "-0", 2, true),
        ("activationShardCount", "4", 2, true),
        ("activationShardCount", "9223372036854775807", 2, false),
        ("activationShardCount", "-9223372036854775808", 2, true),
        ("awsEndpoint ", "http://10.0.0.1", 2, true),
        ("shardCountFromEnv", "3", 3, true),
        ("otherFromEnv", "other", 2, true),
        ("identityOwner", " pod ", 2, true),
        ("awsAccessKeyID", "", 2, true),
    ];
    for (key, value, target, active) in accepted {
        let answer = keda.ask(&metadata(key, value), true).await;
        let wanted = Answer::Value {
            spec: spec(target),
            value: 5.0,
            active,
        };
        assert_eq!(answer, wanted, "{key} {value:?}");
    }
    let no_numbers = [
        "2.0",
        "1e2",
        "+5",
        "05",
        "0x10",
        "\"5\"",
        "\"\\\"5\\\"\"",
        "1_000",
        "null",
        "true",
        "-",
        "\u{feff}3",
        "\u{200b}3",
        "３",
        "[2]",
        "9223372036854775808",
        "-9223372036854775809",
    ];
    for key in ["shardCount", "activationShardCount"] {
        for value in no_numbers {
            let answer = keda.ask(&metadata(key, value), true).await;
            let Answer::Refused(lines) = answer else {
                panic!("{key} {value:?}: {answer:?}")
            };
            assert!(
                lines.len() == 1
                    && lines[0].starts_with(&format!("{key} {value:?}: want a whole number")),
                "{lines:?}"
            );
        }
    }
}
