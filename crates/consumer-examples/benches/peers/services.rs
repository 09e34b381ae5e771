//! Embedded Kinesis and DynamoDB in a process of their own, so that their work is not counted as
//! the worker's.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context as _, Result};
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use embedded_kinesis::{Config, EmbeddedKinesis};
use kinesis_consumer::test_util::DynamoDbTable;
use test_support::{Proxy, Tally, aws};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::Instant,
};

/// The argument with which the benchmark starts itself as the services.
pub(crate) const SUBCOMMAND: &str = "services";

/// The services, seen from the benchmark.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    kinesis_endpoint: String,
    dynamodb: Proxy,
    _process: Child,
}

/// Runs the services and prints their endpoints, until standard input ends.
pub(crate) async fn serve() -> Result<()> {
    let kinesis = EmbeddedKinesis::start(Config {
        read_limits: std::env::var_os("READ_LIMITS").is_some(),
        shard_limit: 10_000,
        ..Config::default()
    })
    .await?;
    let dynamodb = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} http://{}", kinesis.endpoint(), dynamodb.local_addr()?);
    let database = dynoxide::Database::memory()?;
    let until_stdin_ends = async {
        let mut rest = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut rest).await;
    };
    let _ = dynoxide::server::serve_with_shutdown(dynamodb, database, until_stdin_ends).await;
    Ok(())
}

impl Services {
    /// Starts them.
    pub(crate) async fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().context("no stdout")?;
        let endpoints = BufReader::new(output)
            .lines()
            .next_line()
            .await?
            .context("the services did not start")?;
        let (kinesis_endpoint, dynamodb) = endpoints.split_once(' ').context("endpoints")?;
        let dynamodb = Proxy::start(dynamodb).await;
        Ok(Self {
            kinesis: aws::kinesis(kinesis_endpoint),
            kinesis_endpoint: kinesis_endpoint.to_owned(),
            dynamodb,
            _process: process,
        })
    }

    /// What a worker process needs to find them.
    pub(crate) fn environment(
        &self,
        stream: &str,
        application: &str,
        worker: &str,
    ) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIABENCH".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "bench".to_owned()),
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis_endpoint.clone()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.endpoint()),
            (
                "AWS_ENDPOINT_URL_CLOUDWATCH",
                "http://127.0.0.1:9".to_owned(),
            ),
            ("STREAM_NAME", stream.to_owned()),
            ("APPLICATION_NAME", application.to_owned()),
            ("INSTANCE_NAME", worker.to_owned()),
        ]
    }

    /// A stream of four shards.
    pub(crate) async fn create_stream(&self, name: &str) -> Result<()> {
        self.create_stream_of(name, 4).await
    }

    /// A stream of so many shards.
    pub(crate) async fn create_stream_of(&self, name: &str, shards: i32) -> Result<()> {
        let create = self.kinesis.create_stream().stream_name(name);
        create.shard_count(shards).send().await?;
        Ok(())
    }

    /// Puts `count` records of 32 bytes, evenly over the shards.
    pub(crate) async fn put(&self, stream: &str, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let now = left.min(500);
            let entries = (0..now).map(|_| {
                PutRecordsRequestEntry::builder()
                    .partition_key(format!("{:016x}", fastrand::u64(..)))
                    .data(Blob::new([7_u8; 32]))
                    .build()
            });
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            self.kinesis
                .put_records()
                .stream_name(stream)
                .set_records(Some(entries))
                .send()
                .await?;
            left -= now;
        }
        Ok(())
    }

    /// Puts so many records of so many bytes into each shard.
    pub(crate) async fn put_evenly(
        &self,
        stream: &str,
        shards: i32,
        records: usize,
        bytes: usize,
    ) -> Result<()> {
        // A request has 500 records and 5 MiB at most.
        let at_once = ((4 << 20) / bytes).clamp(1, 500);
        for shard in 0..shards {
            let mut left = records;
            while left > 0 {
                let now = left.min(at_once);
                let entries = (0..now).map(|_| {
                    PutRecordsRequestEntry::builder()
                        .partition_key("key")
                        .explicit_hash_key(hash_key(shard, shards).to_string())
                        .data(Blob::new(vec![7_u8; bytes]))
                        .build()
                });
                let entries = entries.collect::<Result<Vec<_>, _>>()?;
                let put = self.kinesis.put_records().stream_name(stream);
                let answer = put.set_records(Some(entries)).send().await?;
                let refused = answer.failed_record_count.unwrap_or_default();
                anyhow::ensure!(refused == 0, "{refused} records were refused");
                left -= now;
            }
        }
        Ok(())
    }

    /// Puts a record into each shard; when, by shard.
    pub(crate) async fn put_to_each_shard(
        &self,
        stream: &str,
        shards: usize,
    ) -> Result<BTreeMap<String, Instant>> {
        let mut put = BTreeMap::new();
        while put.len() < shards {
            let began = Instant::now();
            let hash_key = hash_key(i32::try_from(put.len())?, i32::try_from(shards)?);
            let request = self.kinesis.put_record().stream_name(stream);
            let request = request.partition_key("key").data(Blob::new([7_u8; 32]));
            let answer = request.explicit_hash_key(hash_key.to_string()).send();
            put.insert(answer.await?.shard_id, began);
        }
        Ok(put)
    }

    /// The lease table of an application, to look at.
    pub(crate) fn lease_table(&self, application: &str) -> DynamoDbTable {
        let client = aws::dynamodb(&self.dynamodb.endpoint());
        DynamoDbTable::new(client, application, application)
    }

    /// DynamoDB calls by operation since the last time.
    pub(crate) fn take_dynamodb_calls(&self) -> BTreeMap<String, u64> {
        let tallies = self.take_dynamodb().into_iter();
        let calls = tallies.map(|(operation, tally)| (operation, tally.calls));
        calls.collect()
    }

    /// What DynamoDB was asked by operation since the last time.
    pub(crate) fn take_dynamodb(&self) -> BTreeMap<String, Tally> {
        let tallies = self.dynamodb.tallies();
        self.dynamodb.clear_tallies();
        tallies
    }
}

/// In the middle of a shard's range, so that it is that shard's alone.
fn hash_key(shard: i32, shards: i32) -> u128 {
    let width = u128::MAX / u128::from(shards.unsigned_abs());
    width * u128::from(shard.unsigned_abs()) + width / 2
}
