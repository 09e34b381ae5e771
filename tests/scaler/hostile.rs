//! Clients that break off, flood, or send too much, while others are served.

use std::{collections::HashMap, convert::Infallible, future::poll_fn, time::Duration};

use crate::support::{self, Stack, eventually, value, wait_for_value};
use futures::future::join_all;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    codegen::{Bytes, Service as _, http::Request},
    transport::{Channel, Endpoint},
};

/// The client's first bytes, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn served(stack: &Stack) {
    let object = stack.object("orders", &[]);
    let mut client = stack.client().await;
    wait_for_value(&mut client, &object, 2.0).await;
}

async fn stack() -> Stack {
    let stack = Stack::start().await;
    stack.create_stream("orders", 2).await;
    stack
}

#[tokio::test]
async fn ten_thousand_keys_are_refused() {
    let stack = stack().await;
    let mut object = stack.object("orders", &[]);
    for number in 0..10_000 {
        object
            .scaler_metadata
            .insert(format!("key{number}"), String::new());
    }
    let mut client = stack.client().await;
    let status = client.get_metric_spec(object).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    assert!(
        status.message().contains("at most 1000"),
        "{}",
        status.message()
    );
    served(&stack).await;
}

#[tokio::test]
async fn four_megabytes_are_refused_while_others_are_served() {
    let stack = stack().await;
    let client = stack.client().await;
    let big = HashMap::from([("streamName".to_owned(), "x".repeat(4 << 20))]);
    let sent = (0..20).map(|_| {
        let mut client = client.clone();
        let object = support::object(big.clone());
        async move { client.is_active(object).await.unwrap_err() }
    });
    let (refused, ()) = tokio::join!(join_all(sent), served(&stack));
    for status in refused {
        assert_eq!(status.code(), Code::OutOfRange, "{}", status.message());
    }
    // The same connection is good for more.
    let mut client = client.clone();
    assert_eq!(
        value(&mut client, &stack.object("orders", &[]))
            .await
            .unwrap(),
        2.0
    );
}

/// A connection from another address of this machine.
async fn stranger(stack: &Stack) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", stack.address)).unwrap();
    let endpoint = endpoint.local_address(Some("127.0.0.2".parse().unwrap()));
    eventually("a connection", endpoint.connect())
        .await
        .unwrap()
}

type Frames = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

/// Calls whose messages of so many bytes never end, each with a header of so many. What they hold
/// open, and the codes of those that are refused.
fn never_ending(
    channels: &[Channel],
    calls: usize,
    header: usize,
    message: usize,
) -> (Vec<Frames>, mpsc::Receiver<Option<Code>>) {
    let (refused, answers) = mpsc::channel(calls);
    let mut open = Vec::new();
    for channel in channels.iter().cycle().take(calls) {
        // All of the message that is announced is sent but one byte.
        let (frames, body) = mpsc::channel(2);
        let length = u32::try_from(message).unwrap();
        let head = [&[0][..], &length.to_be_bytes()].concat();
        let most = vec![b'x'; message - 1];
        for bytes in [head, most] {
            let frame = Frame::data(Bytes::from(bytes));
            frames.try_send(Ok(frame)).unwrap();
        }
        open.push(frames);
        let body = StreamBody::new(ReceiverStream::new(body));
        let request = Request::post("http://scaler/externalscaler.ExternalScaler/GetMetricSpec")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-long", "x".repeat(header))
            .body(tonic::body::Body::new(body))
            .unwrap();
        let (mut channel, refused) = (channel.clone(), refused.clone());
        tokio::spawn(async move {
            poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
            let answer = channel.call(request).await.unwrap();
            let code = Status::from_header_map(answer.headers()).map(|status| status.code());
            let _ = refused.send(code).await;
        });
    }
    (open, answers)
}

#[tokio::test]
async fn long_requests_that_never_end_are_bounded_together() {
    const CALLS: usize = 200;
    let stack = stack().await;
    let channel = stranger(&stack).await;
    // 40 MB in all. Those that fit into 16 MiB stay open; the others are refused.
    let (open, mut answers) = never_ending(&[channel], CALLS, 0, 200 << 10);
    for _ in 0..CALLS - (16 << 20) / (200 << 10) - 1 {
        let code = eventually("a refusal", answers.recv()).await.unwrap();
        assert_eq!(code, Some(Code::ResourceExhausted));
    }
    served(&stack).await;
    drop(open);
    let mut client = stack.client().await;
    let mut object = stack.object("orders", &[]);
    object
        .scaler_metadata
        .insert("unknown".to_owned(), "x".repeat(200 << 10));
    client
        .get_metric_spec(object)
        .await
        .expect("one long request is taken");
}

