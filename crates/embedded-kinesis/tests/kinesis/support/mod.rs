//! What the tests share: a server and clients of it.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{Region, SharedCredentialsProvider};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    Consumer, PutRecordsRequestEntry, Record, ScalingType, Shard, ShardIteratorType,
    StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use embedded_kinesis::{Config, EmbeddedKinesis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use test_support::aws::{REGION, credentials};

pub(crate) const ACCOUNT: &str = "111122223333";

pub(crate) async fn server() -> (EmbeddedKinesis, Client) {
    server_with(Config::default()).await
}

pub(crate) async fn server_with(config: Config) -> (EmbeddedKinesis, Client) {
    let server = EmbeddedKinesis::start(config).await.unwrap();
    let client = client(&server.endpoint(), REGION, credentials("AKIDEMBEDDED"));
    (server, client)
}

/// A client that asks once.
pub(crate) fn client(
    endpoint: &str,
    region: &str,
    credentials: SharedCredentialsProvider,
) -> Client {
    let config = test_support::aws::config(endpoint)
        .into_builder()
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .build();
    Client::new(&config)
}

pub(crate) async fn create(client: &Client, stream: &str, shards: i32) {
    client
        .create_stream()
        .stream_name(stream)
        .shard_count(shards)
        .send()
        .await
        .unwrap();
}

pub(crate) async fn resize(client: &Client, stream: &str, shards: i32) {
    let call = client
        .update_shard_count()
        .stream_name(stream)
        .target_shard_count(shards);
    call.scaling_type(ScalingType::UniformScaling)
        .send()
        .await
        .unwrap();
}

pub(crate) async fn open_shards(client: &Client, stream: &str) -> i32 {
    let summary = client
        .describe_stream_summary()
        .stream_name(stream)
        .send()
        .await
        .unwrap();
    summary
        .stream_description_summary()
        .unwrap()
        .open_shard_count()
}

pub(crate) async fn status(client: &Client, stream: &str) -> String {
    let summary = client
        .describe_stream_summary()
        .stream_name(stream)
        .send()
        .await
        .unwrap();
    summary
        .stream_description_summary()
        .unwrap()
        .stream_status()
        .as_str()
        .to_owned()
}

pub(crate) async fn shards(client: &Client, stream: &str) -> Vec<Shard> {
    client
        .list_shards()
        .stream_name(stream)
        .send()
        .await
        .unwrap()
        .shards()
        .to_vec()
}

/// The number of a shard ID.
pub(crate) fn number(id: &str) -> u32 {
    id.strip_prefix("shardId-").unwrap().parse().unwrap()
}

pub(crate) fn numbers(shards: &[Shard]) -> Vec<u32> {
    shards
        .iter()
        .map(|shard| number(shard.shard_id()))
        .collect()
}

/// AWS's code and message of what failed.
pub(crate) fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, E>,
) -> (String, String) {
    let error = result.expect_err("AWS refuses this");
    (
        error.code().unwrap_or_default().to_owned(),
        error.message().unwrap_or_default().to_owned(),
    )
}

pub(crate) fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, E>,
) -> String {
    refusal(result).0
}

pub(crate) fn text(record: &Record) -> String {
    String::from_utf8(record.data().as_ref().to_vec()).unwrap()
}

/// A call without the SDK, whose unoptimised build is slow with megabytes. Status, head and body.
pub(crate) async fn raw(
    server: &EmbeddedKinesis,
    operation: &str,
    content_type: &str,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let address = server
        .endpoint()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         x-amz-target: Kinesis_20131202.{operation}\r\ncontent-type: {content_type}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=AKIDRAW/20261123/us-east-1/kinesis/aws4_request, \
         SignedHeaders=host, Signature=0\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let split = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    (
        head[9..12].parse().unwrap(),
        head,
        answer[split + 4..].to_vec(),
    )
}

