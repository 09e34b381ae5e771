//! The binary, as a shell or a container starts it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_sdk_kinesis::{
    primitives::Blob,
    types::{ShardIteratorType, StartingPosition},
};
use test_support::{Process, Program, Signal, aws};

fn program(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_embedded-aws"))
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
}

/// What the printed line for a shell says that the variable is.
async fn variable(process: &Process, name: &str) -> String {
    let name = format!("{name}=");
    let value = |line: &str| {
        let mut words = line.strip_prefix("export ")?.split(' ');
        words.find_map(|word| word.strip_prefix(&name).map(str::to_owned))
    };
    process.first("the variables", value).await
}

#[tokio::test]
async fn streams_and_tables_are_there_when_it_serves() {
    let arguments = ["--region", "us-east-1", "--table", "users=email"];
    let mut process = program(&arguments)
        .args(["--stream", "orders=2,clicks=1"])
        .start();
    let endpoint = variable(&process, "AWS_ENDPOINT_URL").await;
    assert_eq!(variable(&process, "AWS_REGION").await, "us-east-1");
    let (kinesis, dynamodb) = (aws::kinesis(&endpoint), aws::dynamodb(&endpoint));
    let streams = kinesis.list_streams().send().await.unwrap();
    assert_eq!(streams.stream_names(), ["clicks", "orders"]);
    let summary = kinesis.describe_stream_summary().stream_name("orders");
    let summary = summary.send().await.unwrap();
    let summary = summary.stream_description_summary().unwrap();
    assert_eq!(summary.open_shard_count(), 2);
    let table = dynamodb.describe_table().table_name("users").send();
    let table = table.await.unwrap().table.unwrap();
    assert_eq!(table.key_schema()[0].attribute_name(), "email");

    let arn = summary.stream_arn();
    let register = kinesis.register_stream_consumer().stream_arn(arn);
    let registered = register.consumer_name("app").send().await.unwrap();
    let consumer = registered.consumer().unwrap().consumer_arn();
    let from = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let subscribe = kinesis.subscribe_to_shard().consumer_arn(consumer);
    let subscribe = subscribe.shard_id("shardId-000000000000");
    let subscribe = subscribe.starting_position(from.build().unwrap());
    let mut events = subscribe.send().await.unwrap().event_stream;
    let put = kinesis
        .put_record()
        .stream_name("orders")
        .partition_key("k");
    let put = put.explicit_hash_key("0").data(Blob::new("pushed"));
    put.send().await.unwrap();
    let event = events.recv().await.unwrap().unwrap();
    let records = event.as_subscribe_to_shard_event().unwrap().records();
    assert_eq!(records[0].data().as_ref(), b"pushed");
    drop(events);
    // As Kubernetes ends it.
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn what_cannot_be_made_is_an_error_that_names_it() {
    for (flag, wrong, said) in [
        ("--stream", "orders", "want such as orders=2"),
        ("--stream", "orders=two", "want such as orders=2"),
        ("--table", "users=", "want such as orders=2"),
        ("--stream", "orders=0", "cannot make the stream orders: "),
        ("--table", "u=email", "cannot make the table u: "),
    ] {
        let (code, log) = program(&[flag, wrong]).run().await;
        assert!(code > 0 && log.contains(said), "{wrong}: {log}");
    }
}
