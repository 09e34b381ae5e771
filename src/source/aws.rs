//! The way to AWS: clients per identity, region and endpoint, timeouts, and the share of AWS's call quota.
//!
//! The scaler's own credentials come from the standard chain and are loaded with the first question, not at start. A client
//! lives as long as somebody holds it: the watchers of one identity share it, and the last of them takes it away.

mod budget;
mod classify;
mod rows;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, default_provider::credentials::DefaultCredentialsChain,
    identity::IdentityCache, imds, provider_config::ProviderConfig, retry::RetryConfig,
    sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_sdk_kinesis::{
    config::{HttpClient, SharedCredentialsProvider, http::HttpResponse},
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};
use url::Url;

pub(crate) use self::{
    budget::Budget,
    classify::{Call, Failed, Resource},
    rows::SharedRows,
};
use crate::{
    config::AwsConfig,
    error::{SourceError, SourceErrorKind},
    metrics::Metrics,
    trigger::{LeaseTable, Role, Source},
};

/// Seen by whoever reads CloudTrail.
const SESSION_NAME: &str = "keda-kinesis-scaler";

/// Calls under way for one identity, region and endpoint; the others queue, first come first served.
const CALLS_IN_FLIGHT: usize = 64;

/// DynamoDB endpoints of one identity that clients are kept for. There is one; a pattern in the policy may allow many.
const MOST_ENDPOINTS: usize = 16;

/// How the credentials endpoint of an instance may keep us waiting, before we know that we have no credentials.
const IMDS_TIMEOUT: Duration = Duration::from_secs(1);

/// All that is needed to make clients, and the clients in use.
#[derive(Debug)]
pub struct Aws {
    config: AwsConfig,
    credentials: Option<SharedCredentialsProvider>,
    metrics: Arc<Metrics>,
    own: OnceCell<SdkConfig>,
    clients: Mutex<HashMap<ClientKey, Weak<Client>>>,
}

/// Calls with equal keys come from one identity, go to one place and share one quota.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ClientKey {
    role: Option<Role>,
    region: String,
    endpoint: Option<Url>,
}

/// The SDK's clients of one identity in one region.
#[derive(Clone, Debug)]
struct Sdk {
    config: SdkConfig,
    kinesis: aws_sdk_kinesis::Client,
    /// By endpoint; `None`: AWS's own.
    dynamodb: HashMap<Option<Url>, aws_sdk_dynamodb::Client>,
}

/// The way to AWS for one identity, region and endpoint, with what its users share.
#[derive(Debug)]
pub(crate) struct Client {
    key: ClientKey,
    aws: Arc<Aws>,
    sdk: tokio::sync::Mutex<Option<Sdk>>,
    renewed: Mutex<Instant>,
    /// The share of the DescribeStreamSummary quota.
    pub(crate) budget: Budget,
    in_flight: Semaphore,
    /// By the lease table's endpoint and name.
    rows: Mutex<HashMap<LeaseTable, Weak<SharedRows>>>,
    list_shards_denied: Mutex<Option<Instant>>,
}

/// After a denial ListShards is not tried for this long.
const DENIAL_HOLDS: Duration = Duration::from_secs(300);

impl Aws {
    /// Nothing is loaded or asked yet. `credentials`: in place of the standard chain.
    pub fn new(
        config: AwsConfig,
        credentials: Option<SharedCredentialsProvider>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            credentials,
            metrics,
            own: OnceCell::new(),
            clients: Mutex::default(),
        })
    }

    /// The client for a source, shared with all sources of the same identity, region and endpoint.
    pub(crate) fn client(self: &Arc<Self>, source: &Source) -> Arc<Client> {
        let key = ClientKey {
            role: source.role.clone(),
            region: source.region.clone(),
            endpoint: source.endpoint.clone(),
        };
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
            return client;
        }
        clients.retain(|_, client| client.strong_count() > 0);
        let client = Arc::new(Client {
            key: key.clone(),
            aws: Arc::clone(self),
            sdk: tokio::sync::Mutex::default(),
            renewed: Mutex::new(Instant::now()),
            budget: Budget::new(self.config.calls_per_second),
            in_flight: Semaphore::new(CALLS_IN_FLIGHT),
            rows: Mutex::default(),
            list_shards_denied: Mutex::default(),
        });
        clients.insert(key, Arc::downgrade(&client));
        client
    }

    /// The scaler's own identity. `region` stands in where neither configuration nor environment names one.
    async fn own(&self, region: &str) -> &SdkConfig {
        let load = || async {
            let region = self.config.region.as_deref().unwrap_or(region);
            let region = Region::new(region.to_owned());
            let http = aws_smithy_http_client::Builder::new()
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .build_https();
            let credentials = match &self.credentials {
                Some(credentials) => credentials.clone(),
                None => standard_chain(&region, http.clone()).await,
            };
            let timeout = self.config.timeout;
            aws_config::defaults(BehaviorVersion::latest())
                .region(region)
                // One for all clients: each would load the root certificates anew.
                .http_client(http)
                .credentials_provider(credentials)
                // Attempts count against the quota, so whoever calls decides on another one.
                .retry_config(RetryConfig::disabled())
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(timeout.mul_f64(0.5))
                        .read_timeout(timeout)
                        .operation_attempt_timeout(timeout)
                        .operation_timeout(timeout)
                        .build(),
                )
                .load()
                .await
        };
        self.own.get_or_init(load).await
    }
}

