//! A part of the chain, by name.

use std::time::Duration;

use aws_credential_types::provider::{Result, error::CredentialsError};
use tokio::time::Instant;

use super::{Chain, Nobody, decided, in_time};

/// One source of credentials of the standard chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CredentialsSource {
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    Environment,
    /// A profile. `None`: the one that the environment selects.
    Profile(Option<String>),
    /// A service account's token (IRSA).
    WebIdentity,
    /// The endpoint of a pod or an ECS task.
    Container,
    /// The instance's metadata service.
    Instance,
}

impl CredentialsSource {
    /// All of them, in the order of the SDK's own chain.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Environment,
            Self::Profile(None),
            Self::WebIdentity,
            Self::Container,
            Self::Instance,
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Environment => "the environment",
            Self::Profile(_) => "the profile",
            Self::WebIdentity => "the web identity token",
            Self::Container => "the container's endpoint of credentials",
            Self::Instance => "the instance",
        }
    }
}

impl Chain {
    /// Credentials of the first of these that has some.
    pub(super) async fn load_from(
        &self,
        sources: &[CredentialsSource],
        started: Instant,
        limit: Duration,
    ) -> Result {
        for source in sources {
            let who = source.name();
            let loaded = match source {
                CredentialsSource::Environment => match self.keys() {
                    Some(keys) => Ok(keys),
                    None => Err(CredentialsError::not_loaded_no_source()),
                },
                CredentialsSource::Profile(name) => {
                    let selected = self.environment.profile_name();
                    let name = name.as_deref().unwrap_or(selected);
                    in_time(who, started, limit, self.profile(name)).await
                }
                CredentialsSource::WebIdentity => {
                    in_time(who, started, limit, self.web_identity()).await
                }
                CredentialsSource::Container => in_time(who, started, limit, self.pod()).await,
                CredentialsSource::Instance => self.instance(started, limit).await,
            };
            if let Some(result) = decided(loaded) {
                return result;
            }
        }
        let names: Vec<_> = sources.iter().map(CredentialsSource::name).collect();
        let (half, instance) = (
            self.half(),
            Some(format!("only these were asked: {}", names.join(", "))),
        );
        Err(CredentialsError::not_loaded(Nobody { half, instance }))
    }
}
