//! Clients of one identity in one region.

use std::{sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, identity::IdentityCache, imds,
    imds::region::ImdsRegionProvider, provider_config::ProviderConfig, retry::RetryConfig,
    sts::AssumeRoleProvider,
};
use aws_runtime::env_config::EnvConfigValue;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::{
    AwsClock, ConnectionSettings, DynamoDbClient, Environment, Failure, Gate, KinesisClient,
    Service, SharedCredentialsProvider,
    call::Calls,
    credentials::{Chain, InTime},
    names::Names,
    proxies::{bounded_http_client, guarded_http_client, http_client},
};

/// An identity in a region: what its clients have in common. Clones are the same identity, and
/// share its credentials.
#[derive(Clone, Debug)]
pub struct Connection {
    config: SdkConfig,
    /// The region whose STS is asked: the process' own, which is near and which its network
    /// reaches, whatever the stream's is.
    home: Option<Region>,
    clock: AwsClock,
    /// For endpoints that are given to a client.
    guarded: SharedHttpClient,
    environment: Environment,
    names: Names,
}

impl Connection {
    /// Reads environment and profile. AWS is asked for a region if none is named, for nothing else
    /// yet: credentials are loaded with the first call. Variables that are wrong count as unset:
    /// programs look at [`Environment::check`] before.
    pub async fn open(settings: ConnectionSettings) -> Self {
        Self::open_in(Environment::load().await, settings).await
    }

    /// As [`open`](Self::open), in an environment that was loaded before: no file is read until
    /// credentials are.
    pub async fn open_in(environment: Environment, settings: ConnectionSettings) -> Self {
        // One for all clients: each would load the root certificates anew.
        let names = Names::new();
        let http = http_client(&environment, &names);
        let guarded = guarded_http_client(&environment, &names);
        let instance = instance(&environment, &http, settings.instance_metadata_timeout);
        let region = match settings.region.or_else(|| named_region(&environment)) {
            Some(region) => Some(Region::new(region)),
            None => {
                let provider = ImdsRegionProvider::builder().imds_client(instance.clone());
                provider.build().region().await
            }
        };
        let fips = environment.flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
        let dual_stack = environment.flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
        let ignored = environment.flag(
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
            "ignore_configured_endpoint_urls",
        );
        let retries = settings.client.retries();
        let retries = retries.unwrap_or_else(|| configured_retries(&environment));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .profile_files(environment.files())
            .timeout_config(settings.client.timeouts())
            .retry_config(retries)
            .region(region.clone())
            .use_fips(fips.unwrap_or_default())
            .use_dual_stack(dual_stack.unwrap_or_default())
            .no_credentials();
        if environment.is_blank("AWS_PROFILE") {
            loader = loader.profile_name("default");
        }
        let endpoint = environment.setting("AWS_ENDPOINT_URL", "endpoint_url");
        let endpoint = endpoint.filter(|_| ignored != Some(true));
        let mut config = loader.load().await.into_builder();
        config.set_endpoint_url(endpoint.map(str::to_owned));
        let config = config
            .service_config(Endpoints {
                environment: environment.clone(),
                ignored: ignored == Some(true),
            })
            .build();
        let chain = || {
            SharedCredentialsProvider::new(Chain {
                environment: environment.clone(),
                config: config.clone(),
                instance,
                attempt_timeout: settings.client.attempt_timeout,
                sources: settings.sources,
            })
        };
        let credentials = settings.credentials.unwrap_or_else(chain);
        let config = config
            .into_builder()
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::lazy().build())
            .build();
        Self {
            config,
            home: region,
            clock: AwsClock::default(),
            guarded,
            environment,
            names,
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
        Self {
            config,
            clock: AwsClock::default(),
            ..self.clone()
        }
    }

    /// The role `arn`, which this identity assumes by the STS of the process' own region when it is
    /// first needed.
    /// `session` is seen by whoever reads CloudTrail.
    pub async fn assume(&self, arn: &str, external_id: Option<&str>, session: &str) -> Self {
        let sts = self.at_home();
        let region = sts.region().map_or("no region", AsRef::as_ref);
        let who = format!("the STS of {region}");
        let mut provider = AssumeRoleProvider::builder(arn)
            .configure(&sts)
            .session_name(session);
        if let Some(external_id) = external_id {
            provider = provider.external_id(external_id);
        }
        let provider = SharedCredentialsProvider::new(InTime {
            provider: provider.build().await,
            who,
            attempt_timeout: self
                .config
                .timeout_config()
                .and_then(|timeouts| timeouts.operation_attempt_timeout()),
        });
        let config = self.config.to_builder().credentials_provider(provider);
        Self {
            config: config.build(),
            ..self.clone()
        }
    }

