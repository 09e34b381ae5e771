//! SIGTERM: health says so, push streams end with OK, calls in flight finish, the process exits
//! with 0.

use std::time::Duration;

use crate::support::{self, Process, Signal, Stack, eventually, value};
use embedded_kinesis::{FOREVER, Fault};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const SERVICES: [&str; 2] = ["", "externalscaler.ExternalScaler"];

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn push_streams_end_with_ok() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 2).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    let mut states = client
        .stream_is_active(object.clone())
        .await
        .unwrap()
        .into_inner();
    let mut specs = client
        .stream_metric_spec(object)
        .await
        .unwrap()
        .into_inner();
    states.message().await.unwrap().unwrap();
    specs.message().await.unwrap().unwrap();
    stack.shutdown.cancel();
    assert!(
        eventually("the end", states.message())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        eventually("the end", specs.message())
            .await
            .unwrap()
            .is_none()
    );
    eventually("the server to end", stack.stop()).await;
}

#[tokio::test]
async fn calls_in_flight_finish() {
    let stack = Stack::with(|config, _| config.aws.timeout = Duration::from_secs(60)).await;
    stack.create_stream("orders", 2).await;
    // The first answer comes within the two seconds that an RPC waits, but after the shutdown.
    let late = Fault::Delay(Duration::from_millis(700));
    stack
        .kinesis
        .faults()
        .inject("DescribeStreamSummary", late, 1);
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    let asked = tokio::spawn(async move { value(&mut client, &object).await });
    stack.kinesis.wait_for_held_calls(1).await;
    stack.shutdown.cancel();
    assert_eq!(asked.await.unwrap().unwrap(), 2.0);
    eventually("the server to end", stack.stop()).await;
}

#[tokio::test]
async fn health_is_told_and_nobody_new_is_served() {
    let stack = Stack::start().await;
    let mut health = HealthClient::new(support::channel(stack.address).await);
    let mut watched = Vec::new();
    for service in SERVICES {
        let status = health
            .check(check(service))
            .await
            .unwrap()
            .into_inner()
            .status();
        assert_eq!(status, ServingStatus::Serving);
        let mut watch = health.watch(check(service)).await.unwrap().into_inner();
        let status = watch.message().await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::Serving);
        watched.push(watch);
    }
    assert_eq!(
        health.check(check("other")).await.unwrap_err().code(),
        Code::NotFound
    );
    stack.shutdown.cancel();
    for watch in &mut watched {
        let status = eventually("the status", watch.message()).await.unwrap();
        assert_eq!(status.unwrap().status(), ServingStatus::NotServing);
        assert!(
            eventually("the end", watch.message())
                .await
                .unwrap()
                .is_none()
        );
    }
    let address = stack.address;
    eventually("the server to end", stack.stop()).await;
    tokio::net::TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn the_grace_period_bounds_it_all() {
    let stack = Stack::with(|config, tuning| {
        config.grace = Duration::from_millis(200);
        config.aws.timeout = Duration::from_secs(3600);
        let mut pace = keda_kinesis_scaler::watch::Pace::from(&config.aws);
        pace.first_answer = Duration::from_secs(3600);
        tuning.pace = Some(pace);
    })
    .await;
    stack.create_stream("orders", 2).await;
    stack
        .kinesis
        .faults()
        .inject("DescribeStreamSummary", Fault::Hang, FOREVER);
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    let asked = tokio::spawn(async move { value(&mut client, &object).await });
    stack.kinesis.wait_for_held_calls(1).await;
    eventually("the server to end", stack.stop()).await;
    drop(asked);
}

#[tokio::test]
async fn the_process_exits_with_0_on_sigterm_and_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let process = Process::start("", &[]).await;
        let mut client = process.client().await;
        let object = support::object(support::metadata(&[
            ("streamName", "orders"),
            ("awsRegion", "eu-west-1"),
        ]));
        let mut specs = client
            .stream_metric_spec(object)
            .await
            .unwrap()
            .into_inner();
        specs.message().await.unwrap().unwrap();
        process.signal(signal);
        assert!(
            eventually("the end", specs.message())
                .await
                .unwrap()
                .is_none()
        );
        drop((specs, client));
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{signal:?}: {log:?}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let kinesis = embedded_kinesis::EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    kinesis.faults().inject("*", Fault::Hang, FOREVER);
    let config = "
        aws: {timeout: 5m}
        grace: 5m
        policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]
    ";
    let env = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ];
    let process = Process::start(config, &env).await;
    // A reflection stream that its client does not end holds the server up.
    let channel = support::channel(process.address).await;
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let (asks, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let held = reflection.server_reflection_info(requests).await.unwrap();
    process.signal(Signal::TERM);
    process.logged("\"draining\"").await;
    process.signal(Signal::TERM);
    let (status, _) = process.ended().await;
    assert_ne!(status.code(), Some(0));
    drop((asks, held));
}
