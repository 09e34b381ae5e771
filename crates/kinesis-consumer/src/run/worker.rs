//! The worker: all of an application's work in one process.

use std::{future::Future, sync::Arc};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    edge::{
        kinesis::{Kinesis, sdk::SdkKinesis},
        lease_table::{LeaseTable, dynamodb::DynamoDbTable},
    },
    face::{
        config::Config,
        error::Error,
        event::{Event, EventSink},
        processor::ProcessorFactory,
    },
    run::{auditor::Auditor, context::Context, coordinator::Coordinator, load::Load},
};

/// A worker of an application. One per process is enough: every shard is a task.
pub struct Worker {
    config: Config,
    kinesis: Arc<dyn Kinesis>,
    table: Arc<dyn LeaseTable>,
    factory: Arc<dyn ProcessorFactory>,
    events: EventSink,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker over AWS clients.
    pub fn new(
        config: Config,
        kinesis: kinesis_edge::KinesisClient,
        dynamodb: kinesis_edge::DynamoDbClient,
        factory: Arc<dyn ProcessorFactory>,
    ) -> Self {
        let kinesis = SdkKinesis::new(kinesis, &config.stream);
        let table = DynamoDbTable::new(dynamodb, &config.lease_table, &config.application);
        Self::with(config, Arc::new(kinesis), Arc::new(table), factory)
    }

    /// A worker over any Kinesis and lease table: for tests.
    pub fn with(
        config: Config,
        kinesis: Arc<dyn Kinesis>,
        table: Arc<dyn LeaseTable>,
        factory: Arc<dyn ProcessorFactory>,
    ) -> Self {
        Self {
            config,
            kinesis,
            table,
            factory,
            events: Arc::new(|_| {}),
        }
    }

    /// Tells `sink` what happens.
    #[must_use]
    pub fn on_event(mut self, sink: EventSink) -> Self {
        self.events = sink;
        self
    }

    /// Works until `shutdown` resolves: then stops taking, ends batches, checkpoints, releases leases and returns `Ok`.
    /// An error says why the worker cannot go on; leases are released then too. Dropping the future stops all of it at once, as a crash would.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self {
            config,
            kinesis,
            table,
            factory,
            events,
        } = self;
        config.validate()?;
        let context = Arc::new(Context {
            load: Load::new(config.parallelism),
            config,
            kinesis,
            table,
            factory,
            events,
            rescan: Notify::new(),
        });
        let stopping = CancellationToken::new();
        let stop_when_told = async {
            shutdown.await;
            stopping.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            never = stop_when_told => never,
            result = work(context, stopping.clone()) => result,
        }
    }
}

async fn work(context: Arc<Context>, stopping: CancellationToken) -> Result<(), Error> {
    let mut auditor = Auditor::new(Arc::clone(&context));
    tokio::select! {
        biased;
        () = stopping.cancelled() => return Ok(()),
        admitted = auditor.admit() => admitted?,
    }
    context.tell(Event::Admitted);
    let auditing = AbortOnDropHandle::new(tokio::spawn(auditor.run()));
    let mut coordinator = Coordinator::new(context);
    let result = coordinator.run(&stopping, auditing).await;
    coordinator.stop().await;
    result
}
