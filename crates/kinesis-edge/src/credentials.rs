//! The standard chain of credentials: environment, profile, IRSA, pod, instance.
//!
//! As the SDK's own, in its order. It is put together here so that empty variables count as unset, so that STS is asked
//! where the settings say (FIPS, dual-stack, region), and so that an error says who gave none, and why.

use std::{error::Error as StdError, fmt, fs, time::Duration};

use aws_config::{
    SdkConfig,
    ecs::EcsCredentialsProvider,
    environment::credentials::EnvironmentVariableCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, Result, error::CredentialsError, future},
};

use crate::{Environment, proxies::Unreached};

/// No source of credentials may take longer, so that the one at fault is named before the SDK gives
/// up (after 5 s).
const LONGEST: Duration = Duration::from_millis(4500);

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
    pub(crate) instance: Option<String>,
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no credentials found in the environment, a profile, a web identity token (IRSA), a container (EKS Pod \
             Identity) or the instance",
        )?;
        match &self.instance {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

impl StdError for Nobody {}

/// A profile that this program cannot use.
#[derive(Debug)]
struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Unusable {}

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
        let found = EnvironmentVariableCredentialsProvider::new()
            .provide_credentials()
            .await;
        if let Some(result) = decided(found) {
            return result;
        }
        let who = format!("the profile {}", self.environment.profile_name());
        if let Some(result) = decided(self.in_time(&who, self.profile()).await) {
            return result;
        }
        let region = self.config.region().map_or("no region", AsRef::as_ref);
        let who = format!("the STS of {region}");
        if let Some(result) = decided(self.in_time(&who, self.web_identity()).await) {
            return result;
        }
        let who = "the pod's endpoint of credentials";
        if let Some(result) = decided(self.in_time(who, self.pod()).await) {
            return result;
        }
        self.instance().await
    }

    fn limit(&self) -> Duration {
        let attempt = self.attempt_timeout.map(|timeout| timeout.mul_f64(0.8));
        attempt.map_or(LONGEST, |limit| limit.min(LONGEST))
    }

    async fn in_time(&self, who: &str, load: impl Future<Output = Result> + Send) -> Result {
        let after = self.limit();
        let result = tokio::time::timeout(after, load).await;
        result.unwrap_or_else(|_| {
            let who = who.to_owned();
            Err(CredentialsError::provider_error(Silent { who, after }))
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
    async fn profile(&self) -> Result {
        self.check_profile()?;
        let mut provider = ProfileFileCredentialsProvider::builder()
            .configure(&self.provider_config())
            .profile_files(self.environment.profile_files());
        if self.environment.is_blank("AWS_PROFILE") {
            provider = provider.profile_name("default");
        }
        provider.build().provide_credentials().await
    }

    /// Does the profile, or one that it is made from, need what is left out of this program?
    fn check_profile(&self) -> std::result::Result<(), CredentialsError> {
        let selected = self.environment.profile_name();
        let mut name = selected.to_owned();
        let mut seen = Vec::new();
        while let Some(profiles) = self.environment.profiles()
            && let Some(profile) = profiles.get_profile(&name)
            && !seen.contains(&name)
        {
            let of = |keys: &[&str]| keys.iter().any(|key| profile.get(key).is_some());
            let kind = if of(&["aws_access_key_id"]) {
                None
            } else if of(&["sso_session", "sso_start_url"]) {
                Some("SSO (`aws sso login`)")
            } else if of(&["login_session"]) {
                Some("`aws login`")
            } else {
                None
            };
            if let Some(kind) = kind {
                let text = format!(
                    "the profile {name} is one of {kind}, which this program does not speak: run eval \"$(aws configure \
                     export-credentials --profile {selected} --format env)\""
                );
                return Err(CredentialsError::invalid_configuration(Unusable(text)));
            }
            let source = profile.get("source_profile").map(str::to_owned);
            seen.push(name);
            match source {
                Some(source) => name = source,
                None => break,
            }
        }
        Ok(())
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
        let without = || {
            let text = "AssumeRoleWithWebIdentity: the answer has no Credentials".to_owned();
            CredentialsError::unhandled(Unusable(text))
        };
        let found = answer.credentials.ok_or_else(without)?;
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
        provider.build().provide_credentials().await
    }

    async fn instance(&self) -> Result {
        let provider = ImdsCredentialsProvider::builder()
            .configure(&self.provider_config())
            .imds_client(self.instance.clone())
            .build();
        let who = "the instance's metadata service (IMDS)";
        let error = match self.in_time(who, provider.provide_credentials()).await {
            Err(error @ CredentialsError::CredentialsNotLoaded(_)) => error,
            Err(error) if is_of::<Silent>(&error) => error,
            result => return result,
        };
        let disabled = self.environment.get("AWS_EC2_METADATA_DISABLED");
        if disabled.is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
            return Err(CredentialsError::not_loaded(Nobody { instance: None }));
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
        let instance = Some(instance);
        Err(CredentialsError::not_loaded(Nobody { instance }))
    }
}

/// Is such an error among the causes?
fn is_of<E: StdError + 'static>(error: &CredentialsError) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// `None`: the next may have some.
fn decided(result: Result) -> Option<Result> {
    match result {
        Err(CredentialsError::CredentialsNotLoaded(_)) => None,
        result => Some(result),
    }
}
