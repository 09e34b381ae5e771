//! An application on the embedded Kinesis and DynamoDB: a real worker in this process, whose processor does as it is told.

use std::sync::Arc;

use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_kinesis::primitives::Blob;
use kinesis_consumer::{
    checkpointer::Checkpointer,
    config::{Config, InitialPosition},
    processor::{ProcessorError, RecordProcessor},
    record::Batch,
    shard::ShardId,
    worker::Worker,
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Stack, credentials, dynamodb::DynamoDb, object};
use keda_kinesis_scaler::proto::ScaledObjectRef;

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

#[async_trait::async_trait]
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
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(super::REGION))
            .credentials_provider(credentials())
            .endpoint_url(dynamodb.endpoint());
        Self {
            stack,
            table: aws_sdk_dynamodb::Client::from_conf(config.build()),
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
        let put = self.stack.aws.put_record().stream_name("orders");
        let put = put.partition_key(key).data(Blob::new("secret data"));
        put.send().await.unwrap();
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

    /// A worker that may process so many records.
    pub fn run(&self, worker: &str, records: usize) -> Running {
        let may = Arc::new(Semaphore::new(records));
        let config = Config {
            initial_position: InitialPosition::TrimHorizon,
            failover_time: std::time::Duration::from_secs(1),
            scan_interval: std::time::Duration::from_millis(200),
            peer_scan_interval: std::time::Duration::from_millis(200),
            shard_sync_interval: std::time::Duration::from_millis(300),
            idle_between_reads: std::time::Duration::from_millis(50),
            parent_poll_interval: std::time::Duration::from_millis(50),
            shutdown_deadline: std::time::Duration::from_millis(100),
            ..Config::new("orders", "billing", worker)
        };
        let given = Arc::clone(&may);
        let factory =
            move |_: &ShardId| Box::new(Allowed(Arc::clone(&given))) as Box<dyn RecordProcessor>;
        let worker = Worker::new(
            config,
            self.stack.aws.clone(),
            self.table.clone(),
            Arc::new(factory),
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
