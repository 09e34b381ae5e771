//! What surrounds the program: odd variables, proxies, authorities, hosts.

use assert_cmd::cargo::cargo_bin;
use test_support::{Program, environment};

fn scaler(args: &[&str]) -> Program {
    Program::new(cargo_bin("keda-kinesis-scaler")).args(args)
}

const CHECK: [&str; 5] = [
    "check",
    "--set",
    "streamName=orders",
    "--set",
    "awsRegion=eu-west-1",
];

#[tokio::test]
async fn every_variable_is_unset_right_or_named_by_serve() {
    let serve = scaler(&["serve", "--print-config"]);
    environment::every_variable_is_unset_right_or_named(serve).await;
}

#[tokio::test]
async fn every_variable_is_unset_right_or_named_by_check() {
    environment::every_variable_is_unset_right_or_named(scaler(&CHECK)).await;
}
