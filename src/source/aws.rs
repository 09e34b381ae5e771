//! The way to AWS: clients per service, identity, region and endpoint, and the share of AWS's call
//! quota.
//!
//! The scaler's own credentials come from the standard chain and are loaded with the first
//! question, not at start. A client lives as long as somebody holds it: the watchers of one
//! identity share it, and the last of them takes it away.

mod admission;
mod budget;
mod bytes;
mod failure;
mod retries;
mod rows;
mod share;
mod turns;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_edge::{
    ClientSettings, Connection, ConnectionSettings, DynamoDbClient, Environment, Failure, Gate,
    KinesisClient, Service, SharedCredentialsProvider, Table, heed_room,
};
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::Instant,
};
use url::Url;

pub use self::admission::Admitted;
pub(crate) use self::{
    bytes::Bytes,
    failure::Resource,
    rows::{Known, Rows, SharedRows},
    share::{Share, Unlisted},
    turns::{Turn, Turns},
};
use crate::{
    config::AwsConfig,
    error::{SourceError, SourceErrorKind},
    metrics::Metrics,
    trigger::{LeaseTable, Role, Stream, StreamSource, tenant::Tenant},
};

/// The name of role sessions, as CloudTrail shows it.
const SESSION_NAME: &str = "keda-kinesis-scaler";

/// Calls under way for one service, identity, region and endpoint; the others queue, first come
/// first served. A DynamoDB that does not answer keeps nobody from Kinesis.
const CALLS_IN_FLIGHT: usize = 64;

/// How long the credentials endpoint of an instance may keep us waiting, before we know that we
/// have no credentials.
const IMDS_TIMEOUT: Duration = Duration::from_secs(1);

/// All that is needed to make clients, and the clients in use.
#[derive(Debug)]
pub struct Aws {
    config: AwsConfig,
    credentials: Option<SharedCredentialsProvider>,
    metrics: Arc<Metrics>,
    environment: OnceCell<Environment>,
    own: OnceCell<Connection>,
    /// The most clients that watched sources have together.
    most: usize,
    clients: Mutex<HashMap<ClientKey, Weak<Client>>>,
    bytes: Bytes,
}

/// Calls with equal keys come from one identity, go to one place and share one quota.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ClientKey {
    service: Service,
    role: Option<Role>,
    region: String,
    endpoint: Option<Url>,
}

/// The SDK's clients of one identity in one region.
#[derive(Debug)]
struct Sdk {
    connection: Connection,
    /// Made with the first question.
    kinesis: OnceLock<KinesisClient>,
    dynamodb: OnceLock<DynamoDbClient>,
}

/// The way to one service for one identity, region and endpoint, with what its users share.
#[derive(Debug)]
pub(crate) struct Client {
    key: ClientKey,
    /// Whose source was the first to need it; `None`: it is not counted.
    holder: Option<Tenant>,
    aws: Arc<Aws>,
    sdk: tokio::sync::Mutex<Option<Sdk>>,
    /// AWS does not accept the cached credentials, whatever they say of their expiry.
    refused: AtomicBool,
    renewed: Mutex<Instant>,
    pub(crate) share: Arc<Share>,
    pub(crate) probes: Turns,
    in_flight: Semaphore,
    rows: Mutex<HashMap<LeaseTable, Weak<SharedRows>>>,
}

impl Aws {
    /// Nothing is loaded or asked yet. `credentials`: in place of the standard chain.
    pub fn new(
        config: AwsConfig,
        credentials: Option<SharedCredentialsProvider>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Self::bounded(config, credentials, metrics, usize::MAX)
    }

    /// The same, with so many clients for watched sources at the most.
    pub fn bounded(
        config: AwsConfig,
        credentials: Option<SharedCredentialsProvider>,
        metrics: Arc<Metrics>,
        most: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            credentials,
            metrics,
            most,
            environment: OnceCell::new(),
            own: OnceCell::new(),
            clients: Mutex::default(),
            bytes: Bytes::default(),
        })
    }

    /// Reads profile and root certificates before clients can take all file descriptors: what is
    /// not found then is missing until the process ends.
    pub(crate) async fn prepare(&self) {
        self.environment.get_or_init(Environment::load).await;
    }

    /// The Kinesis client for a stream, shared with all of the same identity, region and endpoint.
    pub(crate) fn kinesis(self: &Arc<Self>, stream: &StreamSource) -> Arc<Client> {
        self.client(ClientKey::kinesis(stream), None)
    }

    /// The DynamoDB client for a lease table, shared in the same way.
    pub(crate) fn dynamodb(self: &Arc<Self>, table: &LeaseTable) -> Arc<Client> {
        self.client(ClientKey::dynamodb(table), None)
    }

    fn client(self: &Arc<Self>, key: ClientKey, holder: Option<&Tenant>) -> Arc<Client> {
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
            return client;
        }
        clients.retain(|_, client| client.strong_count() > 0);
        let client = Arc::new(Client {
            key: key.clone(),
            holder: holder.cloned(),
            aws: Arc::clone(self),
            sdk: tokio::sync::Mutex::default(),
            refused: AtomicBool::new(false),
            renewed: Mutex::new(Instant::now()),
            share: Arc::new(Share::new(
                self.config.calls_per_second,
                Arc::clone(&self.metrics),
            )),
            probes: Turns::default(),
            in_flight: Semaphore::new(CALLS_IN_FLIGHT),
            rows: Mutex::default(),
        });
        clients.insert(key, Arc::downgrade(&client));
        client
    }

    /// The scaler's own identity. `region` stands in where neither configuration nor environment
    /// names one.
    async fn own(&self, region: &str) -> &Connection {
        let timeout = self.config.timeout;
        let settings = ConnectionSettings {
            region: Some(self.config.region.as_deref().unwrap_or(region).to_owned()),
            credentials: self.credentials.clone(),
            sources: None,
            instance_metadata_timeout: Some(IMDS_TIMEOUT),
            client: ClientSettings {
                connect_timeout: Some(timeout.mul_f64(0.5)),
                read_timeout: Some(timeout),
                attempt_timeout: Some(timeout),
                operation_timeout: Some(timeout),
                // Each attempt counts against the quota, so callers decide whether to repeat a
                // call.
                attempts: Some(1),
            },
        };
        let opened = async || {
            let environment = self.environment.get_or_init(Environment::load).await;
            Connection::open_in(environment.clone(), settings).await
        };
        self.own.get_or_init(opened).await
    }
}

