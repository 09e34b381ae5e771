//! Clients of one identity in one region.

use std::{sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, default_provider::credentials::DefaultCredentialsChain,
    identity::IdentityCache, imds, provider_config::ProviderConfig, sts::AssumeRoleProvider,
};
use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::{
    AwsClock, ConnectionSettings, DynamoDbClient, Failure, Gate, KinesisClient, Service,
    SharedCredentialsProvider, call::Calls,
};

/// An identity in a region: what its clients have in common. Clones are the same identity, and
/// share its credentials.
#[derive(Clone, Debug)]
pub struct Connection {
    config: SdkConfig,
    clock: AwsClock,
}

impl Connection {
    /// Reads environment and profile. AWS is asked for a region if none is named, for nothing else
    /// yet: credentials are loaded with the first call.
    pub async fn open(settings: ConnectionSettings) -> Self {
        // One for all clients: each would load the root certificates anew.
        let http = http_client(settings.proxies);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .timeout_config(settings.client.timeouts());
        if let Some(retries) = settings.client.retries() {
            loader = loader.retry_config(retries);
        }
        let region = settings.region.map(Region::new);
        if let Some(region) = &region {
            loader = loader.region(region.clone());
        }
        let credentials = match (settings.credentials, settings.instance_metadata_timeout) {
            (None, Some(timeout)) => Some(standard_chain(region, http, timeout).await),
            (credentials, _) => credentials,
        };
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        Self {
            config: loader.load().await,
            clock: AwsClock::default(),
        }
    }

    /// The region, if one was named anywhere.
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(AsRef::as_ref)
    }

    /// AWS's own time, as the clients of this connection heard it.
    pub fn clock(&self) -> &AwsClock {
        &self.clock
    }

    /// The same identity in another region, with credentials cached apart, so that dropping it and
    /// asking for it again loads them anew.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        let config = self
            .config
            .to_builder()
            .region(Region::new(region.to_owned()))
            .identity_cache(IdentityCache::lazy().build())
            .build();
        let clock = AwsClock::default();
        Self { config, clock }
    }

    /// The role `arn`, which this identity assumes by its own region's STS when it is first needed.
    /// `session` is seen by whoever reads CloudTrail.
    pub async fn assume(&self, arn: &str, external_id: Option<&str>, session: &str) -> Self {
        let mut provider = AssumeRoleProvider::builder(arn)
            .configure(&self.config)
            .session_name(session);
        if let Some(external_id) = external_id {
            provider = provider.external_id(external_id);
        }
        let provider = SharedCredentialsProvider::new(provider.build().await);
        let config = self
            .config
            .to_builder()
            .credentials_provider(provider)
            .build();
        let clock = self.clock.clone();
        Self { config, clock }
    }

    /// A Kinesis client, at AWS's own endpoint (or the environment's) or at that one.
    pub fn kinesis(&self, endpoint: Option<&str>) -> KinesisClient {
        let config = aws_sdk_kinesis::config::Builder::from(&self.config);
        let mut config = config.interceptor(self.clock.clone());
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.to_owned()));
        }
        KinesisClient::from_conf(config.build())
    }

    /// A DynamoDB client, at AWS's own endpoint (or the environment's) or at that one.
    pub fn dynamodb(&self, endpoint: Option<&str>) -> DynamoDbClient {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        let mut config = config.interceptor(self.clock.clone());
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.to_owned()));
        }
        DynamoDbClient::from_conf(config.build())
    }

    /// The ARN of the identity, by GetCallerIdentity.
    ///
    /// # Errors
    /// STS gave no answer, or one without an ARN.
    pub async fn caller(&self, gate: Option<Arc<dyn Gate>>) -> Result<String, Failure> {
        const OPERATION: &str = "GetCallerIdentity";
        let service = Service::Sts;
        let calls = Calls { service, gate };
        let request = aws_sdk_sts::Client::new(&self.config).get_caller_identity();
        let answer = calls.call(OPERATION, request.send()).await?;
        let no_arn = || calls.senseless(OPERATION, "the answer has no Arn");
        answer.arn.ok_or_else(no_arn)
    }
}

/// As the SDK's own, but one.
fn http_client(proxies: bool) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector =
            ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(if proxies {
            ProxyConfig::from_env()
        } else {
            ProxyConfig::disabled()
        }));
        connector.build()
    })
}

async fn standard_chain(
    region: Option<Region>,
    http: SharedHttpClient,
    timeout: Duration,
) -> SharedCredentialsProvider {
    let instance = imds::Client::builder()
        .connect_timeout(timeout)
        .read_timeout(timeout)
        .max_attempts(1)
        .build();
    let mut chain = DefaultCredentialsChain::builder()
        .configure(ProviderConfig::default().with_http_client(http))
        .imds_client(instance);
    chain.set_region(region);
    SharedCredentialsProvider::new(chain.build().await)
}
