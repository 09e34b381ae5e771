//! What surrounds the program: the rules that hold for the scaler, too.

use test_support::{Company, Program, Signal, environment, ipv6};

use crate::support;

fn consumer() -> Program {
    [
        ("STREAM_NAME", "orders"),
        ("TABLE_NAME", "users"),
        ("APPLICATION_NAME", "demo-app"),
        ("INSTANCE_NAME", "pod-1"),
        ("ADMIN", "127.0.0.1:0"),
    ]
    .into_iter()
    .fold(support::binary(), |program, (name, value)| {
        program.env(name, value)
    })
}

#[tokio::test]
async fn every_variable_is_unset_right_or_named() {
    environment::every_variable_is_unset_right_or_named(consumer()).await;
}

#[tokio::test]
async fn it_asks_by_the_proxy() {
    let company = Company::start().await;
    let process = company
        .program(consumer())
        .env("LOG_FORMAT", "json")
        .start();
    process.logged("\"consuming\"").await;
    process.signal(Signal::TERM);
    let log = process.stop().await;
    let hosts = [
        "dynamodb.us-east-1.amazonaws.com",
        "kinesis.us-east-1.amazonaws.com",
    ];
    company.asked(&hosts, &log);
    assert!(
        log.contains("by way of a proxy") && log.contains("HTTPS_PROXY"),
        "{log}"
    );
}

#[tokio::test]
async fn authorities_are_found() {
    let company = Company::start().await;
    company.authorities(consumer(), "consuming").await;
}

#[tokio::test]
async fn the_default_region_stands_in() {
    let company = Company::start().await;
    company.default_region(consumer(), "consuming").await;
}

#[tokio::test]
async fn fips_and_dual_stack_are_for_all_of_its_hosts() {
    let company = Company::start().await;
    let token = "web-identity-token";
    company
        .kinesis
        .identities()
        .require_web_identity_token(token);
    let program = company
        .program(consumer())
        .without("AWS_ACCESS_KEY_ID")
        .env("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/consumer")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", company.file("token", token))
        .env("AWS_USE_FIPS_ENDPOINT", "true")
        .env("AWS_USE_DUALSTACK_ENDPOINT", "true");
    let process = program.start();
    process.logged("consuming").await;
    let log = process.stop().await;
    let hosts = ["dynamodb-fips", "kinesis-fips", "sts-fips"];
    company.asked(&hosts.map(|it| format!("{it}.us-east-1.api.aws")), &log);
}

#[tokio::test]
async fn its_admin_port_is_reached_where_there_is_ipv6_alone() {
    let env = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "very-secret"),
        // Nobody listens there: it goes on asking until it is stopped.
        ("AWS_ENDPOINT_URL", "http://[::1]:9"),
        ("AWS_MAX_ATTEMPTS", "30"),
    ];
    let program = consumer().without("ADMIN");
    let program = env
        .iter()
        .fold(program, |it, (name, value)| it.env(name, value));
    ipv6::alone("its_admin_port_is_reached", program, "9090", "/livez").await;
}

/// Not with a panic's code: who reads the log may be gone, or its disk full.
#[test]
fn a_log_that_cannot_be_written_changes_no_exit_code() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut consumer = std::process::Command::new(env!("CARGO_BIN_EXE_kinesis-to-dynamodb"));
    let settings = ["STREAM_NAME", "TABLE_NAME", "APPLICATION_NAME"].map(|name| (name, "x"));
    let nowhere = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("ADMIN", "127.0.0.1:0"),
    ];
    let consumer = consumer.env_clear().envs(settings).envs(nowhere);
    let status = consumer.stderr(full.unwrap()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

/// Manifests have a variable whose value is left out. One that is needed is missed all the same.
#[test]
fn an_empty_variable_is_an_unset_one() {
    let nowhere = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ];
    let needed = ["STREAM_NAME", "TABLE_NAME", "APPLICATION_NAME"];
    let run = |name: &str, value: Option<&str>| {
        let mut consumer = std::process::Command::new(env!("CARGO_BIN_EXE_kinesis-to-dynamodb"));
        let all = consumer
            .env_clear()
            .envs(nowhere)
            .env("ADMIN", "127.0.0.1:0");
        let all = all.envs(needed.map(|needed| (needed, needed)));
        let output = match value {
            Some(value) => all.env(name, value),
            None => all.env_remove(name),
        };
        let output = output.output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), log)
    };
    let command = <kinesis_to_dynamodb::Settings as clap::CommandFactory>::command();
    let mut names = 0;
    for setting in command.get_arguments().filter_map(clap::Arg::get_env) {
        let name = setting.to_str().unwrap();
        let want = run(name, None).0;
        assert_eq!(
            want,
            Some(if needed.contains(&name) { 2 } else { 1 }),
            "{name}"
        );
        for empty in ["", " "] {
            let (code, log) = run(name, Some(empty));
            assert_eq!(code, want, "{name}={empty:?}: {log}");
        }
        names += 1;
    }
    assert!(names >= 19, "{names}");
}
