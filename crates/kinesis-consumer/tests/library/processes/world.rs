//! Kinesis and DynamoDB, embedded, and worker processes that are started, watched and signalled.

use std::collections::BTreeMap;

use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::EmbeddedKinesis;
use kinesis_consumer::{
    SequenceNumber,
    lease::Lease,
    test_util::{DynamoDbTable, LeaseTable},
};
use test_support::{DynamoDb, PATIENCE, Process, Program, aws};
use tokio::{sync::mpsc, time::timeout};

use super::worker::{DYNAMODB, KINESIS, WORKER};

pub(crate) const STREAM: &str = "stream";
pub(crate) const APPLICATION: &str = "application";
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
    dynamodb: DynamoDb,
    sender: mpsc::UnboundedSender<Line>,
    lines: mpsc::UnboundedReceiver<Line>,
    pub(crate) told: Vec<Line>,
    /// Sequence numbers by shard, in order.
    pub(crate) put: BTreeMap<String, Vec<SequenceNumber>>,
}

impl World {
    pub(crate) async fn start(shards: i32) -> Self {
        let servers = EmbeddedKinesis::start(embedded_kinesis::Config::default())
            .await
            .unwrap();
        let kinesis = aws::kinesis(&servers.endpoint());
        kinesis
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards)
            .send()
            .await
            .unwrap();
        let dynamodb = DynamoDb::start().await;
        let table = DynamoDbTable::new(dynamodb.client.clone(), APPLICATION, APPLICATION);
        let (sender, lines) = mpsc::unbounded_channel();
        Self {
            servers,
            kinesis,
            table,
            dynamodb,
            sender,
            lines,
            told: Vec::new(),
            put: BTreeMap::new(),
        }
    }

    pub(crate) fn worker(&self, name: &str) -> Process {
        let (sender, worker) = (self.sender.clone(), name.to_owned());
        Program::new(std::env::current_exe().unwrap())
            .args(["processes::worker_process", "--exact", "--nocapture"])
            .env(WORKER, name)
            .env(KINESIS, self.servers.endpoint())
            .env(DYNAMODB, self.dynamodb.endpoint())
            .on_line(move |text| {
                // The test harness prints, too, and not always a whole line.
                let Some((_, text)) = text.split_once('@') else {
                    return;
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
            })
            .start()
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
        self.table.scan().await.unwrap().leases
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
