//! What KEDA is told while AWS fails: the last good answer, then an honest error, then the truth
//! again.

use std::time::Duration;

use crate::support::{self, Scripted, Stack, eventually, value, wait_for_code, wait_for_value};
use embedded_kinesis::{FOREVER, Fault};
use rstest::rstest;
use tonic::{Code, Status};

const DESCRIBE: &str = "DescribeStreamSummary";

fn denied() -> Fault {
    Fault::access_denied()
}

fn broken(status: &Status, code: &str) {
    for wanted in ["orders", support::REGION, code] {
        assert!(
            status.message().contains(wanted),
            "{wanted} is missing in {}",
            status.message()
        );
    }
}

#[rstest]
#[case::throttling(Fault::throttling(), Code::ResourceExhausted, "LimitExceededException")]
#[case::internal_error(Fault::internal_error(), Code::Unavailable, "InternalFailure")]
#[case::bare_503(Fault::Status(503), Code::Unavailable, "503")]
#[case::hang(Fault::Hang, Code::DeadlineExceeded, "Timeout")]
#[case::reset(Fault::Reset, Code::Unavailable, "ConnectionFailed")]
#[case::half_a_body(Fault::HalfBody, Code::Unavailable, "")]
#[case::garbage(Fault::Garbage, Code::Unavailable, "UnreadableAnswer")]
#[case::no_count(Fault::EmptyJson, Code::Unavailable, "UnreadableAnswer")]
#[case::access_denied(denied(), Code::PermissionDenied, "AccessDeniedException")]
#[case::not_found(Fault::not_found(), Code::NotFound, "ResourceNotFoundException")]
#[case::expired_token(Fault::expired_token(), Code::Unauthenticated, "ExpiredTokenException")]
#[tokio::test]
async fn a_fault(#[case] fault: Fault, #[case] code: Code, #[case] text: &str) {
    // Warm, with a last good answer that may stand in but briefly.
    let stack = Stack::with(|config, _| {
        config.aws.max_stale = Duration::from_millis(500);
        config.aws.timeout = Duration::from_millis(300);
    })
    .await;
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 3.0).await;
    let faults = stack.kinesis.faults();
    // What ListShards could count instead is not what this is about.
    faults.inject("ListShards", denied(), FOREVER);
    faults.inject(DESCRIBE, fault.clone(), FOREVER);
    broken(&wait_for_code(&mut client, &object, code).await, text);

    // Recovery, without a restart; what changed meanwhile is told.
    faults.clear();
    stack.update_shard_count("orders", 4).await;
    wait_for_value(&mut client, &object, 4.0).await;

    // From cold.
    faults.inject("ListShards", denied(), FOREVER);
    faults.inject(DESCRIBE, fault, FOREVER);
    let cold = stack.object("orders-cold", &[]);
    stack.create_stream("orders-cold", 2).await;
    broken(&wait_for_code(&mut client, &cold, code).await, text);
    let status = client.is_active(cold.clone()).await.unwrap_err();
    assert_eq!(
        status.code(),
        code,
        "IsActive fails alike: {}",
        status.message()
    );
    client
        .get_metric_spec(cold.clone())
        .await
        .expect("a spec needs no AWS");
    faults.clear();
    wait_for_value(&mut client, &cold, 2.0).await;
}

#[rstest]
#[case::throttling(Fault::throttling())]
#[case::internal_error(Fault::internal_error())]
#[case::bare_503(Fault::Status(503))]
#[case::hang(Fault::Hang)]
#[case::reset(Fault::Reset)]
#[case::half_a_body(Fault::HalfBody)]
#[case::garbage(Fault::Garbage)]
#[case::no_count(Fault::EmptyJson)]
#[case::expired_token(Fault::expired_token())]
#[tokio::test]
async fn the_last_good_answer_stands_in(#[case] fault: Fault) {
    let stack = Stack::with(|config, _| config.aws.timeout = Duration::from_millis(100)).await;
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 3.0).await;
    stack
        .kinesis
        .faults()
        .inject("ListShards", denied(), FOREVER);
    stack.kinesis.faults().inject(DESCRIBE, fault, FOREVER);
    stack.kinesis.clear_calls();
    // A call that came before the fault may still be answered well; five later nothing is.
    eventually("failed calls", stack.kinesis.wait_for_calls(DESCRIBE, 5)).await;
    assert_eq!(value(&mut client, &object).await.unwrap(), 3.0);
}