impl Client {
    /// The SDK's Kinesis client, made on first use.
    pub(crate) async fn kinesis(&self) -> aws_sdk_kinesis::Client {
        let mut sdk = self.sdk.lock().await;
        match &*sdk {
            Some(sdk) => sdk.kinesis.clone(),
            None => sdk.insert(self.make().await).kinesis.clone(),
        }
    }

    /// The SDK's DynamoDB client for that endpoint, made on first use. `None`: AWS's own.
    pub(crate) async fn dynamodb(&self, endpoint: Option<&Url>) -> aws_sdk_dynamodb::Client {
        let mut sdk = self.sdk.lock().await;
        let sdk = match &mut *sdk {
            Some(sdk) => sdk,
            None => sdk.insert(self.make().await),
        };
        if sdk.dynamodb.len() >= MOST_ENDPOINTS {
            sdk.dynamodb.clear();
        }
        let made = sdk.dynamodb.entry(endpoint.cloned()).or_insert_with(|| {
            let mut config = aws_sdk_dynamodb::config::Builder::from(&sdk.config);
            if let Some(endpoint) = endpoint {
                config.set_endpoint_url(Some(endpoint.to_string()));
            }
            aws_sdk_dynamodb::Client::from_conf(config.build())
        });
        made.clone()
    }

    /// The ARN of who asks.
    pub(crate) async fn identity(&self) -> Result<String, SourceError> {
        drop(self.kinesis().await);
        let config = self.sdk.lock().await.as_ref().map(|sdk| sdk.config.clone());
        let config = config.expect("the Kinesis client was made");
        let call = Call {
            operation: "GetCallerIdentity",
            resource: Resource::Identity,
            region: self.region(),
        };
        let answer = aws_sdk_sts::Client::new(&config)
            .get_caller_identity()
            .send();
        let answer = self
            .attempt(call, answer)
            .await
            .map_err(|failed| failed.error)?;
        answer
            .arn
            .ok_or_else(|| call.senseless("the answer has no Arn"))
    }

    async fn make(&self) -> Sdk {
        let ClientKey {
            role,
            region,
            endpoint,
        } = &self.key;
        let own = self.aws.own(region).await;
        let mut config = own
            .to_builder()
            .region(Region::new(region.clone()))
            // Not the one that all clients of `own` share: see `renew`.
            .identity_cache(IdentityCache::lazy().build());
        if let Some(role) = role {
            config.set_credentials_provider(Some(assume(role, region, own).await));
        }
        let config = config.build();
        let mut kinesis = aws_sdk_kinesis::config::Builder::from(&config);
        if let Some(endpoint) = endpoint {
            kinesis.set_endpoint_url(Some(endpoint.to_string()));
        }
        Sdk {
            config,
            kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
            dynamodb: HashMap::new(),
        }
    }

    /// Drops the cached credentials: AWS does not accept them, whatever they say of their expiry. Not more than once a refresh.
    async fn renew(&self) {
        let due = {
            let mut renewed = lock(&self.renewed);
            let due = renewed.elapsed() >= self.aws.config.refresh;
            if due {
                *renewed = Instant::now();
            }
            due
        };
        if due {
            *self.sdk.lock().await = None;
        }
    }

    /// Makes one attempt at a call, counted and timed. Its time does not run before its turn has come.
    pub(crate) async fn attempt<T, E>(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T, Failed>
    where
        T: Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let _turn = self.in_flight.acquire().await;
        let started = Instant::now();
        let answer = answer
            .await
            .map_err(|error| classify::failed(&error, &call, self.key.role.as_ref()));
        let failed = answer.as_ref().err().map(|failed| &failed.error);
        let outcome = failed.map(|error| error.kind);
        // Where a role was refused, STS was asked and Kinesis was not.
        let operation = failed.map_or(call.operation, |error| error.operation);
        let metrics = &self.aws.metrics;
        metrics.aws_call(operation, outcome, started.elapsed());
        if outcome == Some(SourceErrorKind::Unauthenticated) {
            self.renew().await;
        }
        answer
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

    /// How often a source is call.
    pub(crate) fn refresh(&self) -> Duration {
        self.aws.config.refresh
    }

    /// The region call.
    pub(crate) fn region(&self) -> &str {
        &self.key.region
    }

    /// May ListShards be tried, as far as is known?
    pub(crate) fn may_list_shards(&self) -> bool {
        let denied = *lock(&self.list_shards_denied);
        denied.is_none_or(|at| at.elapsed() >= DENIAL_HOLDS)
    }

    /// Remembers a denial for a while.
    pub(crate) fn list_shards_was_denied(&self) {
        *lock(&self.list_shards_denied) = Some(Instant::now());
    }
}

async fn standard_chain(
    region: &Region,
    http: impl HttpClient + 'static,
) -> SharedCredentialsProvider {
    let imds = imds::Client::builder()
        .connect_timeout(IMDS_TIMEOUT)
        .read_timeout(IMDS_TIMEOUT)
        .max_attempts(1)
        .build();
    let chain = DefaultCredentialsChain::builder()
        .configure(ProviderConfig::default().with_http_client(http))
        .region(region.clone())
        .imds_client(imds)
        .build()
        .await;
    SharedCredentialsProvider::new(chain)
}

async fn assume(role: &Role, region: &str, own: &SdkConfig) -> SharedCredentialsProvider {
    let mut provider = AssumeRoleProvider::builder(&role.arn)
        .configure(own)
        .region(Region::new(region.to_owned()))
        .session_name(SESSION_NAME);
    if let Some(external_id) = &role.external_id {
        provider = provider.external_id(external_id);
    }
    SharedCredentialsProvider::new(provider.build().await)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
