//! The binary: flags, environment, configuration, and how it ends.

use std::{fs, net::TcpListener, process::Command};

use assert_cmd::{assert::OutputAssertExt as _, cargo::cargo_bin};
use embedded_kinesis::EmbeddedKinesis;
use keda_kinesis_scaler::{
    config::Config,
    proto::{GetMetricSpecResponse, ScaledObjectRef},
};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::support::{self, Process, Signal};

/// The binary, with nothing of the environment that the tests run in.
fn scaler(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("keda-kinesis-scaler"));
    command.env_clear().args(args);
    command
}

/// Standard output of a run that must succeed.
fn printed(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// Standard error of a run that must end with this code.
fn refused(command: &mut Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}

#[test]
fn help_explains_every_flag_with_its_variable() {
    let help = printed(&mut scaler(&["serve", "--help"]));
    for (flag, variable) in [
        ("--config <FILE>", "SCALER_CONFIG"),
        ("--listen <ADDR>", "SCALER_LISTEN"),
        ("--admin <ADDR>", "SCALER_ADMIN"),
        ("--log-format <FORMAT>", "SCALER_LOG_FORMAT"),
        ("--log-level <LEVEL>", "RUST_LOG"),
        ("--print-config", "exit"),
    ] {
        let (_, explained) = help
            .split_once(flag)
            .unwrap_or_else(|| panic!("no {flag} in\n{help}"));
        let explained = explained.split("\n      --").next().unwrap();
        assert!(
            explained.contains(variable),
            "{flag} says nothing of {variable}:\n{explained}"
        );
    }
    assert!(
        help.contains("AWS_REGION") && help.contains("[::]:6000") && help.contains("[::]:9090"),
        "{help}"
    );
}

#[test]
fn without_a_subcommand_there_is_help() {
    let help = refused(&mut scaler(&[]), 2);
    assert!(
        help.contains("Usage: keda-kinesis-scaler") && help.contains("serve"),
        "{help}"
    );
}

#[test]
fn the_version() {
    assert_eq!(
        printed(&mut scaler(&["--version"])),
        format!("keda-kinesis-scaler {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[rstest]
#[case(&["serve", "--lissten", "x"], "--listen")]
#[case(&["serve", "--listen", "6000"], "--listen <ADDR>")]
#[case(&["serve", "--admin", "127.0.0.1"], "--admin <ADDR>")]
#[case(&["serve", "--log-format", "xml"], "text, json")]
#[case(&["serve", "--log-level", "a=b=c"], "want error, warn, info")]
#[case(&["sreve"], "serve")]
fn a_bad_flag_says_what_is_wanted(#[case] args: &[&str], #[case] says: &str) {
    let error = refused(&mut scaler(args), 2);
    assert!(error.contains(says), "{error}");
}

#[test]
fn print_config_prints_what_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scaler.yaml");
    fs::write(
        &file,
        "listen: 127.0.0.1:1\nadmin: 127.0.0.1:2\ngrace: 7s\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let args = [
        "serve",
        "--config",
        file,
        "--listen",
        "127.0.0.1:3",
        "--print-config",
    ];
    let yaml = printed(
        scaler(&args)
            .env("SCALER_ADMIN", "127.0.0.1:4")
            .env("SCALER_LISTEN", "127.0.0.1:5")
            .env("AWS_REGION", "eu-west-1"),
    );
    let config = Config::parse(&yaml, "printed").unwrap();
    assert_eq!(
        config.listen.to_string(),
        "127.0.0.1:3",
        "a flag wins over a variable"
    );
    assert_eq!(
        config.admin.to_string(),
        "127.0.0.1:4",
        "a variable wins over the file"
    );
    assert_eq!(config.grace.as_secs(), 7);
    assert_eq!(config.aws.region.as_deref(), Some("eu-west-1"));
}

#[test]
fn without_anything_the_defaults_are_in_force() {
    let yaml = printed(scaler(&["serve", "--print-config"]).env("AWS_REGION", ""));
    assert_eq!(Config::parse(&yaml, "printed").unwrap(), Config::default());
}

#[test]
fn the_files_region_wins_over_aws_region() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scaler.yaml");
    fs::write(&file, "aws: {region: eu-west-1}").unwrap();
    let args = [
        "serve",
        "--print-config",
        "--config",
        file.to_str().unwrap(),
    ];
    let yaml = printed(scaler(&args).env("AWS_REGION", "nonsense"));
    assert_eq!(
        Config::parse(&yaml, "printed")
            .unwrap()
            .aws
            .region
            .as_deref(),
        Some("eu-west-1")
    );
}

#[test]
fn a_bad_aws_region_stops_the_start() {
    let error = refused(
        scaler(&["serve", "--print-config"]).env("AWS_REGION", "Ireland"),
        1,
    );
    assert!(
        error.contains("AWS_REGION \"Ireland\": want a region"),
        "{error}"
    );
}

#[rstest]
#[case(
    "aws: {refersh: 1s}",
    "scaler.yaml:1:7: unknown field `refersh`, expected one of region, refresh"
)]
#[case("grace: soon", "scaler.yaml:1:8: want a duration")]
fn a_bad_config_stops_the_start(#[case] text: &str, #[case] says: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scaler.yaml");
    fs::write(&file, text).unwrap();
    let error = refused(
        &mut scaler(&["serve", "--config", file.to_str().unwrap()]),
        1,
    );
    assert!(error.contains(says), "{error}");
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let error = refused(
        &mut scaler(&["serve", "--config", "/nowhere/scaler.yaml"]),
        1,
    );
    assert!(
        error.contains("cannot read the config file /nowhere/scaler.yaml")
            && error.contains("No such file"),
        "{error}"
    );
}

