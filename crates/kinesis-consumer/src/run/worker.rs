//! The worker: all of an application's work in one process.

use std::{future::Future, sync::Arc, time::Duration};

use kinesis_edge::{Connection, ConnectionSettings, DynamoDbClient, Environment, KinesisClient};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    edge::{
        account::{Account, sdk::SdkAccount},
        kinesis::{Kinesis, sdk::SdkKinesis},
        lease_table::{LeaseTable, dynamodb::DynamoDbTable},
        turns::Turns,
    },
    face::{
        config::Config,
        error::Error,
        event::{Event, EventSink},
        processor::{Factory, RecordProcessor},
        streams,
    },
    model::{identity::StreamName, keys::LeaseKey},
    run::{
        admission::Admission, auditor::Auditor, context::Context, coordinator::Coordinator,
        following::follow, lookout::Lookout, ownership::Ownership, reports::Reports,
        standing::Standing, stream::Stream, streams::Streams,
    },
};

/// A worker of an application. One per process is enough: every shard is a task.
///
/// `factory` makes the processor of each lease that the worker gets; it is called again when the
/// worker loses a lease and gets it again.
pub struct Worker {
    config: Config,
    /// The stream's, where its ARN does not say so.
    region: Option<String>,
    reads: Reads,
    table: Arc<dyn LeaseTable>,
    factory: Arc<Factory>,
    events: EventSink,
}

