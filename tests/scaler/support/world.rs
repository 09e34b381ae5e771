//! An application on the embedded Kinesis and DynamoDB: a real worker in this process, whose
//! processor does as it is told.

use std::sync::Arc;

use aws_sdk_dynamodb::{operation::scan::ScanOutput, types::AttributeValue};
use aws_sdk_kinesis::primitives::Blob;
use kinesis_consumer::{
    Batch, Checkpointer, Config, InitialPosition, ProcessorError, RecordProcessor, Streams, Worker,
};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{DynamoDb, Process, REGION, Stack, object};
use keda_kinesis_scaler::proto::ScaledObjectRef;

/// The key of the scaler's own process, so that its calls are told from those of the test and of
/// the application.
pub const SCALER_KEY: &str = "AKIDSCALER";

/// A stream, a lease table and a scaler that may be asked about them.
pub struct Application {
    pub stack: Stack,
    pub dynamodb: DynamoDb,
    pub table: aws_sdk_dynamodb::Client,
}

/// A running worker. Dropping it is a kill -9: nothing is released.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Records that it may still process; it waits for more.
    pub may: Arc<Semaphore>,
}

struct Allowed(Arc<Semaphore>);

impl RecordProcessor for Allowed {
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        for record in &batch.records {
            self.0.acquire().await?.forget();
            checkpointer.checkpoint_at(&record.position()).await?;
        }
        Ok(())
    }
}

impl Application {
    /// A stream `orders` with so many shards; no lease table yet.
    pub async fn start(shards: i32) -> Self {
        Self::with(shards, |_| {}).await
    }

    pub async fn with(
        shards: i32,
        change: impl FnOnce(&mut keda_kinesis_scaler::config::Config),
    ) -> Self {
        let stack = Stack::with(|config, _| change(config)).await;
        stack.create_stream("orders", shards).await;
        Self::over(stack, DynamoDb::start().await)
    }

    /// Over a scaler that has its stream already.
    pub fn over(stack: Stack, dynamodb: DynamoDb) -> Self {
        Self {
            stack,
            table: dynamodb.client.clone(),
            dynamodb,
        }
    }

    /// A trigger about the application `billing`.
    pub fn trigger(&self, scale_on: &str, more: &[(&str, &str)]) -> ScaledObjectRef {
        let endpoint = self.dynamodb.endpoint();
        let mut metadata = self.stack.stream(
            "orders",
            &[
                ("scaleOn", scale_on),
                ("applicationName", "billing"),
                ("leaseTableEndpoint", &endpoint),
                ("shardCount", "1"),
            ],
        );
        metadata.extend(super::metadata(more));
        object(metadata)
    }

    pub async fn put(&self, key: &str) {
        self.put_data(key, "secret data").await;
    }

    pub async fn put_data(&self, key: &str, data: impl Into<Vec<u8>>) {
        let put = self.stack.aws.put_record().stream_name("orders");
        let put = put.partition_key(key).data(Blob::new(data.into()));
        put.send().await.unwrap();
    }

    /// A stream of two shards of which `billing` has read three records, resharded since: its
    /// worker holds the closed parents, and the children wait.
    pub async fn resharded() -> (Self, Running) {
        let application = Self::start(2).await;
        for n in 0..20 {
            application.put(&format!("before {n}")).await;
        }
        let worker = application.run("billing-7d9f", 3);
        super::eventually("the worker's leases", application.held(2)).await;
        application.stack.update_shard_count("orders", 4).await;
        let mut client = application.stack.client().await;
        let object = application.trigger("readableShards", &[]);
        super::wait_for_value(&mut client, &object, 2.0).await;
        (application, worker)
    }

    /// The real binary beside it, with an identity of its own.
    pub async fn scaler(&self, config: &str) -> Process {
        let sts = self.stack.kinesis.endpoint();
        let env = [
            ("AWS_ACCESS_KEY_ID", SCALER_KEY),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", REGION),
            ("AWS_ENDPOINT_URL_STS", &sts),
        ];
        Process::start(config, &env).await
    }

    /// Waits until workers hold so many leases.
    pub async fn held(&self, count: usize) {
        loop {
            let scan = self.table.scan().table_name("billing").send().await;
            let held = |scan: ScanOutput| {
                let owners = scan
                    .items()
                    .iter()
                    .filter(|it| it.contains_key("leaseOwner"));
                owners.count()
            };
            if scan.is_ok_and(|scan| held(scan) == count) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// What `/explain` says as JSON, once it knows of so many unread shards: a refresh may stand
    /// between a question and what is known.
    pub async fn explained(&self, path: &str, unread: usize) -> Value {
        let path = format!("{path}?format=json");
        let asked = async {
            loop {
                let (_, body) = super::http_get(self.stack.admin, &path).await;
                let json: Value = serde_json::from_str(&body).unwrap_or_default();
                if json.pointer("/triggers/0/source/application/unread") == Some(&unread.into()) {
                    return json;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        super::eventually(&path, asked).await
    }

    /// Waits for so many leases.
    pub async fn leases(&self, count: i32) {
        loop {
            let scan = self.table.scan().table_name("billing").send().await;
            if scan.is_ok_and(|scan| scan.count() >= count) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Waits until a lease's checkpoint has that sub-sequence number.
    pub async fn checkpointed(&self, sub_sequence_number: &str) {
        let sub_sequence_number = AttributeValue::N(sub_sequence_number.to_owned());
        loop {
            let scan = self.table.scan().table_name("billing").send().await;
            let is_there = |scan: ScanOutput| {
                let name = "checkpointSubSequenceNumber";
                let mut items = scan.items().iter();
                items.any(|it| it.get(name) == Some(&sub_sequence_number))
            };
            if scan.is_ok_and(is_there) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// A worker that may process so many records.
    pub fn run(&self, worker: &str, records: usize) -> Running {
        self.run_with(Config::new("orders", "billing", worker), records)
    }

    /// The same of several streams.
    pub fn run_streams(&self, streams: &str, records: usize) -> Running {
        let streams = Streams::of(streams.split(','));
        let config = Config::of_streams(streams, "billing", "billing-7d9f");
        self.run_with(config, records)
    }

    fn run_with(&self, mut config: Config, records: usize) -> Running {
        let may = Arc::new(Semaphore::new(records));
        config.initial_position = InitialPosition::TrimHorizon;
        config.failover_time = Some(std::time::Duration::from_secs(1));
        config.scan_interval = Some(std::time::Duration::from_millis(200));
        config.peer_scan_interval = Some(std::time::Duration::from_millis(200));
        config.shard_sync_interval = Some(std::time::Duration::from_millis(300));
        config.idle_between_reads = Some(std::time::Duration::from_millis(50));
        config.parent_poll_interval = std::time::Duration::from_millis(50);
        config.shutdown_deadline = std::time::Duration::from_millis(100);
        let given = Arc::clone(&may);
        let worker = Worker::new(
            config,
            self.stack.aws.clone(),
            self.table.clone(),
            move |_| Allowed(Arc::clone(&given)),
        );
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        Running {
            stop,
            may,
            task: tokio::spawn(async move { worker.run(stopped).await.unwrap() }),
        }
    }
}

/// The same asked by another ScaledObject.
pub fn named(namespace: &str, name: &str, object: ScaledObjectRef) -> ScaledObjectRef {
    ScaledObjectRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..object
    }
}

impl Running {
    /// As SIGTERM: ends batches, checkpoints, gives its leases up.
    pub async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