impl Client {
    /// A stream by way of this client.
    pub(crate) async fn stream(self: &Arc<Self>, stream: &Stream) -> kinesis_edge::Stream {
        let kinesis = self.with(|sdk| sdk.kinesis(&self.key).clone()).await;
        kinesis_edge::Stream::new(kinesis, stream.as_asked()).behind(self.gate())
    }

    /// The memory that answers take together, whoever asked.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.aws.bytes
    }

    /// A lease table by way of this client.
    pub(crate) async fn table(self: &Arc<Self>, table: &LeaseTable) -> Table {
        let dynamodb = self.with(|sdk| sdk.dynamodb(&self.key).clone()).await;
        Table::new(dynamodb, table.as_asked()).behind(self.gate())
    }

    /// AWS's own time, by its last answer to this client.
    pub(crate) async fn aws_time(&self) -> Option<Timestamp> {
        self.with(|sdk| sdk.connection.clock().now()).await
    }

    /// The ARN of the identity that asks.
    pub(crate) async fn identity(self: &Arc<Self>) -> Result<String, SourceError> {
        let connection = self.with(|sdk| sdk.connection.clone()).await;
        let caller = connection.caller(Some(self.gate())).await;
        caller.map_err(|failure| self.error(Resource::Identity, &failure))
    }

    fn gate(self: &Arc<Self>) -> Arc<dyn Gate> {
        Arc::<Self>::clone(self)
    }

    /// What the failure is to the operator.
    pub(crate) fn error(&self, resource: Resource<'_>, failure: &Failure) -> SourceError {
        let ClientKey { role, region, .. } = &self.key;
        failure::source_error(failure, resource, region, role.as_ref())
    }

    /// The SDK's clients, made on first use and after AWS refused their credentials.
    async fn with<T>(&self, take: impl FnOnce(&Sdk) -> T) -> T {
        let mut sdk = self.sdk.lock().await;
        if self.refused.swap(false, Ordering::Relaxed) {
            *sdk = None;
        }
        match &mut *sdk {
            Some(sdk) => take(sdk),
            None => take(sdk.insert(self.make().await)),
        }
    }

    async fn make(&self) -> Sdk {
        let ClientKey { role, region, .. } = &self.key;
        let own = self.aws.own(region).await;
        let connection = match role {
            None => own.in_region(region),
            Some(Role { arn, external_id }) => {
                let external_id = external_id.as_deref();
                let role = own.assume(arn, external_id, SESSION_NAME).await;
                role.in_region(region)
            }
        };
        Sdk {
            connection,
            kinesis: OnceLock::new(),
            dynamodb: OnceLock::new(),
        }
    }

    /// Drops the cached credentials before the next call. Not more than once a refresh.
    fn renew(&self) {
        let mut renewed = lock(&self.renewed);
        if renewed.elapsed() >= self.aws.config.refresh {
            *renewed = Instant::now();
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    /// The rows of a lease table, shared with all sources that look into it.
    pub(crate) fn rows(&self, table: &LeaseTable) -> Arc<SharedRows> {
        let mut rows = lock(&self.rows);
        if let Some(shared) = rows.get(table).and_then(Weak::upgrade) {
            return shared;
        }
        rows.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(SharedRows::default());
        rows.insert(table.clone(), Arc::downgrade(&shared));
        shared
    }

    /// How often a source is fetched.
    pub(crate) fn refresh(&self) -> Duration {
        self.aws.config.refresh
    }

    /// For how long the last good answer may stand in.
    pub(crate) fn max_stale(&self) -> Duration {
        self.aws.config.max_stale
    }
}

impl Sdk {
    fn kinesis(&self, key: &ClientKey) -> &KinesisClient {
        let endpoint = key.endpoint.as_ref().map(Url::as_str);
        let make = || heed_room(&self.connection.kinesis(endpoint));
        self.kinesis.get_or_init(make)
    }

    fn dynamodb(&self, key: &ClientKey) -> &DynamoDbClient {
        let endpoint = key.endpoint.as_ref().map(Url::as_str);
        self.dynamodb
            .get_or_init(|| self.connection.dynamodb(endpoint))
    }
}

/// Every attempt is counted and timed. Its time does not run before its turn has come.
#[async_trait]
impl Gate for Client {
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.in_flight.acquire().await.ok()
    }

    fn ended(&self, operation: &'static str, took: Duration, failure: Option<&Failure>) {
        let outcome = failure.map(|failure| failure::kind(failure.kind));
        // Where a role was refused, STS was asked and Kinesis was not.
        let operation = failure.map_or(operation, |failure| failure.operation);
        self.aws.metrics.aws_call(operation, outcome, took);
        if outcome.is_none() {
            self.share.retries.answered();
        }
        if outcome == Some(SourceErrorKind::Unauthenticated) {
            self.renew();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
