//! The gRPC server: what it serves, the limits that keep one client from hurting the others, and
//! how it shuts down.
//!
//! KEDA puts every poll and every push stream of the operator on one connection: streams are
//! bounded, but far above what a cluster has.

mod accept;
pub mod admin;
mod connection;
pub(crate) mod descriptors;
pub(crate) mod health;
mod limits;
pub mod live;
mod places;
pub mod rpcs;
pub mod tls;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::FutureExt as _;
use kinesis_edge::SharedCredentialsProvider;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    server::NamedService as _,
    transport::{Server, server::Router},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::pb;
use tracing::{info, warn};

use self::{
    accept::{Listener, Secured},
    connection::Patience,
    limits::{Bounded, Memory, Streams},
    live::{Live, Reloads},
    places::{Places, Stay},
};
use crate::{
    config::{Config, Limits},
    decision::record::Recorder,
    metrics::Metrics,
    proto::{FILE_DESCRIPTOR_SET, external_scaler_server::ExternalScalerServer},
    report::journal::Journal,
    server::{admin::Admin, rpcs::Scaler, tls::Tls},
    source::aws::Aws,
    watch::{Pace, Watchers},
};

/// The longest request. A trigger's metadata are a few hundred bytes.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// The longest headers of a request. KEDA's are a few hundred bytes.
const LONGEST_HEADERS: u32 = 4 * 1024;

/// What a client may send before it is read: of one request, and of a connection. Less for a
/// connection, and the messages of calls that are refused in a flood come after their refusal: a
/// thousand of those end the connection, as HTTP/2 has it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// TLS handshakes at a time, beside connections.
const HANDSHAKES: usize = 256;

/// Calls that one connection may have in flight; open push streams do not count.
const CALLS_IN_FLIGHT: usize = 1_024;

/// No call takes that long, unless the client is slow to send it.
const SLOWEST_CALL: Duration = Duration::from_secs(10);

/// A client that connects speaks within this time.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Connections of the admin port: some Prometheus, and the probes of the node.
const ADMIN_CONNECTIONS: usize = 100;

/// On the admin port requests are short and answers are read at once: between two of them on one
/// connection, and in all.
const ADMIN_SILENCE: Duration = Duration::from_secs(120);
const ADMIN_LIFE: Duration = Duration::from_secs(600);

/// Between "not serving" and the end of listening, for load balancers to notice.
const LAME_DUCK: Duration = Duration::from_millis(300);

type Service = ExternalScalerServer<Scaler>;

/// Settings for tests and embedders, which no user needs to change.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The scaler's own identity; `None`: from the standard chain.
    pub credentials: Option<SharedCredentialsProvider>,
    /// The pace of the watchers; `None`: as the configuration has it.
    pub pace: Option<Pace>,
    /// Between HTTP/2 pings, by which a client that died silently is noticed.
    pub keepalive_interval: Duration,
    /// How long an answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// How long a client may take to say its first word.
    pub first_word: Duration,
    /// How often StreamIsActive repeats `true` while it holds.
    pub repeat: Duration,
    /// A directory for recordings of what decisions about lag are made from.
    pub record: Option<PathBuf>,
    /// Configurations that come later; `None`: none.
    pub reloads: Option<Reloads>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            credentials: None,
            pace: None,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            first_word: FIRST_WORD,
            repeat: Duration::from_secs(30),
            record: None,
            reloads: None,
        }
    }
}

/// Serves until `shutdown`, then drains: health says NOT_SERVING, push streams end with OK, calls
/// in flight finish, at most for `config.grace`.
///
/// # Errors
/// The TLS files make no sense, or a listener fails.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    admin: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    serve_tuned(config, Tuning::default(), listener, admin, shutdown).await
}

