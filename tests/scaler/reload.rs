//! The configuration file, read again while the scaler serves.

use std::{fs, os::unix::fs::symlink};

use crate::support::*;
use embedded_kinesis::EmbeddedKinesis;
use keda_kinesis_scaler::proto::ScaledObjectRef;
use tonic::{Code, Status, Streaming};

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

/// A policy, and more.
fn allowing(namespaces: &str, more: &str) -> String {
    format!(
        "policyDefault: deny\npolicy: [{{namespaces: {namespaces}, streams: ['*'], endpoints: ['http://127.0.0.1:*']}}]\n{more}"
    )
}

async fn kinesis() -> (EmbeddedKinesis, ScaledObjectRef) {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    create_stream(&aws(&kinesis), "orders", 2).await;
    let endpoint = kinesis.endpoint();
    let keys = [
        ("streamName", "orders"),
        ("awsRegion", REGION),
        ("awsEndpoint", &endpoint),
    ];
    let object = object(metadata(&keys));
    (kinesis, object)
}

async fn end_of<T>(mut stream: Streaming<T>) -> Option<Status> {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    };
    eventually("the end of a stream", end).await
}

/// Waits for a line of the log, and for the metric that says the same.
async fn reloaded(process: &Process, says: &str, good: bool) {
    process
        .first(says, |line| line.contains(says).then_some(()))
        .await;
    let metric = format!(
        "keda_kinesis_scaler_config_last_reload_successful {}\n",
        u8::from(good)
    );
    scraped(process.admin, &metric, |text| text.contains(&metric)).await;
}

#[tokio::test]
async fn a_stricter_policy_ends_the_push_streams_that_it_no_longer_allows() {
    let (_kinesis, object) = kinesis().await;
    let process = Process::start(&allowing("[team-a, team-b]", ""), &KEYS).await;
    let mut client = process.client().await;
    let mut other = object.clone();
    other.namespace = "team-b".to_owned();
    wait_for_value(&mut client, &object, 2.0).await;
    let states = client.stream_is_active(object.clone()).await.unwrap();
    let specs = client.stream_metric_spec(object.clone()).await.unwrap();
    let kept = client.stream_is_active(other.clone()).await.unwrap();

    process.configure(&allowing("[team-b]", ""));
    for end in [
        end_of(states.into_inner()).await,
        end_of(specs.into_inner()).await,
    ] {
        let end = end.expect("a refusal");
        assert_eq!(end.code(), Code::PermissionDenied, "{end:?}");
        assert!(end.message().contains("team-a"), "{end:?}");
    }
    let refused = client.is_active(object).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut kept = kept.into_inner();
    assert!(
        eventually("a state", kept.message())
            .await
            .unwrap()
            .unwrap()
            .result
    );
    wait_for_value(&mut client, &other, 2.0).await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_configuration_and_says_so() {
    let (_kinesis, object) = kinesis().await;
    let good = allowing("[team-a]", "");
    let process = Process::start(&good, &KEYS).await;
    let mut client = process.client().await;
    process.configure("policyDefault: refuse\n");
    let says = "the configuration stays as it was: ";
    reloaded(&process, says, false).await;
    assert!(
        process.log().contains("want allow or deny"),
        "{}",
        process.log()
    );
    wait_for_value(&mut client, &object, 2.0).await;
    // What is mended is in force at once by a signal.
    process.configure(&allowing("[team-a]", "grace: 1s\n"));
    process.signal(Signal::HUP);
    reloaded(
        &process,
        "these changes need a restart, until then the old ones hold: grace",
        true,
    )
    .await;
    wait_for_value(&mut client, &object, 2.0).await;
}

#[tokio::test]
async fn a_tls_with_which_the_next_start_would_fail_is_a_bad_file() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let tls = |more: &str| {
        let (cert, key) = (path("tls.crt"), path("tls.key"));
        allowing(
            "[team-a]",
            &format!("tls: {{cert: {cert}, key: {key}{more}}}\n"),
        )
    };
    let process = Process::start(&allowing("[team-a]", ""), &KEYS).await;
    let says = "the configuration stays as it was: ";
    process.configure(&tls(", clientCa: /ca"));
    reloaded(&process, says, false).await;
    assert!(
        process
            .log()
            .contains("tls.clientCa: want tls.clientAllowedSans"),
        "{}",
        process.log()
    );
    process.configure(&tls(""));
    reloaded(&process, "tls.cert: cannot read", false).await;
    // Once the files are there it is good, without another change of the configuration.
    let (certificate, key) = crate::tls::issue(&crate::tls::authority(), "scaler");
    fs::write(path("tls.key"), key).unwrap();
    fs::write(path("tls.crt"), certificate).unwrap();
    let says = "these changes need a restart, until then the old ones hold: tls";
    reloaded(&process, says, true).await;
}

/// As the kubelet does it: the files are links into a folder that is swapped as a whole.
#[tokio::test]
async fn a_swapped_config_map_changes_policy_pace_and_log_level() {
    let (kinesis, object) = kinesis().await;
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, text: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("config.yaml"), text).unwrap();
        symlink(name, folder.path().join("..new")).unwrap();
        fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    };
    version("..1", &allowing("[nobody]", "aws: {refresh: 1h}\n"));
    let file = folder.path().join("config.yaml");
    symlink("..data/config.yaml", &file).unwrap();
    let process = Process::start_from(&file, &KEYS).await;
    let mut client = process.client().await;
    let refused = client.is_active(object.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    version("..2", &allowing("[team-a]", "aws: {refresh: 1h}\n"));
    wait_for_value(&mut client, &object, 2.0).await;
    let calls = kinesis.calls();
    let described = calls
        .iter()
        .filter(|call| call.operation == "DescribeStreamSummary");
    assert_eq!(described.count(), 1, "once an hour");
    let quick = "aws: {refresh: 50ms}\nlogLevel: info,h2=debug\n";
    version("..3", &allowing("[team-a]", quick));
    kinesis.wait_for_calls("DescribeStreamSummary", 3).await;
    wait_for_value(&mut client, &object, 2.0).await;
    process
        .first("a line of h2", |line| {
            line.contains("\"target\":\"h2").then_some(())
        })
        .await;
}
