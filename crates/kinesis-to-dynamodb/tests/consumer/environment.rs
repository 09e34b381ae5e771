//! What surrounds the program: the rules that hold for the scaler, too.

use test_support::{Program, environment};

fn consumer() -> Program {
    [
        ("STREAM_NAME", "orders"),
        ("TABLE_NAME", "users"),
        ("APPLICATION_NAME", "demo-app"),
        ("INSTANCE_NAME", "pod-1"),
        ("ADMIN", "127.0.0.1:0"),
    ]
    .into_iter()
    .fold(
        Program::new(env!("CARGO_BIN_EXE_kinesis-to-dynamodb")),
        |program, (name, value)| program.env(name, value),
    )
}

#[tokio::test]
async fn every_variable_is_unset_right_or_named() {
    environment::every_variable_is_unset_right_or_named(consumer()).await;
}
