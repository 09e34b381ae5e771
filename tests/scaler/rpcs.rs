//! The five RPCs, asked as KEDA asks them.

use crate::support::{self, Stack, metrics, wait_for_value};
use keda_kinesis_scaler::proto::{GetMetricsRequest, IsActiveResponse, MetricSpec, MetricValue};
use tonic::Code;

#[tokio::test]
#[expect(deprecated, reason = "KEDA before 2.17 reads the integers")]
async fn a_tick_of_keda() {
    let stack = Stack::start().await;
    stack.create_stream("orders.eu", 3).await;
    let mut client = stack.client().await;
    let object = stack.object(
        "orders.eu",
        &[("shardCount", "2"), ("activationShardCount", "2")],
    );

    let spec = client
        .get_metric_spec(object.clone())
        .await
        .unwrap()
        .into_inner();
    let wanted = MetricSpec {
        metric_name: "aws-kinesis-orders-eu".to_owned(),
        target_size: 2,
        target_size_float: 2.0,
    };
    assert_eq!(spec.metric_specs, [wanted]);
    assert_eq!(
        stack.kinesis.count("DescribeStreamSummary"),
        0,
        "a spec needs no AWS call"
    );

    let wanted = MetricValue {
        metric_name: "aws-kinesis-orders-eu".to_owned(),
        metric_value: 3,
        metric_value_float: 3.0,
    };
    assert_eq!(
        metrics(&mut client, &object).await.unwrap().metric_values,
        [wanted]
    );
    let active = client.is_active(object).await.unwrap().into_inner();
    assert_eq!(active, IsActiveResponse { result: true });
    stack.stop().await;
}

#[tokio::test]
async fn active_is_strictly_more() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    for (activation, active) in [("-1", true), ("2", true), ("3", false), ("4", false)] {
        let object = stack.object("orders", &[("activationShardCount", activation)]);
        let answer = client.is_active(object).await.unwrap().into_inner();
        assert_eq!(answer.result, active, "activationShardCount {activation}");
    }
}

#[tokio::test]
async fn a_reshard_is_seen() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 2).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 2.0).await;
    stack.update_shard_count("orders", 3).await;
    wait_for_value(&mut client, &object, 3.0).await;
    stack.update_shard_count("orders", 2).await;
    wait_for_value(&mut client, &object, 2.0).await;
}

#[tokio::test]
async fn a_stream_by_arn_is_asked_by_arn() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 4).await;
    let (arn, endpoint) = (stack.kinesis.stream_arn("orders"), stack.kinesis.endpoint());
    let object = support::object(support::metadata(&[
        ("streamArn", &arn),
        ("awsEndpoint", &endpoint),
    ]));
    let mut client = stack.client().await;
    wait_for_value(&mut client, &object, 4.0).await;
}

#[tokio::test]
async fn another_metric_than_ours_is_refused() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 1).await;
    let request = GetMetricsRequest {
        scaled_object_ref: Some(stack.object("orders", &[])),
        metric_name: "aws-kinesis-payments".to_owned(),
    };
    let status = stack.client().await.get_metrics(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for name in ["aws-kinesis-orders", "aws-kinesis-payments"] {
        assert!(status.message().contains(name), "{}", status.message());
    }
}

#[tokio::test]
async fn a_name_as_an_older_keda_asks_is_answered_with_the_oldest_supported() {
    let stack = Stack::start().await;
    let request = GetMetricsRequest {
        scaled_object_ref: Some(stack.object("orders", &[])),
        metric_name: "s0-aws-kinesis-orders".to_owned(),
    };
    let status = stack.client().await.get_metrics(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("KEDA 2.16"), "{status}");
}

#[tokio::test]
async fn all_five_refuse_wrong_metadata_and_say_what_is_wrong() {
    let stack = Stack::start().await;
    let object = stack.object("orders", &[("shardCount", "0"), ("awsRegion", "mars")]);
    let mut client = stack.client().await;
    let asked = GetMetricsRequest {
        scaled_object_ref: Some(object.clone()),
        metric_name: "aws-kinesis-orders".to_owned(),
    };
    let errors = [
        client.get_metric_spec(object.clone()).await.unwrap_err(),
        client.get_metrics(asked).await.unwrap_err(),
        client.is_active(object.clone()).await.unwrap_err(),
        client.stream_is_active(object.clone()).await.unwrap_err(),
        client.stream_metric_spec(object).await.unwrap_err(),
    ];
    for status in errors {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().contains("shardCount \"0\""),
            "{}",
            status.message()
        );
        assert!(
            status.message().contains("awsRegion \"mars\""),
            "{}",
            status.message()
        );
    }
    assert_eq!(stack.kinesis.count("*"), 0);
}