#[tokio::test]
async fn many_short_requests_that_never_end_are_bounded_together_with_their_headers() {
    const CALLS: usize = 1_500;
    let stack = stack().await;
    let mut channels = Vec::new();
    for _ in 0..3 {
        channels.push(stranger(&stack).await);
    }
    // Each costs 8 KiB, a header of 3 KiB and 6 KiB of its message.
    let (_open, mut answers) = never_ending(&channels, CALLS, 3 << 10, 6 << 10);
    let mut refused = 0;
    while refused < 300 {
        match eventually("a refusal", answers.recv()).await.unwrap() {
            Some(Code::ResourceExhausted) => refused += 1,
            // On a busy machine the first have lasted as long as a call may.
            code => assert_eq!(code, Some(Code::Cancelled)),
        }
    }
    served(&stack).await;
    let counted = |text: &str| {
        let line = text.lines().find_map(|line| {
            line.strip_prefix("keda_kinesis_scaler_limited_total{limit=\"requests\"} ")
        });
        line.is_some_and(|count| count != "0")
    };
    assert!(counted(&metrics(&stack).await));
}

#[tokio::test]
async fn clients_that_break_off_leave_nothing_behind() {
    let stack = stack().await;
    for _ in 0..50 {
        let mut client = stack.client().await;
        let object = stack.object("orders", &[]);
        let states = client.stream_is_active(object.clone()).await.unwrap();
        let cold = stack.object("not-there", &[]);
        let asked = tokio::spawn(async move { client.is_active(cold).await });
        tokio::task::yield_now().await;
        asked.abort();
        drop(states);
    }
    served(&stack).await;
    let open = async {
        while !metrics(&stack).await.contains("push_streams 0\n") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("all push streams to be gone", open).await;
}

#[tokio::test]
async fn a_flood_of_calls_on_one_connection_does_not_starve_another() {
    let stack = Stack::with(|config, tuning| {
        config.aws.timeout = support::PATIENCE;
        // A busy machine needs more than 2 s to send the flood; an RPC may take 10 s in all, then
        // it is cancelled.
        let mut pace = keda_kinesis_scaler::watch::Pace::from(&config.aws);
        pace.first_answer = Duration::from_secs(8);
        tuning.pace = Some(pace);
    })
    .await;
    stack.create_stream("orders", 2).await;
    stack.create_stream("slow", 1).await;
    let faults = stack.kinesis.faults();
    faults.inject_on(
        "slow",
        "*",
        embedded_kinesis::Fault::Hang,
        embedded_kinesis::FOREVER,
    );
    let flood = stack.client().await;
    // These wait for a first answer, until the server says that it comes later.
    let calls = (0..3_000).map(|_| {
        let mut client = flood.clone();
        let object = stack.object("slow", &[]);
        async move { client.is_active(object).await.unwrap_err().code() }
    });
    let (codes, ()) = tokio::join!(join_all(calls), served(&stack));
    let shed = codes
        .iter()
        .filter(|code| **code == Code::ResourceExhausted)
        .count();
    assert!(
        shed > 1_000,
        "calls in flight are bounded: {shed} were shed"
    );
    let others = codes.iter().filter(|code| {
        !matches!(
            code,
            Code::ResourceExhausted | Code::Unavailable | Code::Cancelled
        )
    });
    let others: Vec<_> = others.collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn push_streams_are_not_bounded() {
    let stack = stack().await;
    let mut client = stack.client().await;
    let mut open = Vec::new();
    for _ in 0..1_500 {
        let states = client.stream_is_active(stack.object("orders", &[])).await;
        open.push(states.unwrap().into_inner());
    }
    for states in &mut open {
        let state = eventually("a state", states.message()).await;
        assert!(state.unwrap().unwrap().result);
    }
    assert_eq!(
        value(&mut client, &stack.object("orders", &[]))
            .await
            .unwrap(),
        2.0
    );
}

#[tokio::test]
async fn a_client_that_answers_no_pings_is_let_go() {
    let stack = Stack::with(|_, tuning| {
        tuning.keepalive_interval = Duration::from_millis(50);
        // A live client has to find a moment to answer on a machine that is busy with other things.
        tuning.keepalive_timeout = Duration::from_secs(2);
    })
    .await;
    stack.create_stream("orders", 2).await;
    let mut dead = TcpStream::connect(stack.address).await.unwrap();
    dead.write_all(PREFACE).await.unwrap();
    let mut heard = Vec::new();
    let closed = eventually("the server to close", dead.read_to_end(&mut heard)).await;
    drop(closed);
    assert!(!heard.is_empty(), "it spoke HTTP/2 before");
    // Who answers is kept: the same client is served many pings later.
    let mut client = stack.client().await;
    let mut states = client
        .stream_is_active(stack.object("orders", &[]))
        .await
        .unwrap()
        .into_inner();
    states.message().await.unwrap().unwrap();
    tokio::select! {
        state = states.message() => panic!("a live client was let go: {state:?}"),
        () = stack.kinesis.wait_for_calls("DescribeStreamSummary", 20) => {}
    }
}

#[tokio::test]
async fn a_namespace_that_is_none_is_not_kept() {
    let stack = stack().await;
    let mut client = stack.client().await;
    let mut object = stack.object("orders", &[]);
    object.namespace = "n".repeat(100_000);
    let status = client.is_active(object).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("namespace \"nnn"));
    assert!(status.message().len() < 200, "{}", status.message());
}

#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_hold_nobody_up() {
    let stack = stack().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(stack.address).await.unwrap());
        let mut nonsense = TcpStream::connect(stack.address).await.unwrap();
        nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    }
    served(&stack).await;
}

async fn metrics(stack: &Stack) -> String {
    support::http_get(stack.admin, "/metrics").await.1
}
