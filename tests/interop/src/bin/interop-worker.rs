//! A worker on this library with short timers that reports on standard output, line by line, as
//! `java/src/main/java/Processor.java` does.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the test reads these lines"
)]

use std::{fmt::Write as _, io::Write as _, time::Duration};

use aws_config::BehaviorVersion;
use kinesis_consumer::{
    Batch, Checkpoint, CheckpointError, Checkpointer, Config, FanOut, InitialPosition, LeaseKey,
    ProcessorError, Record, RecordProcessor, Retrieval, Streams, Worker,
};

/// Reports each record, then checkpoints.
#[derive(Debug)]
struct Reporter {
    /// With its stream, where there are several.
    shard: LeaseKey,
    /// Processes the first record of the batch's last aggregate, checkpoints there, and hangs.
    halfway: bool,
}

impl RecordProcessor for Reporter {
    async fn initialize(&mut self, _: &Checkpoint) -> Result<(), ProcessorError> {
        println!("started {}", self.shard);
        Ok(())
    }

    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let stop = inside_last_aggregate(&batch.records).filter(|_| self.halfway);
        let processed = stop.map_or(&batch.records[..], |stop| &batch.records[..=stop]);
        // In one write, and before the checkpoint: what a killed worker has checkpointed, it has
        // reported.
        let mut lines = String::new();
        for record in processed {
            let (sequence, sub) = (&record.sequence_number, record.sub_sequence_number);
            let data = String::from_utf8_lossy(&record.data);
            writeln!(lines, "record {} {sequence} {sub} {data}", self.shard)?;
        }
        std::io::stdout().write_all(lines.as_bytes())?;
        let Some(stop) = stop else {
            return self.checkpoint(checkpointer).await;
        };
        checkpointer
            .checkpoint_at(&batch.records[stop].position())
            .await?;
        println!("halfway {}", self.shard);
        std::future::pending().await
    }

    async fn lease_lost(&mut self) {
        println!("lost {}", self.shard);
    }

    async fn shard_ended(&mut self, _: &Checkpointer) -> Result<(), ProcessorError> {
        println!("ended {}", self.shard);
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.checkpoint(checkpointer).await?;
        println!("stopping {}", self.shard);
        Ok(())
    }
}

impl Reporter {
    async fn checkpoint(&self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        match checkpointer.checkpoint().await {
            // Another worker has the lease: what was not checkpointed comes again there.
            Err(CheckpointError::LeaseLost) => println!("late {}", self.shard),
            written => written?,
        }
        Ok(())
    }
}

/// The index of the first record of the last aggregate that has more than one.
fn inside_last_aggregate(records: &[Record]) -> Option<usize> {
    let is_followed = |pair: &[Record]| {
        pair[0].aggregated
            && pair[0].sub_sequence_number == 0
            && pair[0].sequence_number == pair[1].sequence_number
    };
    records.windows(2).rposition(is_followed)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let (application, worker) = (
        std::env::var("APPLICATION_NAME")?,
        std::env::var("WORKER_ID")?,
    );
    let mut config = match std::env::var("STREAMS") {
        Ok(streams) => Config::of_streams(Streams::of(streams.split(',')), application, worker),
        Err(_) => Config::new(std::env::var("STREAM_NAME")?, application, worker),
    };
    config.initial_position = InitialPosition::TrimHorizon;
    config.failover_time = Some(Duration::from_millis(
        std::env::var("FAILOVER_MILLIS")?.parse()?,
    ));
    config.scan_interval = Some(Duration::from_secs(1));
    config.peer_scan_interval = Some(Duration::from_secs(1));
    config.shard_sync_interval = Some(Duration::from_secs(1));
    config.parent_poll_interval = Duration::from_millis(500);
    config.shutdown_deadline = Duration::from_secs(5);
    if std::env::var_os("FAN_OUT").is_some() {
        config.retrieval = Retrieval::FanOut(FanOut::default());
    }
    let halfway = std::env::var_os("HALFWAY").is_some();
    let factory = move |lease: LeaseKey| Reporter {
        shard: lease,
        halfway,
    };
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let shutdown = async move {
        terminated.recv().await;
    };
    let (kinesis, dynamodb) = (
        aws_sdk_kinesis::Client::new(&aws),
        aws_sdk_dynamodb::Client::new(&aws),
    );
    Worker::new(config, kinesis, dynamodb, factory)
        .on_event(|event| eprintln!("{event:?}"))
        .run(shutdown)
        .await?;
    Ok(())
}
