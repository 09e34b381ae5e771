//! The configuration file: what is read, what stops the start, and in which words.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use keda_kinesis_scaler::config::{Config, TlsConfig};
use rstest::rstest;

fn parse(text: &str) -> Config {
    Config::parse(text, "config.yaml").unwrap()
}

#[rstest]
fn nothing_is_the_default(
    #[values(
        "",
        "\n",
        "# only a comment\n",
        "---\n",
        "{}",
        "null",
        "aws:\n",
        "aws: {}\npolicy:\n",
        "tls:\npolicy: []\n"
    )]
    text: &str,
) {
    assert_eq!(parse(text), Config::default());
}

#[test]
fn every_key() {
    let config = parse(
        r#"
listen: 127.0.0.1:6001
admin: "[::1]:9091"
grace: 1m30s
aws:
  region: eu-west-1
  refresh: 500ms
  maxStale: 2m
  timeout: 1s
  callsPerSecond: 7
limits: {watchers: 100, journal: 1000}
tls: {cert: /tls/tls.crt, key: /tls/tls.key, clientCa: /tls/ca.crt, clientAllowedSans: ["*.keda.svc"]}
policy:
  - namespaces: ["team-a", "ci-*"]
    streams: ["orders-*", "arn:aws:kinesis:eu-west-1:111122223333:stream/*"]
    tables: ["orders-*"]
    roles: []
    endpoints: ["http://127.0.0.1:*"]
"#,
    );
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 6001)));
    assert_eq!(config.admin.to_string(), "[::1]:9091");
    assert_eq!(config.grace, Duration::from_secs(90));
    assert_eq!(config.aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!(config.aws.refresh, Duration::from_millis(500));
    assert_eq!(config.aws.max_stale, Duration::from_secs(120));
    assert_eq!(config.aws.timeout, Duration::from_secs(1));
    assert_eq!(config.aws.calls_per_second, 7);
    assert_eq!((config.limits.watchers, config.limits.journal), (100, 1000));
    let path = |name: &str| PathBuf::from("/tls").join(name);
    let tls = TlsConfig {
        cert: path("tls.crt"),
        key: path("tls.key"),
        client_ca: Some(path("ca.crt")),
        client_allowed_sans: Some(vec!["*.keda.svc".to_owned()]),
    };
    assert_eq!(config.tls, Some(tls));
    let [rule] = &*config.policy else {
        panic!("{:?}", config.policy)
    };
    assert_eq!(rule.roles, Some(vec![]));
    assert_eq!(
        rule.endpoints.as_ref().unwrap()[0].to_string(),
        "http://127.0.0.1:*"
    );

    let printed = config.to_yaml().unwrap();
    assert_eq!(parse(&printed), config, "{printed}");
}

#[test]
fn the_default_prints_every_key_and_is_read_again() {
    let printed = Config::default().to_yaml().unwrap();
    assert_eq!(parse(&printed), Config::default());
    for key in [
        "listen: ",
        "admin: ",
        "region: ",
        "refresh: 15s",
        "maxStale: 1m",
        "timeout: 3s",
        "callsPerSecond: 5",
        "watchers: 5000",
        "journal: 50000",
        "tls: ",
        "policy: ",
        "policyDefault: allow",
        "explain: all",
        "connections: 1000",
        "streams: 20000",
        "logLevel: info",
        "grace: 20s",
    ] {
        assert!(printed.contains(key), "{key:?} is not in\n{printed}");
    }
}

/// Text, where the error is, and what it says.
#[rstest]
#[case::unknown_key("aws:\n  refersh: 15s\n", "2:3", "refersh")]
#[case::unknown_top_key("listen: 127.0.0.1:1\nport: 1\n", "2:1", "port")]
#[case::snake_case("aws:\n  max_stale: 15s\n", "2:3", "max_stale")]
#[case::twice("grace: 1s\ngrace: 2s\n", "2:1", "grace")]
#[case::no_unit(
    "aws:\n  refresh: 15\n",
    "2:12",
    "want a duration from 10ms to 1day, such as 15s or 1m30s, not \"15\""
)]
#[case::bad_duration("grace: soon\n", "1:8", "want a duration")]
#[case::negative("grace: -1s\n", "1:8", "want a duration")]
#[case::too_short("aws: {refresh: 1ms}", "1:16", "from 10ms")]
#[case::no_time("aws: {timeout: 0s}", "1:16", "from 1ms")]
#[case::no_calls("aws:\n  callsPerSecond: 0\n", "2:19", "at least 1")]
#[case::half_a_call("aws:\n  callsPerSecond: 0.5\n", "2:19", "whole number of at least 1")]
#[case::no_watchers("limits: {watchers: 0}\n", "1:20", "at least 1")]
#[case::no_journal("limits: {journal: -1}\n", "1:19", "at least 1")]
#[case::region(
    "aws:\n  region: Ireland\n",
    "2:11",
    "want a region, such as eu-west-1"
)]
#[case::address("listen: 6000\n", "1:9", "want ADDRESS:PORT, such as 0.0.0.0:6000")]
#[case::no_port("admin: 127.0.0.1\n", "1:8", "want ADDRESS:PORT")]
#[case::key_without_cert("tls:\n  key: /tls/tls.key\n", "2:3", "cert")]
#[case::cert_without_key("tls: {cert: /tls/tls.crt}\n", "1:7", "key")]
#[case::no_names(
    "tls: {cert: a, key: b, clientCa: c, clientAllowedSans: []}\n",
    "1:56",
    "at least one name or pattern"
)]
#[case::endpoint(
    "policy:\n  - namespaces: [a]\n    endpoints: [\"127.0.0.1:*\"]\n",
    "3:17",
    "want scheme://host or scheme://host:port"
)]
#[case::no_namespaces("policy:\n  - streams: [a]\n", "2:5", "namespaces")]
#[case::empty_namespaces("policy:\n  - namespaces: []\n", "2:17", "at least one namespace")]
#[case::rule_key("policy:\n  - namespaces: [a]\n    role: [b]\n", "3:5", "role")]
#[case::policy_default("policyDefault: refuse\n", "1:16", "want allow or deny")]
#[case::explain("explain: on\n", "1:10", "want all, loopback or none")]
#[case::no_streams("limits: {streams: 0}\n", "1:19", "at least 1")]
#[case::not_a_map("- listen\n", "1:1", "")]
#[case::not_yaml("listen: [\n", "", "")]
#[case::two_documents("grace: 1s\n---\ngrace: 2s\n", "", "")]
fn what_is_wrong_stops_the_start(#[case] text: &str, #[case] place: &str, #[case] says: &str) {
    let error = Config::parse(text, "config.yaml").unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("config.yaml:{place}")),
        "{error}"
    );
    assert!(error.contains(says), "{error}");
}

#[test]
fn the_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaler.yaml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains("scaler.yaml"), "{error}");
    std::fs::write(&path, "grace: soon").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains("scaler.yaml:1:8: "), "{error}");
}
