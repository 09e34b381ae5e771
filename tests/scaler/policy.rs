//! What a namespace may ask for, and what it is told when it may not.

use keda_kinesis_scaler::{
    config::{Config, PolicyDefault, Rule},
    error::Error,
    trigger::{Trigger, policy::Policy},
};
use rstest::rstest;
use tonic::Code;

const ARN: &str = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders-eu";
const ROLE: &str = "arn:aws:iam::111122223333:role/keda-a";

const RULES: &str = r#"
policy:
  - namespaces: [team-a, "ci-*"]
    streams: ["orders-*", "arn:aws:kinesis:eu-west-1:111122223333:stream/*"]
    roles: ["arn:aws:iam::111122223333:role/keda-*"]
    endpoints: ["http://127.0.0.1:*"]
    tables: ["orders-*", "arn:aws:dynamodb:*:111122223333:table/orders-*"]
  - namespaces: [closed]
    streams: []
    roles: []
    endpoints: []
  - namespaces: ["team-*"]
    endpoints: ["https://*.example.com"]
"#;

fn policy() -> Policy {
    Policy::new(
        Config::parse(RULES, "test").unwrap().policy,
        PolicyDefault::Allow,
    )
}

fn trigger(pairs: &[(&str, &str)]) -> Trigger {
    let metadata = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Trigger::parse(&metadata, Some("eu-west-1")).unwrap()
}

#[rstest]
#[case::pattern("team-a", &[("streamName", "orders-eu")], true)]
#[case::other_name("team-a", &[("streamName", "payments")], false)]
#[case::arn("team-a", &[("streamArn", ARN)], true)]
#[case::other_account("team-a", &[("streamArn", "arn:aws:kinesis:eu-west-1:999922223333:stream/orders-eu")], false)]
#[case::role("ci-7", &[("streamName", "orders-eu"), ("awsRoleArn", ROLE)], true)]
#[case::other_role("ci-7", &[("streamName", "orders-eu"), ("awsRoleArn", "arn:aws:iam::111122223333:role/admin")], false)]
#[case::endpoint("team-a", &[("streamName", "orders-eu"), ("awsEndpoint", "http://127.0.0.1:4566")], true)]
#[case::table("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app")], true)]
#[case::other_table("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "payments")], false)]
#[case::other_table_by_name("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app"), ("leaseTable", "payments")], false)]
#[case::table_by_arn("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "a"), ("leaseTable", "arn:aws:dynamodb:us-east-1:111122223333:table/orders-app")], true)]
#[case::table_of_another_account("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "a"), ("leaseTable", "arn:aws:dynamodb:us-east-1:999922223333:table/orders-app")], false)]
#[case::table_role("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app"), ("leaseTableRoleArn", ROLE)], true)]
#[case::other_table_role("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app"), ("leaseTableRoleArn", "arn:aws:iam::111122223333:role/admin")], false)]
#[case::no_rule_no_table_role("elsewhere", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app"), ("leaseTableRoleArn", ROLE)], false)]
#[case::no_rule_any_table("elsewhere", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "a"), ("leaseTable", "arn:aws:dynamodb:us-east-1:999922223333:table/orders-app")], true)]
#[case::any_table_without_a_list("team-b", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "payments")], true)]
#[case::table_endpoint("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app"), ("leaseTableEndpoint", "http://127.0.0.1:8000")], true)]
#[case::other_table_endpoint("elsewhere", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app"), ("leaseTableEndpoint", "http://127.0.0.1:8000")], false)]
#[case::look_alike("team-a", &[("streamName", "orders-eu"), ("awsEndpoint", "http://127.0.0.1.evil.example")], false)]
#[case::scheme("team-a", &[("streamName", "orders-eu"), ("awsEndpoint", "https://127.0.0.1:4566")], false)]
#[case::first_match_decides("team-a", &[("streamName", "orders-eu"), ("awsEndpoint", "https://a.example.com")], false)]
#[case::empty_list_is_none("closed", &[("streamName", "orders-eu")], false)]
#[case::list_left_out_any_stream("team-b", &[("streamName", "payments")], true)]
#[case::list_left_out_no_role("team-b", &[("streamName", "payments"), ("awsRoleArn", ROLE)], false)]
#[case::no_rule_any_stream("elsewhere", &[("streamName", "payments")], true)]
#[case::no_rule_any_arn("elsewhere", &[("streamArn", ARN)], true)]
#[case::no_rule_no_role("elsewhere", &[("streamName", "payments"), ("awsRoleArn", ROLE)], false)]
#[case::no_rule_no_endpoint("elsewhere", &[("streamName", "payments"), ("awsEndpoint", "http://127.0.0.1:1")], false)]
#[case::empty_namespace("", &[("streamName", "payments"), ("awsRoleArn", ROLE)], false)]
fn rules(#[case] namespace: &str, #[case] pairs: &[(&str, &str)], #[case] allowed: bool) {
    let verdict = policy().check(namespace, &trigger(pairs));
    assert_eq!(verdict.is_ok(), allowed, "{verdict:?}");
}