/// As [`serve`], with other times.
///
/// # Errors
/// As [`serve`].
pub async fn serve_tuned(
    config: Config,
    tuning: Tuning,
    listener: TcpListener,
    admin: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let started = config.clone();
    let (live_sender, live) = watch::channel(Arc::new(Live::from(&config)));
    let Config {
        aws,
        tls,
        limits,
        grace,
        ..
    } = config;
    let metrics = Arc::new(Metrics::new());
    let tls = tls.map(|tls| Tls::load(tls, Arc::clone(&metrics)));
    let tls = tls.transpose()?;

    let draining = CancellationToken::new();
    let closing = CancellationToken::new();
    let pace = tuning.pace.unwrap_or_else(|| Pace {
        sources: limits.watchers,
        ..Pace::from(&aws)
    });
    let default_region = aws.region.clone();
    let aws = Aws::bounded(
        aws,
        tuning.credentials.clone(),
        Arc::clone(&metrics),
        limits.aws_clients,
    );
    aws.prepare().await;
    let recorder = tuning.record.clone().map(Recorder::new).transpose()?;
    let recorder = recorder.map(Arc::new);
    let watchers = Arc::new(Watchers::new(pace, aws, recorder));
    let journal = Arc::new(Journal::new(limits.journal));
    let scaler = Scaler {
        default_region,
        live: live.clone(),
        watchers: Arc::clone(&watchers),
        journal: Arc::clone(&journal),
        metrics: Arc::clone(&metrics),
        draining: draining.clone(),
        streams: Places::new("streams", limits.streams as usize, Stay::Long, &metrics),
        repeat: tuning.repeat,
    };
    let reloading = tuning.reloads.clone().map(|reloads| {
        let (watchers, metrics) = (Arc::clone(&watchers), Arc::clone(&metrics));
        let following = live::follow(reloads, started, live_sender.clone(), watchers, metrics);
        AbortOnDropHandle::new(tokio::spawn(following))
    });
    let admin_address = admin.local_addr()?;
    let patience = Patience {
        first: tuning.first_word,
        silence: ADMIN_SILENCE,
        life: Some(ADMIN_LIFE),
    };
    let short = |limit, bound| {
        let most = descriptors::beside(bound, descriptors::most());
        Places::new(limit, most, Stay::Short, &metrics)
    };
    let handshakes = short("handshakes", HANDSHAKES);
    let places = short("admin_connections", ADMIN_CONNECTIONS);
    let connections = connections_that_fit(limits);
    let connections = Places::new("connections", connections, Stay::Long, &metrics);
    let all: Arc<[_]> = Arc::new([&connections, &handshakes, &places].map(Arc::clone));
    let admin = Listener::new(admin, places, Arc::clone(&all), patience);
    let memory = Memory::new(Arc::clone(&metrics));
    let admin_state = Admin {
        metrics,
        watchers,
        journal,
        live,
        draining: draining.clone(),
    };
    let end = closing.clone().cancelled_owned();
    let mut admin = std::pin::pin!(admin::serve(admin, admin_state, end).fuse());

    let address = listener.local_addr()?;
    let with_tls = tls.is_some();
    let health = HealthReporter::new();
    health.set_serving::<Service>().await;
    // A live client answers a ping within this time.
    let silence = (tuning.keepalive_interval + tuning.keepalive_timeout) * 2;
    let patience = Patience {
        first: tuning.first_word,
        silence,
        life: None,
    };
    let router = router(scaler, health.clone(), &tuning, limits, &memory)?;
    let following_tls = tls
        .clone()
        .map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.follow())));
    let grpc = match tls {
        None => {
            let incoming = accept::plain(Listener::new(listener, connections, all, patience));
            let closing = closing.clone().cancelled_owned();
            router
                .serve_with_incoming_shutdown(incoming, closing)
                .boxed()
        }
        Some(tls) => {
            let secured = Secured {
                tls,
                router,
                connections,
                patience,
                closing: closing.clone(),
            };
            let served = secured.serve(Listener::new(listener, handshakes, all, patience));
            served.map(Ok).boxed()
        }
    };
    let mut grpc = std::pin::pin!(grpc.fuse());
    info!(grpc = %address, admin = %admin_address, tls = with_tls, "serving");

    let lame_duck = LAME_DUCK.min(grace / 4);
    let drain = async {
        shutdown.await;
        info!("draining");
        draining.cancel();
        for service in ["", Service::NAME] {
            let status = ServingStatus::NotServing;
            health.set_service_status(service, status).await;
        }
        sleep(lame_duck).await;
        // Open health watches would keep their connections: they end once they have sent
        // NOT_SERVING.
        let mut health = health;
        for service in ["", Service::NAME] {
            health.clear_service_status(service).await;
        }
        closing.cancel();
    };
    tokio::select! {
        () = drain => {}
        ended = &mut grpc => return ended.context("the gRPC server ended"),
        ended = &mut admin => return ended.context("the admin server ended"),
    }
    drop((reloading, following_tls));
    match timeout(grace.saturating_sub(lame_duck), grpc).await {
        Ok(ended) => {
            ended?;
            info!("drained");
        }
        Err(_) => warn!(
            ?grace,
            "the grace period is over with calls still in flight"
        ),
    }
    Ok(())
}

/// As many as file descriptors last for.
fn connections_that_fit(limits: Limits) -> usize {
    let (connections, most) = (limits.connections as usize, descriptors::most());
    descriptors::fitting(connections, most).unwrap_or_else(|(fitting, needed)| {
        warn!(
            "limits.connections of {connections} would need {needed} file descriptors and there are {most}: \
             {fitting} connections are served. Raise the limit (ulimit -n) or lower limits.connections"
        );
        fitting
    })
}

fn router(
    scaler: Scaler,
    health: HealthReporter,
    tuning: &Tuning,
    limits: Limits,
    memory: &Arc<Memory>,
) -> anyhow::Result<Router> {
    let scaler = ExternalScalerServer::new(scaler).max_decoding_message_size(LONGEST_MESSAGE);
    let health = tonic_health::server::HealthService::from_health_reporter(health);
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let health = health.max_decoding_message_size(LONGEST_MESSAGE);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false)
    };
    let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let v1 = v1.max_decoding_message_size(LONGEST_MESSAGE);
    let v1alpha = v1alpha.max_decoding_message_size(LONGEST_MESSAGE);
    Ok(Server::builder()
        .max_concurrent_streams(limits.streams)
        .concurrency_limit_per_connection(CALLS_IN_FLIGHT)
        .load_shed(true)
        .timeout(SLOWEST_CALL)
        .http2_max_header_list_size(LONGEST_HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(tuning.keepalive_interval))
        .http2_keepalive_timeout(Some(tuning.keepalive_timeout))
        .add_service(Bounded::new(scaler, memory, Streams::Bounded))
        .add_service(Bounded::new(health, memory, Streams::Counted))
        .add_service(Bounded::new(v1, memory, Streams::Conversation))
        .add_service(Bounded::new(v1alpha, memory, Streams::Conversation)))
}
