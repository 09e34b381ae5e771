//! The worker process: this very test binary, started again. It writes every record into a table,
//! and takes no more leases than it may, as KCL's maxLeasesForWorker.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{
    Batch, Checkpointer, Config, InitialPosition, ProcessorError, RecordProcessor, Worker,
};
use test_support::{Process, Program, aws};
use tokio::signal::unix::{SignalKind, signal};

use super::ITEMS;

/// Set in the worker process: its worker id.
pub const WORKER: &str = "BAD_DAYS_WORKER";
const KINESIS: &str = "BAD_DAYS_KINESIS";
const DYNAMODB: &str = "BAD_DAYS_DYNAMODB";
const LEASES: &str = "BAD_DAYS_LEASES";

/// Starts one; it may take so many leases.
pub fn start(name: &str, kinesis: &str, dynamodb: &str, leases: usize) -> Process {
    Program::new(std::env::current_exe().unwrap())
        .args(["bad_days::worker_process", "--exact", "--nocapture"])
        .env(WORKER, name)
        .env(KINESIS, kinesis)
        .env(DYNAMODB, dynamodb)
        .env(LEASES, leases.to_string())
        .start()
}

struct Writer(aws_sdk_dynamodb::Client);

impl RecordProcessor for Writer {
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        for record in &batch.records {
            let put = self.0.put_item().table_name(ITEMS);
            let id = AttributeValue::S(record.sequence_number.to_string());
            put.item("id", id).send().await?;
        }
        checkpointer.checkpoint().await?;
        Ok(())
    }
}

pub async fn run() {
    let env = |name| std::env::var(name).unwrap();
    let mut config = Config::new("orders", "billing", env(WORKER));
    config.initial_position = InitialPosition::TrimHorizon;
    config.max_leases = env(LEASES).parse().unwrap();
    config.failover_time = Some(Duration::from_secs(3));
    config.scan_interval = Some(Duration::from_millis(500));
    config.peer_scan_interval = Some(Duration::from_millis(500));
    config.shard_sync_interval = Some(Duration::from_secs(1));
    config.idle_between_reads = Some(Duration::from_millis(200));
    let dynamodb = aws::dynamodb(&env(DYNAMODB));
    let items = dynamodb.clone();
    let kinesis = aws::kinesis(&env(KINESIS));
    let worker = Worker::new(config, kinesis, dynamodb, move |_| Writer(items.clone()));
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let stop = async move { terminated.recv().await.unwrap_or_default() };
    worker.run(stop).await.unwrap();
}
