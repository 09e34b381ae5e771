//! The admin port.

use crate::support::{self, Stack, eventually, http_get, value};
use embedded_kinesis::Fault;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn live_and_ready_whatever_aws_does() {
    let stack = Stack::start().await;
    stack
        .kinesis
        .faults()
        .inject("*", Fault::Hang, embedded_kinesis::FOREVER);
    for path in ["/livez", "/readyz"] {
        assert_eq!(http_get(stack.admin, path).await, (200, "ok\n".to_owned()));
    }
    assert_eq!(http_get(stack.admin, "/").await.0, 404);
}

#[tokio::test]
async fn slow_connections_do_not_keep_probes_out() {
    let stack = Stack::start().await;
    let mut slow = Vec::new();
    for _ in 0..150 {
        let mut stream = TcpStream::connect(stack.admin).await.unwrap();
        // Those before may have been closed already.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        slow.push(stream);
    }
    assert_eq!(http_get(stack.admin, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_page_whose_name_was_made_to_mean_this_machine_does_not_read_explain() {
    let stack = Stack::start().await;
    let port = stack.admin.port();
    for (host, status) in [
        (format!("localhost:{port}"), "200"),
        (format!("127.0.0.1:{port}"), "200"),
        (format!("[::1]:{port}"), "200"),
        (format!("evil.example.com:{port}"), "403"),
        (format!("localhost.example.com:{port}"), "403"),
    ] {
        let mut stream = TcpStream::connect(stack.admin).await.unwrap();
        let ask = format!("GET /explain HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        eventually("an answer", read).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{host}: {answer}"
        );
    }
}

#[tokio::test]
async fn not_ready_while_draining() {
    let stack = Stack::start().await;
    // A call in flight holds the server up until the test has looked.
    let held = hold(&stack).await;
    stack.shutdown.cancel();
    let drained = async {
        while http_get(stack.admin, "/readyz").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    };
    eventually("not ready", drained).await;
    assert_eq!(http_get(stack.admin, "/livez").await.0, 200);
    drop(held);
    eventually("the end", stack.stop()).await;
}

/// A reflection stream that its client does not end.
async fn hold(stack: &Stack) -> impl Drop + use<> {
    struct Held<T>(Option<T>);
    impl<T> Drop for Held<T> {
        fn drop(&mut self) {
            self.0.take();
        }
    }
    let channel = support::channel(stack.address).await;
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let (asks, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let answers = reflection.server_reflection_info(requests).await.unwrap();
    Held(Some((asks, answers, reflection)))
}

#[tokio::test]
async fn metrics_say_what_was_asked_and_answered() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 2).await;
    let mut client = stack.client().await;
    let object = stack.object("orders", &[]);
    value(&mut client, &object).await.unwrap();
    let wrong = stack.object("orders", &[("shardCount", "none")]);
    client.is_active(wrong).await.unwrap_err();
    let mut states = client.stream_is_active(object).await.unwrap().into_inner();
    states.message().await.unwrap().unwrap();
    let (status, text) = http_get(stack.admin, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "keda_kinesis_scaler_rpcs_total{method=\"GetMetrics\",code=\"OK\"} 1",
        "keda_kinesis_scaler_rpcs_total{method=\"IsActive\",code=\"INVALID_ARGUMENT\"} 1",
        "keda_kinesis_scaler_rpc_duration_seconds_count{method=\"GetMetricSpec\"} 1",
        "keda_kinesis_scaler_aws_calls_total{operation=\"DescribeStreamSummary\",outcome=\"OK\"} ",
        "keda_kinesis_scaler_aws_call_duration_seconds_count{operation=\"DescribeStreamSummary\"} ",
        "keda_kinesis_scaler_watchers{state=\"fresh\"} 1",
        "keda_kinesis_scaler_watchers{state=\"failing\"} 0",
        "keda_kinesis_scaler_oldest_snapshot_age_seconds ",
        "keda_kinesis_scaler_push_streams 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}
