//! The worker process: this very test binary, started again. Tells each step on standard output,
//! with the time.

use std::time::Duration;

use jiff::Timestamp;
use kinesis_consumer::{
    Batch, Checkpointer, Config, Event, InitialPosition, LeaseKey, ProcessorError, RecordProcessor,
    ShardId, Worker,
};
use test_support::aws;
use tokio::signal::unix::{SignalKind, signal};

use super::world::{APPLICATION, STREAM};

/// Set in the worker process: its worker id.
pub(crate) const WORKER: &str = "PROCESSES_WORKER";
/// Set in the worker process: where Kinesis and DynamoDB are.
pub(crate) const KINESIS: &str = "PROCESSES_KINESIS";
/// See [`KINESIS`].
pub(crate) const DYNAMODB: &str = "PROCESSES_DYNAMODB";

#[expect(clippy::print_stdout, reason = "the test reads it")]
fn tell(what: &str) {
    println!("@{} {what}", Timestamp::now().as_nanosecond());
}

struct Telling(ShardId);

impl RecordProcessor for Telling {
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        for record in &batch.records {
            tell(&format!("record {} {}", self.0, record.sequence_number));
        }
        checkpointer.checkpoint().await?;
        Ok(())
    }
}

pub(crate) async fn run() {
    let env = |name| std::env::var(name).unwrap();
    let mut config = Config::new(STREAM, APPLICATION, env(WORKER));
    config.initial_position = InitialPosition::TrimHorizon;
    config.failover_time = Some(Duration::from_secs(3));
    config.scan_interval = Some(Duration::from_secs(1));
    config.peer_scan_interval = Some(Duration::from_millis(300));
    config.shard_sync_interval = Some(Duration::from_secs(1));
    config.idle_between_reads = Some(Duration::from_millis(200));
    config.parent_poll_interval = Duration::from_millis(200);
    let factory = |lease: LeaseKey| Telling(lease.shard);
    let worker = Worker::new(
        config,
        aws::kinesis(&env(KINESIS)),
        aws::dynamodb(&env(DYNAMODB)),
        factory,
    );
    let worker = worker.on_event(|event| match event {
        Event::LeaseAcquired { shard, .. } => tell(&format!("acquired {shard}")),
        Event::LeaseLost { shard, .. } => tell(&format!("lost {shard}")),
        Event::LeaseReleased { shard, .. } => tell(&format!("released {shard}")),
        Event::HandedOver { shard, .. } => tell(&format!("handed-over {shard}")),
        Event::ShardStarted { shard, .. } => tell(&format!("started {shard}")),
        Event::ShardEnded { shard, .. } => tell(&format!("ended {shard}")),
        _ => {}
    });
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let result = worker
        .run(async move { terminated.recv().await.unwrap_or_default() })
        .await;
    tell(&format!(
        "exit {}",
        result.map_or_else(|error| error.to_string(), |()| "ok".into())
    ));
}
