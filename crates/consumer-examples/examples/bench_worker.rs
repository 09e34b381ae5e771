//! The worker that `benches/peers` measures: tells on standard output what is timed.
//!
//! `UNPACED=1` reads without regard to the quota of five calls a second; `BARE=1` reads without
//! leases, one loop per shard: what the SDK alone costs. `RETRIEVAL=fanout`: enhanced fan-out.

#![expect(clippy::print_stdout, reason = "the benchmark reads these lines")]

use std::time::Duration;

use anyhow::Context as _;
use aws_config::BehaviorVersion;
use aws_sdk_kinesis::types::{
    ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEventStream,
};
use kinesis_consumer::{
    Batch, Checkpoint, Checkpointer, Config, FanOut, InitialPosition, ProcessorError,
    RecordProcessor, Retrieval, ShardId, Worker,
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
    let stream = std::env::var("STREAM_NAME")?;
    let fan_out = std::env::var("RETRIEVAL").is_ok_and(|how| how == "fanout");
    if std::env::var_os("BARE").is_some() {
        let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let kinesis = aws_sdk_kinesis::Client::new(&aws);
        return match fan_out {
            false => read_bare(kinesis, &stream).await,
            true => subscribe_bare(kinesis, &stream).await,
        };
    }
    let mut config = Config::new(
        stream,
        std::env::var("APPLICATION_NAME")?,
        std::env::var("INSTANCE_NAME")?,
    );
    config.initial_position = InitialPosition::TrimHorizon;
    if fan_out {
        config.retrieval = Retrieval::FanOut(FanOut::default());
    }
    if std::env::var_os("UNPACED").is_some() {
        config.min_read_interval = Duration::ZERO;
        config.read_bytes_per_second = u64::MAX;
    }
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let worker = Worker::from_env(config, |lease| Told(lease.shard)).await;
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
            let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon);
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

/// One subscription per shard and decoding, nothing else.
async fn subscribe_bare(kinesis: aws_sdk_kinesis::Client, stream: &str) -> anyhow::Result<()> {
    let summary = kinesis.describe_stream_summary().stream_name(stream);
    let summary = summary.send().await?.stream_description_summary;
    let stream_arn = summary.context("a summary")?.stream_arn;
    let register = kinesis.register_stream_consumer().stream_arn(stream_arn);
    let registered = register.consumer_name("bare").send().await?.consumer;
    let consumer = registered.context("a consumer")?.consumer_arn;
    loop {
        let described = kinesis.describe_stream_consumer().consumer_arn(&consumer);
        let described = described.send().await?.consumer_description;
        if described.is_some_and(|it| it.consumer_status == ConsumerStatus::Active) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let shards = kinesis.list_shards().stream_name(stream).send().await?;
    let loops = shards.shards().iter().map(|shard| {
        let (kinesis, consumer, shard) = (
            kinesis.clone(),
            consumer.clone(),
            shard.shard_id().to_owned(),
        );
        tokio::spawn(async move {
            let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
            let subscribe = kinesis
                .subscribe_to_shard()
                .consumer_arn(consumer)
                .shard_id(&shard)
                .starting_position(start.build()?);
            let mut events = subscribe.send().await?.event_stream;
            while let Some(event) = events.recv().await? {
                if let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event
                    && !event.records.is_empty()
                {
                    println!("records {shard} {}", event.records.len());
                }
            }
            anyhow::Ok(())
        })
    });
    for task in loops.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}
