//! The standard chain of credentials: environment, profile, IRSA, pod, instance.
//!
//! As the SDK's own, in its order. It is put together here so that empty variables count as unset,
//! so that STS is asked where the settings say (FIPS, dual-stack, region), and so that an error
//! says who gave none, and why.

use std::{error::Error as StdError, fmt, fs, time::Duration};

use aws_config::{
    SdkConfig,
    ecs::EcsCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, Result, error::CredentialsError, future},
};
use tokio::time::{Instant, timeout_at};

use crate::{Environment, Failure, Service, failure::causes, proxies::Unreached};

mod sources;
mod trouble;

pub use sources::CredentialsSource;
pub(crate) use trouble::Trouble;

/// How long the SDK waits for credentials: whoever is at fault is named before.
const PATIENCE: Duration = Duration::from_secs(5);

/// Variables that give credentials together.
const PAIRS: [[&str; 2]; 2] = [
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"],
];

/// Keys of a profile that is meant to give credentials.
const PROFILE_GIVES: [&str; 6] = [
    "role_arn",
    "credential_source",
    "credential_process",
    "sso_session",
    "sso_start_url",
    "login_session",
];

/// A name for sessions of a service account that has none.
const SESSION_NAME: &str = "web-identity-token";

/// The chain, for one region and with one set of time-outs.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) environment: Environment,
    /// Without credentials: for STS.
    pub(crate) config: SdkConfig,
    pub(crate) instance: imds::Client,
    /// One attempt of the caller's: the chain takes less.
    pub(crate) attempt_timeout: Option<Duration>,
    /// These alone, in this order. `None`: all, in the SDK's.
    pub(crate) sources: Option<Vec<CredentialsSource>>,
}

/// A source of credentials that does not answer.
#[derive(Debug)]
pub(crate) struct Silent {
    who: String,
    after: Duration,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, after } = self;
        write!(f, "{who} gave no answer in {:.1} s", after.as_secs_f64())
    }
}

impl StdError for Silent {}

/// Nobody has credentials; what the last one that was asked said of it.
#[derive(Debug, Default)]
pub(crate) struct Nobody {
    /// Of variables that belong together one is missing.
    pub(crate) half: Option<String>,
    pub(crate) instance: Option<String>,
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no credentials found in the environment, a profile, a web identity token (IRSA), a container (EKS Pod \
             Identity) or the instance",
        )?;
        let whys: Vec<_> = [&self.half, &self.instance].into_iter().flatten().collect();
        match whys.as_slice() {
            [] => Ok(()),
            [why] => write!(f, " ({why})"),
            [first, second, ..] => write!(f, " ({first}; {second})"),
        }
    }
}

impl StdError for Nobody {}

/// What a source of credentials lacks.
#[derive(Debug)]
struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Unusable {}

/// The profile that was meant to give credentials, and did not.
#[derive(Debug)]
struct OfProfile {
    name: String,
    /// What signs in, where that is how the profile works.
    sign_in: Option<String>,
    source: CredentialsError,
}

impl fmt::Display for OfProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the profile {} gave none", self.name)?;
        match &self.sign_in {
            Some(command) => write!(f, " (sign in by `{command}`)"),
            None => Ok(()),
        }
    }
}

