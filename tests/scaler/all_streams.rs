//! `streams: all`: an application that reads several streams, counted as one.

use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::{FOREVER, Fault};
use keda_kinesis_scaler::proto::ScaledObjectRef;

use tonic::Code;

use crate::support::{world::Application, *};

/// A trigger about all that `billing` reads.
fn trigger(application: &Application, scale_on: &str) -> ScaledObjectRef {
    let mut object = application.trigger(scale_on, &[("streams", "all")]);
    object.scaler_metadata.remove("streamName");
    object
}

async fn put(application: &Application, stream: &str, count: usize) {
    for n in 0..count {
        let put = application.stack.aws.put_record().stream_name(stream);
        let put = put.partition_key(n.to_string()).data(Blob::new("data"));
        put.send().await.unwrap();
    }
}

async fn becomes_active(client: &mut Client, object: &ScaledObjectRef) {
    loop {
        let active = client.is_active(object.clone()).await;
        if active.is_ok_and(|active| active.into_inner().result) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn delete(application: &Application, stream: &str) {
    let delete = application.stack.aws.delete_stream();
    delete.stream_name(stream).send().await.unwrap();
}

/// `orders` with two shards and `payments` with one, each read to its end by a worker that is gone.
async fn read_by_nobody_any_more() -> Application {
    let application = Application::start(2).await;
    application.stack.create_stream("payments", 1).await;
    put(&application, "orders", 20).await;
    put(&application, "payments", 1).await;
    let worker = application.run_streams("orders,payments", 100);
    eventually("the leases", application.held(3)).await;
    eventually("all is read", async {
        while worker.may.available_permits() > 100 - 21 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    worker.stop().await;
    application
}

#[tokio::test]
async fn readable_shards_and_lag_are_those_of_all_streams_that_are_there() {
    let application = Application::start(2).await;
    application.stack.create_stream("payments", 1).await;
    application.stack.create_stream("orders-other", 3).await;
    put(&application, "orders", 1).await;
    put(&application, "payments", 1).await;
    let worker = application.run_streams("orders,payments", 100);
    eventually("the leases", application.held(3)).await;

    let mut client = application.stack.client().await;
    let readable = trigger(&application, "readableShards");
    wait_for_value(&mut client, &readable, 3.0).await;
    let spec = client.get_metric_spec(readable.clone()).await.unwrap();
    let spec = spec.into_inner().metric_specs.remove(0);
    assert_eq!(spec.metric_name, "aws-kinesis-billing");
    // One out of the same table, by its name.
    wait_for_value(
        &mut client,
        &application.trigger("readableShards", &[]),
        2.0,
    )
    .await;

    // What nobody reads is unread, of whichever stream it is.
    worker.stop().await;
    put(&application, "payments", 1).await;
    let lag = trigger(&application, "lag");
    eventually("a record is unread", becomes_active(&mut client, &lag)).await;

    // A stream that is gone counts for nothing.
    delete(&application, "orders").await;
    wait_for_value(&mut client, &readable, 1.0).await;
}

/// Nobody runs who would make its new leases: the scaler must wake somebody.
#[tokio::test]
async fn a_record_of_a_stream_that_was_made_anew_activates_from_zero() {
    let application = read_by_nobody_any_more().await;
    delete(&application, "orders").await;
    application.stack.create_stream("orders", 2).await;
    put(&application, "orders", 1).await;
    let mut client = application.stack.client().await;
    let all = trigger(&application, "lag");
    eventually("of all", becomes_active(&mut client, &all)).await;
    let one = application.trigger("lag", &[]);
    eventually("of one", becomes_active(&mut client, &one)).await;
    let readable = trigger(&application, "readableShards");
    wait_for_value(&mut client, &readable, 3.0).await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_listed_for_a_while_takes_no_answer_about_the_others_away() {
    let application = read_by_nobody_any_more().await;
    let mut client = application.stack.client().await;
    let readable = trigger(&application, "readableShards");
    wait_for_value(&mut client, &readable, 3.0).await;
    let faults = application.stack.kinesis.faults();
    faults.inject_on("orders", "ListShards", Fault::throttling(), FOREVER);
    delete(&application, "payments").await;
    wait_for_value(&mut client, &readable, 2.0).await;
}

#[tokio::test]
async fn streams_of_which_none_is_there_are_told_with_their_account() {
    let application = read_by_nobody_any_more().await;
    delete(&application, "orders").await;
    delete(&application, "payments").await;
    let mut client = application.stack.client().await;
    let readable = trigger(&application, "readableShards");
    let error = wait_for_code(&mut client, &readable, Code::NotFound).await;
    for part in [
        "None of the 2 streams",
        "The leases are of account ",
        "awsRoleArn",
    ] {
        assert!(error.message().contains(part), "{part} is not in {error}");
    }
}

#[tokio::test]
async fn a_table_of_one_stream_is_told_as_that() {
    let application = Application::start(1).await;
    let worker = application.run("billing-1", 0);
    eventually("the leases", application.held(1)).await;
    let mut client = application.stack.client().await;
    let object = trigger(&application, "readableShards");
    let error = async {
        loop {
            let asked = client.is_active(object.clone()).await;
            match asked {
                Err(error) if error.message().contains("reads one stream") => return error,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    let error = eventually("the error", error).await;
    assert!(
        error.message().contains("name that stream in streamName"),
        "{error}"
    );
    worker.stop().await;
}
