//! The configuration file. Every key has a default; unknown keys, wrong types and bad durations
//! stop the start.

mod duration;
pub mod pattern;

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_yaml::{MessageFormatter as _, UserMessageFormatter};

use self::pattern::EndpointPattern;
use crate::names;

/// All settings. `Config::default()` serves real AWS with the standard credential chain.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where gRPC is served. Default `[::]:6000`: IPv6 and IPv4, or IPv4 alone where there is
    /// no IPv6.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Where metrics and health are served over HTTP. Default `[::]:9090`.
    #[serde(deserialize_with = "address")]
    pub admin: SocketAddr,
    /// How AWS is asked.
    #[serde(deserialize_with = "or_default")]
    pub aws: AwsConfig,
    /// TLS of the gRPC port; `None`: plain text.
    pub tls: Option<TlsConfig>,
    /// Who may ask for what: the first rule whose namespaces match decides. What no rule speaks of,
    /// `policy_default` decides.
    #[serde(deserialize_with = "or_default")]
    pub policy: Vec<Rule>,
    /// What is so where no rule matches, or where the one that does leaves a list out. Default
    /// `allow`: any stream and lease table, but no role and no endpoint.
    #[serde(deserialize_with = "policy_default")]
    pub policy_default: PolicyDefault,
    /// Who may see `/explain` on the admin port. Default `all`.
    #[serde(deserialize_with = "explain")]
    pub explain: Explain,
    /// What clients may hold open, and how much is kept in memory.
    #[serde(deserialize_with = "or_default")]
    pub limits: Limits,
    /// Shows the age of each shard's oldest unread record in `/metrics`, too. Streams may have
    /// thousands of shards. Default false.
    pub per_shard_metrics: bool,
    /// What is logged: error, warn, info, debug or trace, or directives; a flag or the environment
    /// wins. Default info.
    pub log_level: String,
    /// How long calls in flight may take after SIGTERM, up to one hour. Default 20 s.
    #[serde(
        deserialize_with = "duration::within::<0, 3_600_000, _>",
        serialize_with = "duration::serialize"
    )]
    pub grace: Duration,
}

/// How AWS is asked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AwsConfig {
    /// The region for triggers that name none. The `AWS_REGION` environment variable stands in
    /// where the file has none.
    #[serde(deserialize_with = "region")]
    pub region: Option<String>,
    /// Time between two fetches of a watched source: 10 ms to one day. Default 15 s. More than 150
    /// sources for each second of it are fetched less often, so that no more than 150 are in a
    /// second, but as often as half of `maxStale` asks for.
    #[serde(
        deserialize_with = "duration::within::<10, 86_400_000, _>",
        serialize_with = "duration::serialize"
    )]
    pub refresh: Duration,
    /// How long the last good answer may stand in for a failed refresh, up to one day; 0: not at
    /// all. Default 60 s.
    #[serde(
        deserialize_with = "duration::within::<0, 86_400_000, _>",
        serialize_with = "duration::serialize"
    )]
    pub max_stale: Duration,
    /// The longest that one AWS call may take, attempts together: 1 ms to 5 minutes. Default 3 s.
    #[serde(
        deserialize_with = "duration::within::<1, 300_000, _>",
        serialize_with = "duration::serialize"
    )]
    pub timeout: Duration,
    /// DescribeStreamSummary calls a second for each identity, region and endpoint; at least 1.
    /// Default 5.
    #[serde(deserialize_with = "at_least_one")]
    pub calls_per_second: u32,
}

/// PEM files, re-read when they change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Clients must show a certificate that one of these signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Serve only clients whose certificate has such a DNS name or URI among its subject
    /// alternative names; `*` stands for any text. Needed with `client_ca`: an authority signs for
    /// more than one client.
    #[serde(
        default,
        deserialize_with = "some_names",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_allowed_sans: Option<Vec<String>>,
}

/// What is so where no rule speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyDefault {
    /// Any stream and lease table with the scaler's own identity; no role, no endpoint.
    #[default]
    Allow,
    /// Nothing.
    Deny,
}

/// Who may see `/explain`: it names streams, tables, roles and pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Explain {
    /// Whoever reaches the admin port.
    #[default]
    All,
    /// Whoever asks from the scaler's own address, as `kubectl port-forward` does.
    Loopback,
    /// Nobody.
    None,
}

/// What clients may hold open, and how much is kept in memory. What is over a limit makes room by
/// what whoever has the most opened last, or asked for the longest time ago.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of the gRPC port; at least 1. Default 1,000.
    #[serde(deserialize_with = "at_least_one")]
    pub connections: u32,
    /// Push streams, and streams of one connection; at least 1. KEDA has two for each ScaledObject
    /// of type external-push, all on one connection. Default 20,000.
    #[serde(deserialize_with = "at_least_one")]
    pub streams: u32,
    /// Sources (streams, and applications on them) that are watched at a time; at least 1. Default
    /// 5000.
    #[serde(deserialize_with = "at_least_one")]
    pub watchers: usize,
    /// AWS clients: one for each identity, region and endpoint that watched sources have, of
    /// Kinesis and of DynamoDB; at least 1. Default 1000.
    #[serde(deserialize_with = "at_least_one")]
    pub aws_clients: usize,
    /// Answers of all ScaledObjects together that `/explain` remembers; at least 1. Default 50000.
    #[serde(deserialize_with = "at_least_one")]
    pub journal: usize,
}