impl StdError for OfProfile {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// A provider that may not keep its user waiting.
#[derive(Debug)]
pub(crate) struct InTime<P> {
    pub(crate) provider: P,
    pub(crate) who: String,
    /// One attempt of the user's.
    pub(crate) attempt_timeout: Option<Duration>,
}

impl<P: ProvideCredentials> ProvideCredentials for InTime<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        // Longer than the chain behind it, which then says who it was.
        let limit = limit(self.attempt_timeout, 0.9);
        let load = self.provider.provide_credentials();
        let load = in_time(&self.who, Instant::now(), limit, load);
        future::ProvideCredentials::new(async move { load.await.map_err(senseless_role) })
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

impl Chain {
    async fn load(&self) -> Result {
        let started = Instant::now();
        let limit = limit(self.attempt_timeout, 0.8);
        if let Some(sources) = &self.sources {
            return self.load_from(sources, started, limit).await;
        }
        let region = self.config.region().map_or("no region", AsRef::as_ref);
        if let Some(keys) = self.keys() {
            return Ok(keys);
        }
        let name = self.environment.profile_name();
        let who = format!("the profile {name}");
        let profile = in_time(&who, started, limit, self.profile(name)).await;
        if let Some(result) = decided(profile) {
            return result;
        }
        let who = format!("the STS of {region}");
        let role = in_time(&who, started, limit, self.web_identity()).await;
        if let Some(result) = decided(role) {
            return result;
        }
        let who = "the pod's endpoint of credentials";
        let pod = in_time(who, started, limit, self.pod()).await;
        if let Some(result) = decided(pod) {
            return result;
        }
        self.instance(started, limit).await
    }

    fn keys(&self) -> Option<Credentials> {
        let of = |name| self.environment.get(name).map(str::to_owned);
        let mut keys = Credentials::builder()
            .access_key_id(of("AWS_ACCESS_KEY_ID")?)
            .secret_access_key(of("AWS_SECRET_ACCESS_KEY")?)
            .provider_name("Environment");
        keys.set_session_token(of("AWS_SESSION_TOKEN"));
        keys.set_account_id(of("AWS_ACCOUNT_ID").map(Into::into));
        Some(keys.build())
    }

    fn half(&self) -> Option<String> {
        let is_set = |name| self.environment.get(name).is_some();
        PAIRS.iter().find_map(|[one, other]| {
            let (set, unset) = match (is_set(one), is_set(other)) {
                (true, false) => (one, other),
                (false, true) => (other, one),
                _ => return None,
            };
            Some(format!("{set} is set and {unset} is not"))
        })
    }

    fn provider_config(&self) -> ProviderConfig {
        let mut config = ProviderConfig::default()
            .with_region(self.config.region().cloned())
            .with_use_fips(self.config.use_fips())
            .with_use_dual_stack(self.config.use_dual_stack());
        if let Some(http) = self.config.http_client() {
            config = config.with_http_client(http);
        }
        if let Some(timeouts) = self.config.timeout_config() {
            config = config.with_timeout_config(timeouts.clone());
        }
        config
    }

    /// Made anew each time: the SDK's provider tells an error once, and then only that it told it.
    async fn profile(&self, name: &str) -> Result {
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&self.provider_config())
            .profile_files(self.environment.profile_files())
            .profile_name(name);
        let loaded = provider.build().provide_credentials().await;
        loaded.map_err(|error| self.of_profile(name, error))
    }

    fn of_profile(&self, name: &str, source: CredentialsError) -> CredentialsError {
        let keys = PROFILE_GIVES.iter();
        let is_meant = keys
            .filter_map(|key| self.environment.profile_key(key))
            .next();
        if is_meant.is_none() && matches!(source, CredentialsError::CredentialsNotLoaded(_)) {
            return source;
        }
        CredentialsError::provider_error(OfProfile {
            sign_in: self.sign_in(name),
            name: name.to_owned(),
            source,
        })
    }

    /// The command that signs in to the profile, or to the one that it is made from.
    fn sign_in(&self, selected: &str) -> Option<String> {
        let profiles = self.environment.profiles()?;
        let mut name = selected;
        // More than a chain of roles has.
        for _ in 0..10 {
            let profile = profiles.get_profile(name)?;
            let has = |key| profile.get(key).is_some();
            if has("sso_session") || has("sso_start_url") {
                return Some(format!("aws sso login --profile {name}"));
            }
            if has("login_session") {
                return Some(format!("aws login --profile {name}"));
            }
            name = profile.get("source_profile")?;
        }
        None
    }