    /// The same identity, whose clients have so many connections of their own to a host at the
    /// most, whether they are idle, in use or being opened; subscriptions are not counted.
    ///
    /// A call that finds none free waits, and its time-outs go on: whoever makes more calls than
    /// that holds them back before.
    #[must_use]
    pub fn bounded(&self, connections: usize) -> Self {
        let bounded = |guarded, unbounded| {
            let Self {
                environment, names, ..
            } = self;
            bounded_http_client(environment, names, connections, guarded, unbounded)
        };
        let mut config = self.config.to_builder();
        if let Some(http) = self.config.http_client() {
            config = config.http_client(bounded(false, http));
        }
        Self {
            config: config.build(),
            guarded: bounded(true, self.guarded.clone()),
            ..self.clone()
        }
    }

    /// A Kinesis client, at AWS's own endpoint (or the environment's) or at that one, which may be
    /// anywhere but at [guarded](crate::is_guarded) addresses.
    pub fn kinesis(&self, endpoint: Option<&str>) -> KinesisClient {
        let config = aws_sdk_kinesis::config::Builder::from(&self.config);
        let mut config = config.interceptor(self.clock.clone());
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.to_owned()));
            config.set_http_client(Some(self.guarded.clone()));
        }
        KinesisClient::from_conf(config.build())
    }

    /// A DynamoDB client, in the same way.
    pub fn dynamodb(&self, endpoint: Option<&str>) -> DynamoDbClient {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        let mut config = config.interceptor(self.clock.clone());
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.to_owned()));
            config.set_http_client(Some(self.guarded.clone()));
        }
        DynamoDbClient::from_conf(config.build())
    }

    fn at_home(&self) -> SdkConfig {
        self.config.to_builder().region(self.home.clone()).build()
    }

    /// The ARN of the identity, by GetCallerIdentity.
    ///
    /// # Errors
    /// STS gave no answer, or one without an ARN.
    pub async fn caller(&self, gate: Option<Arc<dyn Gate>>) -> Result<String, Failure> {
        const OPERATION: &str = "GetCallerIdentity";
        let service = Service::Sts;
        let calls = Calls { service, gate };
        let request = aws_sdk_sts::Client::new(&self.at_home()).get_caller_identity();
        let answer = calls.call(OPERATION, request.send()).await?;
        let no_arn = || calls.senseless(OPERATION, "the answer has no Arn");
        answer.arn.ok_or_else(no_arn)
    }
}

/// Endpoints by service, of the environment and the profile: as the SDK has them, without those
/// that are empty or wrong.
#[derive(Debug)]
struct Endpoints {
    environment: Environment,
    ignored: bool,
}

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        if self.ignored && key.env() == "AWS_ENDPOINT_URL" {
            return None;
        }
        let env = self.environment.env();
        let (value, _) = EnvConfigValue::new()
            .env(key.env())
            .profile(key.profile())
            .service_id(key.service_id())
            .load(&env, self.environment.profiles())?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

fn named_region(environment: &Environment) -> Option<String> {
    let region = environment.region();
    let region = region.or_else(|| environment.profile_key("region"));
    region.map(str::to_owned)
}

/// As environment and profile say, else the SDK's three attempts.
fn configured_retries(environment: &Environment) -> RetryConfig {
    let mode = environment.setting("AWS_RETRY_MODE", "retry_mode");
    let retries = match mode.is_some_and(|mode| mode.eq_ignore_ascii_case("adaptive")) {
        true => RetryConfig::adaptive(),
        false => RetryConfig::standard(),
    };
    let attempts = environment.setting("AWS_MAX_ATTEMPTS", "max_attempts");
    match attempts.and_then(|attempts| attempts.parse().ok()) {
        Some(attempts) => retries.with_max_attempts(attempts),
        None => retries,
    }
}

/// `timeout`: asked once, and for so long.
fn instance(
    environment: &Environment,
    http: &SharedHttpClient,
    timeout: Option<Duration>,
) -> imds::Client {
    let mode = environment.setting(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        "ec2_metadata_service_endpoint_mode",
    );
    let usual = match mode.is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6")) {
        true => "http://[fd00:ec2::254]",
        false => "http://169.254.169.254",
    };
    let endpoint = environment.instance_endpoint();
    let config = ProviderConfig::default().with_http_client(http.clone());
    let client = || imds::Client::builder().configure(&config);
    let client = client()
        .endpoint(endpoint.unwrap_or(usual))
        .unwrap_or_else(|_| client());
    match timeout {
        None => client.build(),
        Some(timeout) => client
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .max_attempts(1)
            .build(),
    }
}