#[rstest]
#[case("--listen", "--admin")]
#[case("--admin", "--listen")]
fn a_port_in_use_is_named(#[case] flag: &str, #[case] other: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = refused(
        scaler(&["serve", flag, &address, other, "127.0.0.1:0"]).env("RUST_BACKTRACE", "1"),
        1,
    );
    assert!(
        error.contains(&format!("cannot listen on {address} (flag {flag}")),
        "{error}"
    );
    assert!(error.contains("in use"), "{error}");
    assert_eq!(error.lines().count(), 1, "no backtrace: {error}");
}

#[rstest]
#[case(Signal::TERM, "SIGTERM")]
#[case(Signal::INT, "SIGINT")]
#[tokio::test]
async fn a_signal_ends_it_well(#[case] signal: Signal, #[case] name: &str) {
    let scaler = Process::start("", &[]).await;
    scaler.signal(signal);
    let (status, log) = scaler.ended().await;
    assert!(status.success(), "{status}");
    assert!(log.iter().any(|line| line.contains(name)), "{log:?}");
}

#[tokio::test]
async fn a_policy_without_client_certificates_warns() {
    let warning = "policy without tls.clientCa";
    let warns = |log: &str| {
        log.lines()
            .any(|line| line.contains("WARN") && line.contains(warning))
    };
    let without = Process::start("", &[]).await;
    assert!(!warns(&without.log()), "{}", without.log());
    let with = Process::start("policy: [{namespaces: ['*'], roles: []}]", &[]).await;
    assert!(warns(&with.log()), "{}", with.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let scaler = Process::start("grace: 1h", &[]).await;
    // A call that keeps the scaler from ending: its request is never sent whole.
    let channel = support::channel(scaler.address).await;
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/GetMetricSpec");
    let codec = ProstCodec::<ScaledObjectRef, GetMetricSpecResponse>::default();
    let request = Request::new(tokio_stream::pending());
    let mut call = Box::pin(grpc.client_streaming(request, path, codec));
    assert!(futures::poll!(&mut call).is_pending());
    // Once a later call of the same connection is answered, that one has arrived.
    let mut client = support::Client::new(channel);
    client
        .is_active(ScaledObjectRef::default())
        .await
        .unwrap_err();

    scaler.signal(Signal::TERM);
    scaler.logged("shutting down").await;
    scaler.signal(Signal::TERM);
    let (status, log) = scaler.ended().await;
    assert_eq!(status.code(), Some(1), "{log:?}");
    assert!(
        log.iter().any(|line| line.contains("second signal")),
        "{log:?}"
    );
}

/// What the admin port says of the scaler's metrics.
async fn metrics(scaler: &Process) -> String {
    let mut connection = TcpStream::connect(scaler.admin).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

#[tokio::test]
async fn secrets_stay_in() {
    let role = "arn:aws:iam::111122223333:role/keda";
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default())
        .await
        .unwrap();
    kinesis.identities().require_external_id(role, "another");
    let (endpoint, policy) = (
        kinesis.endpoint(),
        "policy: [{namespaces: ['*'], roles: ['*'], endpoints: ['http://127.0.0.1:*']}]",
    );
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret-of-the-scaler"),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
        ("RUST_LOG", "trace"),
    ];
    let scaler = Process::start(policy, &environment).await;
    let mut client = scaler.client().await;
    let mut said = String::new();
    let base = [
        ("streamName", "orders"),
        ("awsRegion", "us-east-1"),
        ("awsEndpoint", &endpoint),
        ("passwordFromEnv", "s3cret-env"),
    ];
    for more in [
        [
            ("awsRoleArn", role),
            ("awsExternalId", "s3cret-external-id"),
        ],
        [
            ("awsSecretAccessKeyFromEnv", "s3cret-key"),
            ("awsExternalId", "s3cret without a role"),
        ],
    ] {
        let metadata = support::metadata(&[&base[..], &more].concat());
        let refused = support::value(&mut client, &support::object(metadata))
            .await
            .unwrap_err();
        said += &format!("{refused:?}\n");
    }
    assert!(
        said.contains("AssumeRole") && said.contains("awsSecretAccessKeyFromEnv"),
        "{said}"
    );
    said += &metrics(&scaler).await;
    scaler.signal(Signal::TERM);
    let (_, log) = scaler.ended().await;
    said += &log.join("\n");
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn health_says_whether_a_scaler_serves() {
    let process = Process::start("", &[]).await;
    let address = process.address.to_string();
    let asked = address.clone();
    let told =
        tokio::task::spawn_blocking(move || printed(&mut scaler(&["health", "--address", &asked])));
    assert_eq!(told.await.unwrap(), "SERVING\n");
    process.signal(Signal::TERM);
    process.ended().await;
    let error = refused(&mut scaler(&["health", "--address", &address]), 1);
    assert!(error.contains(&address), "{error}");
    let error = refused(&mut scaler(&["health", "--address", "no port"]), 1);
    assert!(error.contains("want HOST:PORT"), "{error}");
}

#[tokio::test]
async fn whoever_reaches_the_port_is_warned_of_where_nothing_limits_them() {
    let warning = "no policy and no tls.clientCa";
    for (config, warned) in [("", true), ("policyDefault: deny", false)] {
        let scaler = Process::start(config, &[]).await;
        assert_eq!(scaler.log().contains(warning), warned, "{config:?}");
    }
}
