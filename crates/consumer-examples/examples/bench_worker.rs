//! The worker that `benches/peers` measures: tells on standard output what is timed.
//!
//! `UNPACED=1` reads without regard to the quota of five calls a second; `BARE=1` reads without
//! leases, one loop per shard: what the SDK alone costs.

#![expect(clippy::print_stdout, reason = "the benchmark reads these lines")]

use std::time::Duration;

use aws_config::BehaviorVersion;
use kinesis_consumer::{
    Batch, Checkpoint, Checkpointer, Config, InitialPosition, ProcessorError, RecordProcessor,
    ShardId, Worker,
};

#[derive(Debug)]
struct Told(ShardId);

impl RecordProcessor for Told {
    async fn initialize(&mut self, _: &Checkpoint) -> Result<(), ProcessorError> {
        println!("started {}", self.0);
        Ok(())
    }

    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        println!("records {} {}", self.0, batch.records.len());
        checkpointer.checkpoint().await?;
        Ok(())
    }

    async fn lease_lost(&mut self) {
        println!("lost {}", self.0);
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        println!("stopping {}", self.0);
        checkpointer.checkpoint().await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let kinesis = aws_sdk_kinesis::Client::new(&aws);
    let stream = std::env::var("STREAM_NAME")?;
    if std::env::var_os("BARE").is_some() {
        return read_bare(kinesis, &stream).await;
    }
    let mut config = Config::new(
        stream,
        std::env::var("APPLICATION_NAME")?,
        std::env::var("INSTANCE_NAME")?,
    );
    config.initial_position = InitialPosition::TrimHorizon;
    if std::env::var_os("UNPACED").is_some() {
        config.min_read_interval = Duration::ZERO;
        config.read_bytes_per_second = u64::MAX;
    }
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let worker = Worker::new(
        config,
        kinesis,
        aws_sdk_dynamodb::Client::new(&aws),
        |lease| Told(lease.shard),
    );
    worker
        .run(async move {
            terminated.recv().await;
        })
        .await?;
    Ok(())
}

/// GetRecords loops and decoding, nothing else.
async fn read_bare(kinesis: aws_sdk_kinesis::Client, stream: &str) -> anyhow::Result<()> {
    let shards = kinesis.list_shards().stream_name(stream).send().await?;
    let loops = shards.shards().iter().map(|shard| {
        let (kinesis, stream, shard) = (
            kinesis.clone(),
            stream.to_owned(),
            shard.shard_id().to_owned(),
        );
        tokio::spawn(async move {
            let start = kinesis
                .get_shard_iterator()
                .stream_name(stream)
                .shard_id(&shard);
            let start =
                start.shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon);
            let mut iterator = start.send().await?.shard_iterator;
            while let Some(from) = iterator {
                let page = kinesis
                    .get_records()
                    .shard_iterator(from)
                    .limit(10_000)
                    .send()
                    .await?;
                if !page.records().is_empty() {
                    println!("records {shard} {}", page.records().len());
                }
                iterator = page.next_shard_iterator;
            }
            anyhow::Ok(())
        })
    });
    for task in loops.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}
