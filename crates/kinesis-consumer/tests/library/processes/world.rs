//! Kinesis and DynamoDB, embedded, and worker processes that are started, watched and signalled.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use aws_sdk_kinesis::{config::Region, primitives::Blob};
use embedded_kinesis::EmbeddedKinesis;
use kinesis_consumer::{
    lease::Lease,
    lease_table::{LeaseTable, dynamodb::DynamoDbTable},
    sequence::SequenceNumber,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::worker::{DYNAMODB, KINESIS, WORKER, credentials};

pub(crate) const STREAM: &str = "stream";
pub(crate) const APPLICATION: &str = "application";
/// Nothing takes so long unless it never happens.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn kinesis_client(endpoint: &str) -> aws_sdk_kinesis::Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(credentials())
        .endpoint_url(endpoint);
    aws_sdk_kinesis::Client::from_conf(config.build())
}

pub(crate) fn dynamodb_client(endpoint: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::from_static("us-east-1"))
        .credentials_provider(credentials())
        .endpoint_url(endpoint);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// What a worker told.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) worker: String,
    pub(crate) nanos: i128,
    pub(crate) what: String,
    pub(crate) shard: String,
    pub(crate) sequence_number: Option<SequenceNumber>,
}

pub(crate) struct World {
    servers: EmbeddedKinesis,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) table: DynamoDbTable,
    dynamodb_endpoint: String,
    sender: mpsc::UnboundedSender<Line>,
    lines: mpsc::UnboundedReceiver<Line>,
    pub(crate) told: Vec<Line>,
    /// Sequence numbers by shard, in order.
    pub(crate) put: BTreeMap<String, Vec<SequenceNumber>>,
}

/// A worker's process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn ended(mut self) {
        timeout(PATIENCE, self.0.wait())
            .await
            .expect("the process ends")
            .unwrap();
    }
}

impl World {
    pub(crate) async fn start(shards: i32) -> Self {
        let servers = EmbeddedKinesis::start(embedded_kinesis::Config::default())
            .await
            .unwrap();
        let kinesis = kinesis_client(&servers.endpoint());
        kinesis
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards)
            .send()
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dynamodb_endpoint = format!("http://{}", listener.local_addr().unwrap());
        let database = dynoxide::Database::memory().unwrap();
        tokio::spawn(dynoxide::server::serve_with_shutdown(
            listener,
            database,
            std::future::pending(),
        ));
        let table = DynamoDbTable::new(
            dynamodb_client(&dynamodb_endpoint),
            APPLICATION,
            APPLICATION,
        );
        let (sender, lines) = mpsc::unbounded_channel();
        Self {
            servers,
            kinesis,
            table,
            dynamodb_endpoint,
            sender,
            lines,
            told: Vec::new(),
            put: BTreeMap::new(),
        }
    }

    pub(crate) fn worker(&self, name: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["processes::worker_process", "--exact", "--nocapture"])
            .env(WORKER, name)
            .env(KINESIS, self.servers.endpoint())
            .env(DYNAMODB, &self.dynamodb_endpoint)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, worker) = (self.sender.clone(), name.to_owned());
        tokio::spawn(async move {
            while let Ok(Some(text)) = lines.next_line().await {
                // The test harness prints, too, and not always a whole line.
                let Some((_, text)) = text.split_once('@') else {
                    continue;
                };
                let mut words = text.split(' ').map(str::to_owned);
                let line = Line {
                    worker: worker.clone(),
                    nanos: words.next().unwrap().parse().unwrap(),
                    what: words.next().unwrap(),
                    shard: words.next().unwrap_or_default(),
                    sequence_number: words.next().map(|number| number.parse().unwrap()),
                };
                let _ = sender.send(line);
            }
        });
        Process(child)
    }

    pub(crate) async fn put_records(&mut self, count: usize) {
        for index in 0..count {
            let put = self.kinesis.put_record().stream_name(STREAM);
            let put = put
                .partition_key(format!("key {index}"))
                .data(Blob::new("data"));
            let answer = put.send().await.unwrap();
            let number = answer.sequence_number().parse().unwrap();
            self.put
                .entry(answer.shard_id().to_owned())
                .or_default()
                .push(number);
        }
    }

    /// Waits until the lines told so far, in the order they came, are such that `holds`.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool + Send + Sync) {
        let wait = async {
            while !holds(self) {
                let line = self.lines.recv().await.unwrap();
                self.told.push(line);
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("not {what}; told: {:#?}", self.told);
        }
    }

    /// The shards that a worker works on, by what it told.
    pub(crate) fn shards_of(&self, worker: &str) -> Vec<&str> {
        let mut shards = Vec::new();
        for line in self.told.iter().filter(|line| line.worker == worker) {
            match line.what.as_str() {
                "started" => shards.push(line.shard.as_str()),
                "lost" | "released" | "handed-over" | "ended" => {
                    shards.retain(|shard| *shard != line.shard)
                }
                _ => {}
            }
        }
        shards
    }

    pub(crate) async fn leases(&self) -> Vec<Lease> {
        self.table.scan().await.unwrap()
    }

    /// Was every record told by somebody?
    pub(crate) fn all_processed(&self) -> bool {
        self.put
            .iter()
            .all(|(shard, numbers)| numbers.iter().all(|number| self.times(shard, number) > 0))
    }

    /// How often a record was told.
    pub(crate) fn times(&self, shard: &str, number: &SequenceNumber) -> usize {
        self.records(shard)
            .filter(|line| line.sequence_number.as_ref() == Some(number))
            .count()
    }

    pub(crate) fn records<'a>(&'a self, shard: &'a str) -> impl Iterator<Item = &'a Line> {
        self.told
            .iter()
            .filter(move |line| line.what == "record" && line.shard == shard)
    }
}