#[rstest]
fn a_name_is_matched_by_name_patterns_and_an_arn_by_arn_patterns(
    #[values("*", "arn:*")] pattern: &str,
) {
    let only = Some(vec![pattern.to_owned()]);
    let rule = Rule {
        namespaces: vec!["*".to_owned()],
        streams: only.clone(),
        tables: only,
        ..Rule::default()
    };
    let policy = Policy::new(vec![rule], PolicyDefault::Allow);
    // Beside a stream that the pattern allows, so that the table decides.
    let table = |table: &str| {
        let stream = match pattern {
            "*" => ("streamName", "orders"),
            _ => ("streamArn", ARN),
        };
        let lag = [("scaleOn", "lag"), ("applicationName", "billing")];
        trigger(&[&[stream, ("leaseTable", table)][..], &lag].concat())
    };
    let by_arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/billing";
    assert_eq!(policy.check("a", &table("billing")).is_ok(), pattern == "*");
    assert_eq!(policy.check("a", &table(by_arn)).is_ok(), pattern != "*");
    assert_eq!(
        policy
            .check("a", &trigger(&[("streamName", "orders")]))
            .is_ok(),
        pattern == "*"
    );
    assert_eq!(
        policy.check("a", &trigger(&[("streamArn", ARN)])).is_ok(),
        pattern == "arn:*"
    );
}

/// What the file says of `namespace` with `policyDefault: deny`.
#[rstest]
#[case::no_rule("elsewhere", &[("streamName", "payments")], false)]
#[case::no_rule_an_arn("elsewhere", &[("streamArn", ARN)], false)]
#[case::a_rule_that_names_it("team-a", &[("streamName", "orders-eu")], true)]
#[case::a_rule_that_names_another("team-a", &[("streamName", "payments")], false)]
#[case::a_rule_with_tables("team-a", &[("streamName", "orders-eu"), ("scaleOn", "lag"), ("applicationName", "orders-app")], true)]
#[case::a_rule_without_streams("team-b", &[("streamName", "payments")], false)]
fn denied_by_default_is_what_no_list_names(
    #[case] namespace: &str,
    #[case] pairs: &[(&str, &str)],
    #[case] allowed: bool,
) {
    let config = Config::parse(&format!("{RULES}policyDefault: deny\n"), "test").unwrap();
    let policy = Policy::new(config.policy, config.policy_default);
    let verdict = policy.check(namespace, &trigger(pairs));
    assert_eq!(verdict.is_ok(), allowed, "{verdict:?}");
}