/// Puts records of these many bytes each (multiples of 3) into stream "s"; AWS's error code, if
/// any.
pub(crate) async fn put_raw(server: &EmbeddedKinesis, sizes: &[usize]) -> Option<String> {
    let entries = sizes.iter().map(|size| {
        format!(
            r#"{{"Data":"{}","PartitionKey":"k"}}"#,
            "AAAA".repeat(size / 3)
        )
    });
    let body = format!(
        r#"{{"StreamName":"s","Records":[{}]}}"#,
        entries.collect::<Vec<_>>().join(",")
    );
    let (_, _, answer) = raw(
        server,
        "PutRecords",
        "application/x-amz-json-1.1",
        body.as_bytes(),
    )
    .await;
    let answer = String::from_utf8(answer).unwrap();
    Some(
        answer
            .split_once(r#""__type":""#)?
            .1
            .split('"')
            .next()?
            .to_owned(),
    )
}

// === Records of stream "s" ===

pub(crate) const SHARD: &str = "shardId-000000000000";

pub(crate) async fn put(client: &Client, data: &str) -> String {
    let put = client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .data(Blob::new(data));
    put.send().await.unwrap().sequence_number().to_owned()
}

pub(crate) async fn iterator(client: &Client, shard: &str, kind: ShardIteratorType) -> String {
    let call = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(shard)
        .shard_iterator_type(kind);
    call.send()
        .await
        .unwrap()
        .shard_iterator()
        .unwrap()
        .to_owned()
}

pub(crate) async fn at_sequence(
    client: &Client,
    kind: ShardIteratorType,
    sequence: &str,
) -> String {
    let call = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(SHARD)
        .shard_iterator_type(kind);
    call.starting_sequence_number(sequence)
        .send()
        .await
        .unwrap()
        .shard_iterator()
        .unwrap()
        .to_owned()
}

pub(crate) async fn read(client: &Client, iterator: &str) -> GetRecordsOutput {
    client
        .get_records()
        .shard_iterator(iterator)
        .send()
        .await
        .unwrap()
}

pub(crate) fn texts(answer: &GetRecordsOutput) -> Vec<String> {
    answer.records().iter().map(text).collect()
}

pub(crate) fn entry(key: &str, size: usize) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder()
        .partition_key(key)
        .data(Blob::new(vec![7; size]))
        .build()
        .unwrap()
}

// === Enhanced fan-out, of stream "s" ===

pub(crate) type Events =
    EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;

pub(crate) async fn register(client: &Client, stream_arn: &str, name: &str) -> Consumer {
    let call = client.register_stream_consumer().stream_arn(stream_arn);
    let answer = call.consumer_name(name).send().await.unwrap();
    answer.consumer().unwrap().clone()
}

pub(crate) fn position(kind: ShardIteratorType) -> StartingPosition {
    StartingPosition::builder().r#type(kind).build().unwrap()
}

pub(crate) fn latest() -> StartingPosition {
    position(ShardIteratorType::Latest)
}

/// To the first shard.
pub(crate) async fn subscribe(
    client: &Client,
    consumer_arn: &str,
    position: StartingPosition,
) -> Result<Events, SdkError<SubscribeToShardError>> {
    let call = client.subscribe_to_shard().consumer_arn(consumer_arn);
    let call = call.shard_id(SHARD).starting_position(position);
    call.send().await.map(|answer| answer.event_stream)
}

/// The next event.
pub(crate) async fn event(events: &mut Events) -> SubscribeToShardEvent {
    match events.recv().await.unwrap().expect("not the end") {
        SubscribeToShardEventStream::SubscribeToShardEvent(event) => event,
        other => panic!("{other:?}"),
    }
}

/// The records of the next event that has some.
pub(crate) async fn arrivals(events: &mut Events) -> Vec<String> {
    loop {
        let event = event(events).await;
        if !event.records().is_empty() {
            return event.records().iter().map(text).collect();
        }
    }
}