/// What some namespaces may ask for. In every pattern `*` stands for any text. A list left out
/// (`None`): as with no rule; empty: none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Namespaces that the rule is for.
    #[serde(deserialize_with = "some_namespaces")]
    pub namespaces: Vec<String>,
    /// Streams. Patterns that start with `arn:` are for triggers with `streamArn`, all others for
    /// those with `streamName`, which means a stream in the asking identity's own account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<String>>,
    /// Lease tables, by ARN and by name in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<String>>,
    /// Roles that may be assumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Endpoints that may be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<EndpointPattern>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 6000)),
            admin: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9090)),
            aws: AwsConfig::default(),
            tls: None,
            policy: Vec::new(),
            policy_default: PolicyDefault::Allow,
            explain: Explain::All,
            limits: Limits::default(),
            per_shard_metrics: false,
            log_level: "info".to_owned(),
            grace: Duration::from_secs(20),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            streams: 20_000,
            watchers: 5_000,
            aws_clients: 1_000,
            journal: 50_000,
        }
    }
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self {
            region: None,
            refresh: Duration::from_secs(15),
            max_stale: Duration::from_secs(60),
            timeout: Duration::from_secs(3),
            calls_per_second: 5,
        }
    }
}

impl TlsConfig {
    /// Do the keys make sense together?
    ///
    /// # Errors
    /// One is missing; the error says which.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.client_ca.is_some() || self.client_allowed_sans.is_none(),
            "tls.clientAllowedSans: want tls.clientCa with it: without one no client shows a certificate"
        );
        anyhow::ensure!(
            self.client_ca.is_none() || self.client_allowed_sans.is_some(),
            "tls.clientCa: want tls.clientAllowedSans with it, the names (DNS, URI) of the clients to serve, such as \
             [keda-operator.keda.svc]: else whoever has a certificate of that authority is served; [\"*\"] serves \
             each that has a name"
        );
        Ok(())
    }
}

impl Config {
    /// Reads a YAML file.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong: the error names file, line and column,
    /// and says what would be right.
    pub fn load(path: impl AsRef<Path>) -> anyhow::Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file {}", path.display()))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads YAML; `name` stands for the file in errors. Empty text is the default configuration.
    ///
    /// # Errors
    /// Like [`Config::load`].
    pub fn parse(text: &str, name: &str) -> anyhow::Result<Self> {
        match serde_yaml::from_str::<Option<Self>>(text) {
            Ok(config) => {
                let config = config.unwrap_or_default();
                let tls = config.tls.as_ref().map_or(Ok(()), TlsConfig::check);
                tls.with_context(|| name.to_owned())?;
                Ok(config)
            }
            Err(error) => {
                let place = error
                    .location()
                    .map(|at| format!(":{}:{}", at.line(), at.column()))
                    .unwrap_or_default();
                Err(anyhow!(
                    "{name}{place}: {}",
                    UserMessageFormatter.format_message(error.without_snippet())
                ))
            }
        }
    }

    /// The configuration as YAML, every key with its value.
    ///
    /// # Errors
    /// A path in it is no UTF-8.
    pub fn to_yaml(&self) -> anyhow::Result<String> {
        serde_yaml::to_string(self).context("cannot write the configuration as YAML")
    }
}

/// A key with nothing after it, as when all of its entries are commented out.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    SocketAddr::deserialize(deserializer)
        .map_err(|_| D::Error::custom("want ADDRESS:PORT, such as 0.0.0.0:6000 or \"[::]:6000\""))
}

fn region<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !names::is_region(&text) => Err(D::Error::custom(format!(
            "want a region, such as eu-west-1, not {text:?}"
        ))),
        region => Ok(region),
    }
}

fn at_least_one<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default + PartialOrd,
    D: Deserializer<'de>,
{
    let number = T::deserialize(deserializer).ok();
    let number = number.filter(|number| *number > T::default());
    number.ok_or_else(|| D::Error::custom("want a whole number of at least 1"))
}

fn policy_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PolicyDefault, D::Error> {
    PolicyDefault::deserialize(deserializer).map_err(|_| D::Error::custom("want allow or deny"))
}

fn explain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Explain, D::Error> {
    Explain::deserialize(deserializer).map_err(|_| D::Error::custom("want all, loopback or none"))
}

fn some_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = Option::<Vec<String>>::deserialize(deserializer)?;
    if names.as_ref().is_some_and(Vec::is_empty) {
        return Err(D::Error::custom(
            "want at least one name or pattern, such as keda-operator.keda.svc",
        ));
    }
    Ok(names)
}

fn some_namespaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let namespaces = Vec::deserialize(deserializer)?;
    if namespaces.is_empty() {
        return Err(D::Error::custom(
            "want at least one namespace or pattern; \"*\" is for all",
        ));
    }
    Ok(namespaces)
}
