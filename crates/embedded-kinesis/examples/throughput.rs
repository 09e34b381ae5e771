//! Records a second through the SDK and through bare HTTP, each way:
//! `cargo run --release -p embedded-kinesis --example throughput [SECONDS]`.
//!
//! Client and server share the process and its cores; the SDK's part is the larger one.

use std::future::Future;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use embedded_kinesis::{Config, EmbeddedKinesis};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

type Error = Box<dyn std::error::Error + Send + Sync>;

const SHARDS: u128 = 4;
const BATCH: usize = 500;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program")]
async fn main() -> Result<(), Error> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(2.0), |text| text.parse())?;
    let for_ = Duration::from_secs_f64(seconds);
    println!("{SHARDS} shards, one task a shard, {seconds} s each; records a second");
    for size in [32, 100, 1024] {
        let server = EmbeddedKinesis::start(Config::default()).await?;
        let client = client(&server);
        client
            .create_stream()
            .stream_name("s")
            .shard_count(i32::try_from(SHARDS)?)
            .send()
            .await?;
        let puts = all(|shard| put(client.clone(), shard, size, for_)).await?;
        let gets = all(|shard| get(client.clone(), shard, for_)).await?;
        println!(
            "SDK   {size:5} B  PutRecords {:9.0}  GetRecords {:9.0}",
            puts / seconds,
            gets / seconds
        );
        let puts = all(|shard| put_bare(server.endpoint(), shard, size, for_)).await?;
        let gets = all(|shard| get_bare(server.endpoint(), client.clone(), shard, for_)).await?;
        println!(
            "bare  {size:5} B  PutRecords {:9.0}  GetRecords {:9.0}",
            puts / seconds,
            gets / seconds
        );
        server.shutdown().await;
    }
    Ok(())
}

/// Records of all shards together.
async fn all<F>(work: impl Fn(u128) -> F) -> Result<f64, Error>
where
    F: Future<Output = Result<usize, Error>> + Send + 'static,
{
    let tasks: Vec<_> = (0..SHARDS).map(|shard| tokio::spawn(work(shard))).collect();
    let mut total = 0;
    for task in tasks {
        total += task.await??;
    }
    Ok(total as f64)
}

fn client(server: &EmbeddedKinesis) -> Client {
    test_support::aws::kinesis(&server.endpoint())
}

/// A hash key in the middle of a shard.
fn key_of(shard: u128) -> String {
    (u128::MAX / SHARDS * shard + u128::MAX / SHARDS / 2).to_string()
}

async fn put(client: Client, shard: u128, size: usize, for_: Duration) -> Result<usize, Error> {
    let end = Instant::now() + for_;
    let entry = PutRecordsRequestEntry::builder()
        .partition_key("key")
        .explicit_hash_key(key_of(shard));
    let entry = entry.data(Blob::new(vec![b'x'; size])).build()?;
    let mut done = 0;
    while Instant::now() < end {
        let records = vec![entry.clone(); BATCH];
        client
            .put_records()
            .stream_name("s")
            .set_records(Some(records))
            .send()
            .await?;
        done += BATCH;
    }
    Ok(done)
}

async fn start(client: &Client, shard: u128) -> Result<String, Error> {
    let call = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(format!("shardId-{shard:012}"));
    let answer = call
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await?;
    Ok(answer.shard_iterator().unwrap_or_default().to_owned())
}

async fn get(client: Client, shard: u128, for_: Duration) -> Result<usize, Error> {
    let end = Instant::now() + for_;
    let first = start(&client, shard).await?;
    let mut next = first.clone();
    let mut done = 0;
    while Instant::now() < end {
        let page = client.get_records().shard_iterator(&next).send().await?;
        done += page.records().len();
        let caught_up = page.millis_behind_latest() == Some(0);
        next = if caught_up {
            first.clone()
        } else {
            page.next_shard_iterator().unwrap_or_default().to_owned()
        };
    }
    Ok(done)
}

/// One connection, requests made beforehand, answers not decoded: what the server itself can do.
struct Bare {
    socket: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Bare {
    async fn connect(endpoint: &str) -> Result<Self, Error> {
        let address = endpoint.trim_start_matches("http://");
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket: BufReader::with_capacity(1 << 16, socket),
            answer: Vec::new(),
        })
    }

    fn request(operation: &str, body: &str) -> Vec<u8> {
        format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: Kinesis_20131202.{operation}\r\n\
             content-type: application/x-amz-json-1.1\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    async fn call(&mut self, request: &[u8]) -> Result<&[u8], Error> {
        self.socket.get_mut().write_all(request).await?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.socket.read_line(&mut line).await?;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        self.answer.resize(length, 0);
        self.socket.read_exact(&mut self.answer).await?;
        Ok(&self.answer)
    }
}

async fn put_bare(
    endpoint: String,
    shard: u128,
    size: usize,
    for_: Duration,
) -> Result<usize, Error> {
    let end = Instant::now() + for_;
    let data = "eHh4".repeat(size.div_ceil(3));
    let entry = format!(
        r#"{{"Data":"{data}","PartitionKey":"key","ExplicitHashKey":"{}"}}"#,
        key_of(shard)
    );
    let body = format!(
        r#"{{"StreamName":"s","Records":[{}]}}"#,
        vec![entry; BATCH].join(",")
    );
    let request = Bare::request("PutRecords", &body);
    let mut bare = Bare::connect(&endpoint).await?;
    let mut done = 0;
    while Instant::now() < end {
        let answer = bare.call(&request).await?;
        if !answer.starts_with(br#"{"EncryptionType":"NONE","FailedRecordCount":0"#) {
            return Err(String::from_utf8_lossy(answer).into_owned().into());
        }
        done += BATCH;
    }
    Ok(done)
}

async fn get_bare(
    endpoint: String,
    client: Client,
    shard: u128,
    for_: Duration,
) -> Result<usize, Error> {
    let first = start(&client, shard).await?;
    let page = client
        .get_records()
        .shard_iterator(&first)
        .limit(1000)
        .send()
        .await?;
    let records = page.records().len();
    let request = Bare::request(
        "GetRecords",
        &format!(r#"{{"ShardIterator":"{first}","Limit":1000}}"#),
    );
    let mut bare = Bare::connect(&endpoint).await?;
    let answer = bare.call(&request).await?;
    let (found, length) = (occurrences(answer, b"\"SequenceNumber\""), answer.len());
    if found != records {
        return Err(format!("{found} records instead of {records}").into());
    }
    let end = Instant::now() + for_;
    let mut done = 0;
    while Instant::now() < end {
        // The same records each time; only the lag and the next iterator vary by a few digits.
        let answer = bare.call(&request).await?;
        if answer.len().abs_diff(length) > 64 {
            return Err(String::from_utf8_lossy(answer).into_owned().into());
        }
        done += records;
    }
    Ok(done)
}

fn occurrences(text: &[u8], wanted: &[u8]) -> usize {
    text.windows(wanted.len())
        .filter(|it| *it == wanted)
        .count()
}
