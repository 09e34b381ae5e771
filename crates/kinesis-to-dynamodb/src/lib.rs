//! Every record of a Kinesis stream becomes an item of a DynamoDB table: the worked example of
//! `kinesis-consumer`.
//!
//! `item` (pure) makes a record an item, or says why it cannot be one; `order` (pure) says which of
//! two versions is newer, and `lineage` which shards descend from which; `writer` puts items so
//! that newer data always wins; `rejects` keeps what cannot be stored; `processor` ties them to the
//! library's batches and checkpoints. `checks` asks at start what would fail later; `metrics` tells
//! what happens meanwhile.

use std::{future::Future, sync::Arc};

use kinesis_consumer::{Config, LeaseKey, RecordProcessor, Worker};
use kinesis_edge::Failure;

pub mod args;
mod aws;
mod checks;
pub mod error;
mod fix;
pub mod item;
mod lineage;
pub mod log;
pub mod metrics;
mod number;
mod order;
mod processor;
mod rejects;
pub mod settings;
mod writer;

pub use error::Error;
pub use processor::{Processors, ShardProcessor};
pub use settings::Settings;

/// Consumes until `shutdown` resolves, then ends the batches in work, checkpoints, gives the leases
/// up and returns.
///
/// # Errors
/// What is missing or denied at the start, and what the worker cannot go on without; each with the
/// command that mends it.
pub async fn run(
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let as_they_are =
        |_: &mut Config, processors: Processors| move |lease| processors.create(lease);
    run_adapted(settings, as_they_are, shutdown).await
}

/// As [`run`], with the worker's settings changed and the processors wrapped by `adapt`.
///
/// # Errors
/// As [`run`].
pub async fn run_adapted<F, P>(
    settings: Settings,
    adapt: impl FnOnce(&mut Config, Processors) -> F + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error>
where
    F: Fn(LeaseKey) -> P + Send + Sync + 'static,
    P: RecordProcessor + 'static,
{
    settings.check()?;
    let environment = kinesis_edge::Environment::load().await;
    environment.check()?;
    let proxies = environment.proxies();
    if !proxies.is_empty() {
        tracing::info!(?proxies, "AWS is asked by way of a proxy");
    }
    let metrics = Arc::new(metrics::Metrics::new(&settings));
    let listener = kinesis_edge::listen(settings.admin).map_err(|source| Error::Admin {
        address: settings.admin,
        source,
    })?;
    let state = {
        let metrics = Arc::clone(&metrics);
        move || metrics.state()
    };
    let admin = tokio::spawn(kinesis_consumer_metrics::serve(
        listener,
        Arc::clone(&metrics.library),
        state,
    ));

    let result = consume(&settings, &metrics, adapt, shutdown).await;
    // It has no state to save: a scrape that hangs must not hold up the end.
    admin.abort();
    result
}

async fn consume<F, P>(
    settings: &Settings,
    metrics: &Arc<metrics::Metrics>,
    adapt: impl FnOnce(&mut Config, Processors) -> F + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error>
where
    F: Fn(LeaseKey) -> P + Send + Sync + 'static,
    P: RecordProcessor + 'static,
{
    tokio::pin!(shutdown);
    // Region and credentials may be long in coming, too.
    let clients = tokio::select! {
        clients = aws::Clients::new(settings) => clients?,
        () = &mut shutdown => return Ok(()),
    };
    let tables = tokio::select! {
        tables = checks::all(settings, &clients) => tables?,
        () = &mut shutdown => return Ok(()),
    };
    let sink = Arc::new(processor::Sink::new(
        settings,
        &clients,
        tables,
        Arc::clone(metrics),
    ));
    let events = Arc::clone(metrics);
    let mut config = settings.consumer();
    let processors = adapt(&mut config, Processors::new(sink));
    let (kinesis, dynamodb) = clients.of_worker(&config);
    let region = clients.region;
    let worker = Worker::new(config, kinesis, dynamodb, processors).on_event(move |event| {
        // Counted first: who sees the line finds the metric and the state that it tells of.
        events.record(event);
        log::event(event, &events.library);
    });
    tracing::info!(
        stream = settings.reads(),
        table = settings.table_name,
        application = settings.application_name,
        instance = settings.instance_name(),
        "starting"
    );
    let result = worker
        .run(async {
            shutdown.await;
            // Not ready any more, but alive until the leases are given up.
            metrics.library.set_ready(false);
            tracing::info!("stopping");
        })
        .await;
    metrics.library.set_ready(false);
    result.map_err(|source| Error::Worker {
        hint: hint(&source, settings, &region),
        source: Box::new(source),
    })
}

/// What mends it, where that is a matter of identity or permissions.
fn hint(error: &kinesis_consumer::Error, settings: &Settings, region: &str) -> String {
    let name = match (settings.stream(), error) {
        (Some(name), _) => name,
        (None, kinesis_consumer::Error::Stream { stream, .. }) => stream,
        (None, _) => "*",
    };
    let stream = || fix::stream_arn(name, region);
    let fix = Failure::find(error).and_then(|failure| match error {
        kinesis_consumer::Error::Table { table, .. } => {
            let table = fix::table_arn(table, region);
            fix::of_failure(failure, &fix::LEASE_ACTIONS, &table)
        }
        _ => {
            let action = format!("kinesis:{}", failure.operation);
            let (actions, resource) = match action.as_str() {
                // It is of no stream.
                action if fix::LIST_ACTIONS.contains(&action) => {
                    (&fix::LIST_ACTIONS[..], "*".to_owned())
                }
                action
                    if fix::DESCRIBE_ACTIONS.contains(&action) && settings.stream().is_none() =>
                {
                    (&fix::DESCRIBE_ACTIONS[..], stream())
                }
                action if fix::CONSUMER_ACTIONS.contains(&action) => {
                    (&fix::CONSUMER_ACTIONS[..], fix::consumer_arn(name, region))
                }
                action if fix::REGISTER_ACTIONS.contains(&action) => {
                    (&fix::REGISTER_ACTIONS[..], stream())
                }
                _ => (&fix::STREAM_ACTIONS[..], stream()),
            };
            fix::of_failure(failure, actions, &resource)
        }
    });
    fix.map_or_else(String::new, |fix| format!(". {fix}"))
}