#[rstest]
#[case::not_found(Fault::not_found(), Code::NotFound)]
#[case::access_denied(Fault::access_denied(), Code::PermissionDenied)]
#[tokio::test]
async fn a_permanent_error_does_not_wait_for_max_stale(#[case] fault: Fault, #[case] code: Code) {
    let stack = Stack::start().await;
    assert!(support::config().aws.max_stale > support::PATIENCE);
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 3.0).await;
    stack.kinesis.faults().inject(DESCRIBE, fault, FOREVER);
    wait_for_code(&mut client, &object, code).await;
}

#[tokio::test]
async fn one_denial_is_not_believed() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 3.0).await;
    stack.kinesis.clear_calls();
    stack.kinesis.faults().inject(DESCRIBE, denied(), 1);
    let asked = async {
        loop {
            assert_eq!(value(&mut client, &object).await.unwrap(), 3.0);
            if stack.kinesis.count(DESCRIBE) >= 5 {
                return;
            }
        }
    };
    eventually("five calls", asked).await;
}

#[tokio::test]
async fn one_broken_connection_is_not_noticed_even_from_cold() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 3).await;
    stack.kinesis.faults().inject(DESCRIBE, Fault::Reset, 1);
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    assert_eq!(value(&mut client, &object).await.unwrap(), 3.0);
}

#[tokio::test]
async fn a_first_answer_that_hangs_is_not_waited_for() {
    let stack = Stack::with(|config, tuning| {
        config.aws.timeout = Duration::from_secs(3600);
        let mut pace = keda_kinesis_scaler::watch::Pace::from(&config.aws);
        pace.first_answer = Duration::from_millis(200);
        tuning.pace = Some(pace);
    })
    .await;
    stack.create_stream("orders", 3).await;
    stack.kinesis.faults().inject(DESCRIBE, Fault::Hang, 1);
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    let status = eventually("an answer", value(&mut client, &object))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    broken(&status, "no answer yet");
    assert_eq!(stack.kinesis.count(DESCRIBE), 1, "the question goes on");
}

/// A 200 whose count is missing in other ways than the whole answer: the SDK reads each as 0.
#[rstest]
#[case::null(r#"{"StreamDescriptionSummary": {"StreamName": "orders", "OpenShardCount": null}}"#)]
#[case::a_stream_of_that_name(r#"{"StreamDescriptionSummary": {"StreamName": "OpenShardCount"}}"#)]
#[case::in_another_place(
    r#"{"OpenShardCount": 3, "StreamDescriptionSummary": {"StreamName": "orders"}}"#
)]
#[case::no_summary(r#"{"OpenShardCount": 3}"#)]
#[tokio::test]
async fn a_200_without_a_count_is_no_zero(#[case] answer: &'static str) {
    let stack = Stack::start().await;
    let aws = Scripted::start(move |_, _| Ok(serde_json::from_str(answer).unwrap())).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[("awsEndpoint", &aws.endpoint)]);
    let status = value(&mut client, &object).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    broken(&status, "UnreadableAnswer");
}

#[tokio::test]
async fn a_stream_deleted_and_made_again_is_followed() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 3.0).await;
    stack
        .aws
        .delete_stream()
        .stream_name("orders")
        .send()
        .await
        .unwrap();
    let status = wait_for_code(&mut client, &object, Code::NotFound).await;
    broken(&status, "ResourceNotFoundException");
    stack.create_stream("orders", 5).await;
    wait_for_value(&mut client, &object, 5.0).await;
}
