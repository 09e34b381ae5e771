//! What clients may hold open, and for how long they may say nothing.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::support::{Stack, eventually, http_get, scraped, value, wait_for_value};
use keda_kinesis_scaler::{
    config::{Config, Explain},
    server::Tuning,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::Code;

/// The client's first bytes, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn stack(change: impl FnOnce(&mut Config, &mut Tuning)) -> Stack {
    let stack = Stack::with(change).await;
    stack.create_stream("orders", 2).await;
    stack
}

async fn served(stack: &Stack) {
    let mut client = stack.client().await;
    wait_for_value(&mut client, &stack.object("orders", &[]), 2.0).await;
}

/// A connection from another address of this machine.
async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from: IpAddr = address.parse().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    // A server that is full may have closed it already.
    let _ = stream.write_all(PREFACE).await;
    stream
}

/// Until the server ends it.
async fn ended(stream: &mut TcpStream) {
    let end = async {
        let mut heard = [0; 1024];
        while !matches!(stream.read(&mut heard).await, Ok(0) | Err(_)) {}
    };
    eventually("the server to end the connection", end).await;
}

fn counted(limit: &str, count: u64) -> String {
    format!("keda_kinesis_scaler_limited_total{{limit=\"{limit}\"}} {count}\n")
}

async fn wait_for_count(stack: &Stack, limit: &str, count: u64) {
    let line = counted(limit, count);
    scraped(stack.admin, &line, |text| text.contains(&line)).await;
}

#[tokio::test]
async fn who_holds_all_connections_makes_room_for_a_newcomer_and_gets_no_more() {
    let stack = stack(|config, _| config.limits.connections = 3).await;
    let mut flood = Vec::new();
    for _ in 0..3 {
        flood.push(connect_from("127.0.0.2", stack.address).await);
    }
    let mut refused = connect_from("127.0.0.2", stack.address).await;
    ended(&mut refused).await;
    wait_for_count(&stack, "connections", 1).await;
    served(&stack).await;
    // The newest goes.
    ended(&mut flood[2]).await;
    wait_for_count(&stack, "connections", 2).await;
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let stack = stack(|_, tuning| tuning.first_word = Duration::from_millis(50)).await;
    for port in [stack.address, stack.admin] {
        let mut silent = TcpStream::connect(port).await.unwrap();
        ended(&mut silent).await;
    }
    wait_for_count(&stack, "silence", 2).await;
}

#[tokio::test]
async fn who_asks_on_and_on_and_reads_nothing_is_let_go() {
    let stack = stack(|_, tuning| {
        tuning.keepalive_interval = Duration::from_millis(50);
        tuning.keepalive_timeout = Duration::from_secs(1);
    })
    .await;
    let mut greedy = TcpStream::connect(stack.address).await.unwrap();
    greedy.write_all(PREFACE).await.unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\0########".repeat(1_000);
    let asks = async { while greedy.write_all(&ping).await.is_ok() {} };
    eventually("the server to end the connection", asks).await;
    served(&stack).await;
}

#[tokio::test]
async fn who_opens_streams_and_resets_them_at_once_is_let_go() {
    let stack = stack(|_, _| {}).await;
    let mut rapid = TcpStream::connect(stack.address).await.unwrap();
    let mut frames = PREFACE.to_vec();
    for number in 0..1_000_u32 {
        let stream = (2 * number + 1).to_be_bytes();
        // HEADERS with :method POST, :scheme http, :path /, then RST_STREAM with CANCEL.
        frames.extend(
            b"\0\0\x03\x01\x04"
                .iter()
                .chain(&stream)
                .chain(b"\x83\x86\x84"),
        );
        frames.extend(b"\0\0\x04\x03\0".iter().chain(&stream).chain(b"\0\0\0\x08"));
    }
    let _ = rapid.write_all(&frames).await;
    ended(&mut rapid).await;
    served(&stack).await;
}

#[tokio::test]
async fn a_namespace_that_holds_all_push_streams_makes_room_for_another() {
    let stack = stack(|config, _| config.limits.streams = 3).await;
    let of = |namespace: &str| {
        let mut object = stack.object("orders", &[]);
        object.namespace = namespace.to_owned();
        object
    };
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = stack.client().await;
        let states = client.stream_is_active(of("flood")).await.unwrap();
        open.push((client, states.into_inner()));
    }
    let refused = stack.client().await.stream_is_active(of("flood")).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("limits.streams"), "{refused:?}");

    let mut client = stack.client().await;
    let mut states = client
        .stream_is_active(of("shop"))
        .await
        .unwrap()
        .into_inner();
    assert!(
        eventually("a state", states.message())
            .await
            .unwrap()
            .unwrap()
            .result
    );
    let newest = &mut open[2].1;
    let end = async {
        loop {
            match newest.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    };
    let end = eventually("the end of a stream", end).await.unwrap_err();
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!(
        http_get(stack.admin, "/metrics")
            .await
            .1
            .contains(&counted("streams", 2))
    );
}

#[tokio::test]
async fn explain_is_for_whom_the_setting_says() {
    for (explain, status) in [
        (Explain::All, 200),
        (Explain::Loopback, 200),
        (Explain::None, 403),
    ] {
        let stack = stack(|config, _| config.explain = explain).await;
        assert_eq!(
            http_get(stack.admin, "/explain").await.0,
            status,
            "{explain:?}"
        );
        assert_eq!(http_get(stack.admin, "/metrics").await.0, 200);
    }
}

#[tokio::test]
async fn made_up_regions_are_refused_while_other_namespaces_are_served() {
    let stack = stack(|config, _| config.limits.aws_clients = 8).await;
    let mut client = stack.client().await;
    let mut refused = Vec::new();
    for number in 1..=9 {
        let region = format!("eu-west-{number}");
        let mut object = stack.object("orders", &[("awsRegion", &region)]);
        object.namespace = "evil".to_owned();
        // The embedded service has the stream in none of them.
        let status = value(&mut client, &object).await.unwrap_err();
        if status.code() != Code::NotFound {
            refused.push((region, status));
        }
    }
    // Half of half of them are for one namespace.
    assert_eq!(refused.len(), 7, "{refused:?}");
    for (region, status) in &refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let says = |part: &str| status.message().contains(part);
        assert!(says(&format!("awsRegion {region:?}")), "{status:?}");
        assert!(says("limits.awsClients, 8"), "{status:?}");
    }
    wait_for_count(&stack, "awsClients", 7).await;
    served(&stack).await;
}