/// However an address is written, and whatever a rule says.
#[rstest]
fn metadata_addresses_are_refused_by_any_policy(
    #[values(
        "http://169.254.169.254",
        "http://169.254.169.254.",
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://0xa9.0xfe.0xa9.0xfe:8080",
        "http://0251.0376.0251.0376/latest",
        "http://169.254.43518",
        "http://169.254.170.23",
        "http://[fd00:ec2::254]",
        "http://[::ffff:169.254.169.254]",
        "http://[::ffff:a9fe:a9fe]",
        "http://[64:ff9b::a9fe:a9fe]",
        "http://[fe80::1]"
    )]
    endpoint: &str,
) {
    let config = "policy: [{namespaces: ['*'], endpoints: ['http://*:*/*', 'http://*:*', 'http://[fe80::1]']}]";
    let policy = Policy::new(
        Config::parse(config, "test").unwrap().policy,
        PolicyDefault::Allow,
    );
    for key in ["awsEndpoint", "leaseTableEndpoint"] {
        let lag = [("scaleOn", "lag"), ("applicationName", "orders-app")];
        let keys = [&[("streamName", "orders"), (key, endpoint)][..], &lag].concat();
        let error = policy
            .check("team-a", &trigger(&keys))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(key) && error.contains("never asked"),
            "{error}"
        );
    }
    let elsewhere = trigger(&[
        ("streamName", "orders"),
        ("awsEndpoint", "http://10.0.0.1/a"),
    ]);
    policy.check("team-a", &elsewhere).unwrap();
}

fn refusal(namespace: &str, pairs: &[(&str, &str)]) -> String {
    let error = policy().check(namespace, &trigger(pairs)).unwrap_err();
    assert!(matches!(error, Error::Refused(_)) && error.code() == Code::PermissionDenied);
    error.to_string()
}

#[test]
fn a_refusal_names_the_rule_and_what_would_allow_it() {
    assert_eq!(
        refusal("ci-7", &[("streamName", "payments")]),
        "streamName \"payments\" is refused for namespace \"ci-7\": policy[0] does not allow it; \
         to allow it, add \"payments\" to policy[0].streams in the scaler's config"
    );
}

#[test]
fn without_a_rule_the_refusal_gives_one_that_works() {
    let pairs = [
        ("streamName", "payments"),
        ("awsEndpoint", "http://10.0.0.1:4566/path"),
        ("awsRoleArn", ROLE),
    ];
    let text = refusal("elsewhere", &pairs);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("awsRoleArn ") && lines[1].starts_with("awsEndpoint "),
        "{text}"
    );
    for (line, pairs) in lines
        .iter()
        .zip([[pairs[0], pairs[2]], [pairs[0], pairs[1]]])
    {
        assert!(
            line.contains("no policy rule matches the namespace"),
            "{line}"
        );
        let (_, yaml) = line.split_once("scaler's config: ").unwrap();
        let config = Config::parse(yaml, "advice").unwrap();
        let policy = Policy::new(config.policy, PolicyDefault::Allow);
        policy.check("elsewhere", &trigger(&pairs)).unwrap();
    }
}

#[test]
fn a_tables_role_is_refused_by_its_own_key_and_once() {
    let other = "arn:aws:iam::999922223333:role/leases";
    let lag = [
        ("streamName", "payments"),
        ("scaleOn", "lag"),
        ("applicationName", "billing"),
        ("awsRoleArn", ROLE),
    ];
    let refused = |more: &[(&str, &str)]| refusal("elsewhere", &[&lag[..], more].concat());
    let same = refused(&[]);
    assert!(
        same.starts_with("awsRoleArn ") && same.lines().count() == 1,
        "{same}"
    );
    let both = refused(&[("leaseTableRoleArn", other)]);
    let lines: Vec<_> = both.lines().collect();
    assert_eq!(lines.len(), 2, "{both}");
    assert!(
        lines[1].starts_with(&format!("leaseTableRoleArn {other:?} is refused")),
        "{both}"
    );
}

#[test]
fn a_refusal_tells_nothing_else_that_the_rule_allows() {
    let text = refusal(
        "team-a",
        &[
            ("streamName", "payments"),
            ("awsEndpoint", "http://10.0.0.1"),
        ],
    );
    assert!(
        !text.contains("role/keda-") && !text.contains("127.0.0.1") && !text.contains("orders-*"),
        "{text}"
    );
    // Nor who else it is for.
    assert!(!text.contains("ci-*"), "{text}");
}

#[test]
fn a_namespace_is_repeated_escaped_and_short() {
    let namespace = format!("\n{}", "x".repeat(1_000_000));
    let text = refusal(
        &namespace,
        &[("streamName", "payments"), ("awsRoleArn", ROLE)],
    );
    assert!(text.len() < 1000 && !text.contains('\n'), "{text}");
}
