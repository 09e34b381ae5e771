//! CBOR as the Java SDK speaks it: maps of no given length, byte strings, tag 1 over milliseconds.

use crate::support::*;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use ciborium::Value;
use embedded_kinesis::EmbeddedKinesis;

const TYPE: &str = "application/x-amz-cbor-1.1";

/// Status and answer.
async fn call(server: &EmbeddedKinesis, operation: &str, body: &[u8]) -> (u16, Option<Value>) {
    let (status, head, answer) = raw(server, operation, TYPE, body).await;
    assert!(head.contains(TYPE), "{head}");
    (
        status,
        (!answer.is_empty()).then(|| ciborium::from_reader(answer.as_slice()).unwrap()),
    )
}

/// A map as Jackson writes it: its length is not said.
fn map(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut out = vec![0xbf];
    for (name, value) in fields {
        ciborium::into_writer(&Value::from(*name), &mut out).unwrap();
        ciborium::into_writer(value, &mut out).unwrap();
    }
    out.push(0xff);
    out
}

fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let fields = value.as_map().unwrap();
    &fields
        .iter()
        .find(|(key, _)| key.as_text() == Some(name))
        .unwrap_or_else(|| panic!("{name} is in {value:?}"))
        .1
}

#[tokio::test]
async fn the_same_stream_in_both_protocols() {
    let (server, client) = server().await;
    let (status, _) = call(
        &server,
        "CreateStream",
        &map(&[("StreamName", "s".into()), ("ShardCount", 1.into())]),
    )
    .await;
    assert_eq!(status, 200);
    let (_, summary) = call(
        &server,
        "DescribeStreamSummary",
        &map(&[("StreamName", "s".into())]),
    )
    .await;
    let summary = summary.unwrap();
    let summary = field(&summary, "StreamDescriptionSummary");
    assert_eq!(
        field(summary, "OpenShardCount").as_integer(),
        Some(1.into())
    );
    let (tag, millis) = field(summary, "StreamCreationTimestamp").as_tag().unwrap();
    let millis: u64 = millis.as_integer().unwrap().try_into().unwrap();
    assert_eq!(tag, 1);
    assert!(millis > 1_700_000_000_000, "{millis}");

    // Longer than any buffer on the way.
    let big = vec![0xfe; 100_000];
    let entry = |data: &[u8]| {
        Value::Map(vec![
            ("Data".into(), Value::Bytes(data.to_vec())),
            ("PartitionKey".into(), "k".into()),
        ])
    };
    let records = Value::Array(vec![entry(b"\x00\x01java"), entry(&big)]);
    let (status, put) = call(
        &server,
        "PutRecords",
        &map(&[("StreamName", "s".into()), ("Records", records)]),
    )
    .await;
    assert_eq!(status, 200);
    let put = put.unwrap();
    assert_eq!(
        field(&put, "FailedRecordCount").as_integer(),
        Some(0.into())
    );
    client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .data(Blob::new("rust"))
        .send()
        .await
        .unwrap();

    // What came as CBOR goes out as JSON, and the other way round.
    let start = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id("shardId-000000000000");
    let start = start
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let start = start.shard_iterator().unwrap();
    let page = client
        .get_records()
        .shard_iterator(start)
        .send()
        .await
        .unwrap();
    let data: Vec<&[u8]> = page.records().iter().map(|it| it.data().as_ref()).collect();
    assert_eq!(data, [b"\x00\x01java".as_slice(), &big, b"rust"]);
    let (_, page) = call(
        &server,
        "GetRecords",
        &map(&[("ShardIterator", start.into())]),
    )
    .await;
    let page = page.unwrap();
    let records = field(&page, "Records").as_array().unwrap();
    let data: Vec<&[u8]> = records
        .iter()
        .map(|it| field(it, "Data").as_bytes().unwrap().as_slice())
        .collect();
    assert_eq!(data, [b"\x00\x01java".as_slice(), &big, b"rust"]);
    let (tag, arrived) = field(&records[2], "ApproximateArrivalTimestamp")
        .as_tag()
        .unwrap();
    assert_eq!(tag, 1);

    let at = Value::Tag(1, Box::new(arrived.clone()));
    let fields = [
        ("StreamName", "s".into()),
        ("ShardId", "shardId-000000000000".into()),
        ("ShardIteratorType", "AT_TIMESTAMP".into()),
        ("Timestamp", at),
    ];
    let (status, _) = call(&server, "GetShardIterator", &map(&fields)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn errors_are_cbor_too() {
    let (server, _client) = server().await;
    let (status, error) = call(
        &server,
        "DescribeStreamSummary",
        &map(&[("StreamName", "s".into())]),
    )
    .await;
    let error = error.unwrap();
    assert_eq!(status, 400);
    assert_eq!(
        field(&error, "__type").as_text(),
        Some("ResourceNotFoundException")
    );
    assert_eq!(
        field(&error, "message").as_text(),
        Some("Stream s under account 111122223333 not found.")
    );
    let (status, error) = call(&server, "PutRecord", b"\xbf\x61").await;
    assert_eq!(status, 400);
    assert_eq!(
        field(&error.unwrap(), "__type").as_text(),
        Some("SerializationException")
    );
}

/// As the Java KCL's own client begins, without TLS: the preface, and its settings.
#[tokio::test]
async fn http_2_is_answered_with_its_own_settings() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (server, _) = server().await;
    let address = server.endpoint().replace("http://", "");
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    socket.write_all(hello).await.unwrap();
    let mut frame = [0; 9];
    socket.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "{frame:?} is no SETTINGS frame");
}