    async fn web_identity(&self) -> Result {
        let environment = &self.environment;
        let Some(file) = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") else {
            return Err(CredentialsError::not_loaded_no_source());
        };
        let Some(role) = environment.get("AWS_ROLE_ARN") else {
            return Err(CredentialsError::not_loaded_no_source());
        };
        // Read anew each time: Kubernetes renews it.
        let token = fs::read_to_string(file).map_err(|error| {
            CredentialsError::provider_error(Unusable(format!(
                "AWS_WEB_IDENTITY_TOKEN_FILE {file}: {error}"
            )))
        })?;
        let session = environment.get("AWS_ROLE_SESSION_NAME");
        let answer = aws_sdk_sts::Client::new(&self.config)
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(session.unwrap_or(SESSION_NAME))
            .web_identity_token(token.trim())
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let found = answer
            .credentials
            .ok_or_else(|| senseless("AssumeRoleWithWebIdentity"))?;
        let expires = found.expiration.try_into().ok();
        Ok(Credentials::new(
            found.access_key_id,
            found.secret_access_key,
            Some(found.session_token),
            expires,
            "WebIdentityToken",
        ))
    }

    async fn pod(&self) -> Result {
        let is_named = [
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ]
        .iter()
        .any(|name| self.environment.get(name).is_some());
        if !is_named {
            return Err(CredentialsError::not_loaded_no_source());
        }
        let provider = EcsCredentialsProvider::builder().configure(&self.provider_config());
        let loaded = provider.build().provide_credentials().await;
        loaded.map_err(|error| trouble::named("the pod's endpoint of credentials", error))
    }

    async fn instance(&self, started: Instant, limit: Duration) -> Result {
        let provider = ImdsCredentialsProvider::builder()
            .configure(&self.provider_config())
            .imds_client(self.instance.clone())
            .build();
        let who = "the instance's metadata service (IMDS)";
        let load = provider.provide_credentials();
        let error = match in_time(who, started, limit, load).await {
            Err(error @ CredentialsError::CredentialsNotLoaded(_)) => error,
            Err(error) if is_of::<Silent>(&error) => error,
            result => return result.map_err(|error| trouble::named(who, error)),
        };
        let disabled = self.environment.get("AWS_EC2_METADATA_DISABLED");
        if disabled.is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
            let (half, instance) = (self.half(), None);
            return Err(CredentialsError::not_loaded(Nobody { half, instance }));
        }
        let instance = if is_of::<Silent>(&error) || is_of::<Unreached>(&error) {
            let in_a_pod = self.environment.get("KUBERNETES_SERVICE_HOST").is_some();
            let hint = match in_a_pod {
                true => "; a pod reaches it only where its hop limit is at least 2",
                false => "",
            };
            format!("{who} did not answer{hint}")
        } else {
            format!("{who} gave none")
        };
        let (half, instance) = (self.half(), Some(instance));
        Err(CredentialsError::not_loaded(Nobody { half, instance }))
    }
}

/// A part of the user's own attempt.
fn limit(attempt_timeout: Option<Duration>, part: f64) -> Duration {
    let attempt = attempt_timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
    attempt.mul_f64(part)
}

async fn in_time(
    who: &str,
    started: Instant,
    limit: Duration,
    load: impl Future<Output = Result> + Send,
) -> Result {
    let result = timeout_at(started + limit, load).await;
    result.unwrap_or_else(|_| {
        let silent = Silent {
            who: who.to_owned(),
            after: limit,
        };
        Err(CredentialsError::provider_error(silent))
    })
}

/// Is such an error among the causes?
fn is_of<E: StdError + 'static>(error: &CredentialsError) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}

/// STS gave an answer that has no credentials in it.
fn senseless(operation: &'static str) -> CredentialsError {
    let message = "the answer has no Credentials that can be used";
    CredentialsError::unhandled(Failure::senseless(Service::Sts, operation, message))
}

/// What the SDK's provider of roles makes of such an answer has no type.
fn senseless_role(error: CredentialsError) -> CredentialsError {
    match error {
        CredentialsError::Unhandled(_) => senseless("AssumeRole"),
        error => error,
    }
}

/// `None`: the next may have some.
fn decided(result: Result) -> Option<Result> {
    match result {
        Err(CredentialsError::CredentialsNotLoaded(_)) => None,
        result => Some(result),
    }
}

#[cfg(test)]
mod tests;
