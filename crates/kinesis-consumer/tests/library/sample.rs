//! The README's program, word for word, as a process before the embedded services.

use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::EmbeddedKinesis;
use test_support::{DynamoDb, Program, Signal, aws, eventually};

mod printer {
    #![expect(clippy::print_stdout, reason = "it prints records")]
    include!("sample/printer.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

const RUN: &str = "RUN_THE_SAMPLE";

/// Not a test: what the process runs.
#[test]
fn sample_process() {
    if std::env::var_os(RUN).is_some() {
        printer::run();
    }
}

#[test]
fn the_readme_has_it_word_for_word() {
    let program = include_str!("sample/printer.rs");
    assert!(
        include_str!("../../README.md").contains(&format!("```rust,no_run\n{program}```\n")),
        "the README's first program is not tests/library/sample/printer.rs"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_prints_what_was_put_before_and_ends_at_ctrl_c() {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default())
        .await
        .unwrap();
    let dynamodb = DynamoDb::start().await;
    let client = aws::kinesis(&kinesis.endpoint());
    let create = client.create_stream().stream_name("orders").shard_count(2);
    create.send().await.unwrap();
    let put = client.put_record().stream_name("orders");
    let put = put.partition_key("ada").data(Blob::new("hello"));
    eventually("an ACTIVE stream", async {
        while put.clone().send().await.is_err() {}
    })
    .await;
    let mut sample = Program::new(std::env::current_exe().unwrap())
        .args(["sample::sample_process", "--exact", "--nocapture"])
        .env(RUN, "1")
        .env("AWS_ENDPOINT_URL_KINESIS", kinesis.endpoint())
        .env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .start();
    sample.logged("ada: hello").await;
    sample.signal(Signal::INT);
    sample.logged("all leases are given up").await;
    sample.ended().await;
}
