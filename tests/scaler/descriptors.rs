//! A system that gives fewer file descriptors than the bounds add up to.

use std::net::SocketAddr;

use crate::support::*;
use embedded_kinesis::EmbeddedKinesis;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

const DESCRIPTORS: u32 = 64;

/// Connections of a stranger, each with its first word, kept open.
async fn flood(to: SocketAddr, first_word: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..3 * DESCRIPTORS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        // It may be refused or closed at any moment.
        if let Ok(mut stream) = socket.connect(to).await {
            let _ = stream.write_all(first_word).await;
            all.push(stream);
        }
    }
    all
}

#[tokio::test]
async fn a_flood_shuts_out_neither_keda_nor_probes_nor_reloads() {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    create_stream(&aws(&kinesis), "orders", 2).await;
    let endpoint = kinesis.endpoint();
    let keys = [
        ("streamName", "orders"),
        ("awsRegion", REGION),
        ("awsEndpoint", &endpoint),
    ];
    let object = object(metadata(&keys));
    let policy = "policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]\n";
    let env = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let process = Process::start_with_descriptors(DESCRIPTORS, policy, &env).await;
    process.logged("would need 1612 file descriptors").await;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let _grpc = flood(process.address, PREFACE).await;
    let _admin = flood(process.admin, b"GET /livez HTTP/1.1\r\n").await;
    let mut client = process.client().await;
    wait_for_value(&mut client, &object, 2.0).await;
    let (status, _) = http_get(process.admin, "/livez").await;
    assert_eq!(status, 200);
    process.configure(&format!("{policy}logLevel: debug\n"));
    process
        .logged("the configuration was read again and is in force")
        .await;
    assert!(!process.log().contains("stays as it was"));
}
