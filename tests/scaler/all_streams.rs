//! `streams: all`: an application that reads several streams, counted as one.

use aws_sdk_kinesis::primitives::Blob;
use keda_kinesis_scaler::proto::ScaledObjectRef;

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
    let active = async {
        loop {
            let active = client.is_active(lag.clone()).await;
            if active.is_ok_and(|active| active.into_inner().result) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    eventually("a record is unread", active).await;

    // A stream that is gone counts for nothing.
    let delete = application.stack.aws.delete_stream();
    delete.stream_name("orders").send().await.unwrap();
    wait_for_value(&mut client, &readable, 1.0).await;
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