/// What the application reads.
enum Reads {
    One(Arc<dyn Kinesis>),
    Several(Arc<dyn Account>, streams::Streams),
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker whose region and credentials come from the environment, as AWS's tools find them:
    /// variables, profiles, the pod's or machine's role. Nothing is called before [`Self::run`].
    pub async fn from_env<P: RecordProcessor + 'static>(
        config: Config,
        factory: impl Fn(LeaseKey) -> P + Send + Sync + 'static,
    ) -> Self {
        if let Err(wrong) = Environment::load().await.check() {
            tracing::warn!(%wrong, "what is wrong in the environment counts as unset");
        }
        let aws = Connection::open(ConnectionSettings::default()).await;
        let kinesis = aws.bounded(config.kinesis_connections());
        let dynamodb = aws.bounded(config.dynamodb_connections());
        let (kinesis, dynamodb) = (kinesis.kinesis(None), dynamodb.dynamodb(None));
        Self::new(config, kinesis, dynamodb, factory)
    }

    /// A worker over clients of your own. Time-outs that they leave unset get the library's: 2 s to
    /// connect to Kinesis, 5 s for an answer of ListShards and 15 s with retries, 30 s for each
    /// read; 1 s to connect to DynamoDB, 2 s for an answer and 5 s with retries. Calls for one
    /// lease get these whatever the client has, and three attempts: renewals depend on them.
    ///
    /// No more calls than [`Config::max_connections`] are under way. So that there are no more
    /// connections either, make the clients of `kinesis_edge`'s `Connection::bounded`, by
    /// [`Config::kinesis_connections`] and [`Config::dynamodb_connections`].
    pub fn new<P: RecordProcessor + 'static>(
        config: Config,
        kinesis: KinesisClient,
        dynamodb: DynamoDbClient,
        factory: impl Fn(LeaseKey) -> P + Send + Sync + 'static,
    ) -> Self {
        let region = kinesis.config().region().map(ToString::to_string);
        let connections = config.connections();
        let lists = Turns::gate(connections.lists);
        let table = DynamoDbTable::new(dynamodb, &config.lease_table, &config.application).behind(
            Turns::gate(connections.leases),
            Turns::gate(connections.tables),
        );
        let (reads, table) = match &config.streams {
            None => {
                let stream = SdkKinesis::new(kinesis, &config.stream).listing_behind(lists);
                (Reads::One(Arc::new(stream)), table)
            }
            Some(streams) => {
                let account = Arc::new(SdkAccount::new(kinesis).listing_behind(lists));
                let reads = Reads::Several(account, streams.clone());
                (reads, table.of_several_streams())
            }
        };
        Self {
            region,
            ..Self::assemble(config, reads, Arc::new(table), factory)
        }
    }

    /// A worker over any Kinesis and lease table, such as those in memory.
    #[cfg(feature = "test-util")]
    pub fn over<P: RecordProcessor + 'static>(
        config: Config,
        kinesis: impl Kinesis + 'static,
        table: impl LeaseTable + 'static,
        factory: impl Fn(LeaseKey) -> P + Send + Sync + 'static,
    ) -> Self {
        let reads = Reads::One(Arc::new(kinesis));
        Self::assemble(config, reads, Arc::new(table), factory)
    }

    /// A worker of several streams, `streams` of any account, over any lease table.
    #[cfg(feature = "test-util")]
    pub fn over_several<P: RecordProcessor + 'static>(
        config: Config,
        account: impl Account + 'static,
        table: impl LeaseTable + 'static,
        factory: impl Fn(LeaseKey) -> P + Send + Sync + 'static,
    ) -> Self {
        let streams = config.streams.clone();
        let streams = streams.unwrap_or_else(|| streams::Streams::of::<String>([]));
        let reads = Reads::Several(Arc::new(account), streams);
        Self::assemble(config, reads, Arc::new(table), factory)
    }

    fn assemble<P: RecordProcessor + 'static>(
        config: Config,
        reads: Reads,
        table: Arc<dyn LeaseTable>,
        factory: impl Fn(LeaseKey) -> P + Send + Sync + 'static,
    ) -> Self {
        Self {
            config,
            region: None,
            reads,
            table,
            factory: Arc::new(move |lease| Box::new(factory(lease))),
            events: Arc::new(Event::log),
        }
    }

    /// Gives `sink` every event, at once and in order; it must not block. Events are not logged
    /// then any more, unless the sink calls [`Event::log`].
    #[must_use]
    pub fn on_event(mut self, sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.events = Arc::new(sink);
        self
    }

    /// Works until `shutdown` resolves: then stops taking, ends batches, checkpoints, releases
    /// leases and returns `Ok`. Dropping the future stops all of it at once, as a crash would.
    ///
    /// # Errors
    /// Why the worker cannot go on; leases are released then too.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self {
            config,
            region,
            reads,
            table,
            factory,
            events,
        } = self;
        config.validate()?;
        // The rarest call is the audit's; failed ones are repeated with jitter.
        let apart = (3 * config.times().shard_sync_interval).max(Duration::from_secs(120));
        let standing = Standing::new(config.give_up_after, apart);
        let sink = Arc::clone(&events);
        table.tell_usage(Box::new(move |operation, read_units, write_units| {
            sink(&Event::TableUsed {
                operation,
                read_units,
                write_units,
            });
        }));
        let reports = Reports::new(events, standing, config.give_up_after);
        let (streams, account) = match reads {
            Reads::One(kinesis) => {
                let name = StreamName::new(&config.stream, region.as_deref());
                let stream = Stream::new(
                    None,
                    config.stream.clone(),
                    kinesis,
                    Ownership::new(name),
                    &config,
                    reports.clone(),
                );
                (Streams::one(stream), None)
            }
            Reads::Several(account, streams) => (Streams::several(), Some((account, streams))),
        };
        let context = Arc::new(Context::new(config, streams, table, factory, reports));
        let lookout = account.map(|(account, streams)| {
            let context = Arc::clone(&context);
            Lookout::new(context, account, streams)
        });
        let stopping = CancellationToken::new();
        let stop_on_request = async {
            shutdown.await;
            stopping.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            never = stop_on_request => never,
            result = work(context, lookout, stopping.clone()) => result,
        }
    }
}

async fn work(
    context: Arc<Context>,
    lookout: Option<Lookout>,
    stopping: CancellationToken,
) -> Result<(), Error> {
    let admission = async {
        Admission::new(&context).run().await?;
        let Some(mut lookout) = lookout else {
            return Ok(None);
        };
        lookout.first().await?;
        Ok(Some(lookout))
    };
    let lookout = tokio::select! {
        biased;
        () = stopping.cancelled() => return Ok(()),
        error = context.reports.standing.given_up() => return Err(error),
        admitted = admission => admitted?,
    };
    context.report(Event::Admitted);
    let _looking = lookout.map(|lookout| AbortOnDropHandle::new(tokio::spawn(lookout.run())));
    let auditor = Auditor::new(Arc::clone(&context));
    let auditing = AbortOnDropHandle::new(tokio::spawn(auditor.run()));
    let leadership = AbortOnDropHandle::new(tokio::spawn(follow(Arc::clone(&context))));
    let mut coordinator = Coordinator::new(context);
    let result = coordinator.run(&stopping, auditing).await;
    // Or it would report the worker that retires.
    leadership.abort();
    let _ = leadership.await;
    let stopped = coordinator.stop().await;
    result.and(stopped)
}
