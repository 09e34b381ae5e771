//! What clients are made from. Each program names its own values; there are no others.

use std::time::Duration;

use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};

use crate::{CredentialsSource, DynamoDbClient, KinesisClient, SharedCredentialsProvider};

/// How long the calls of one client may take, and how often the SDK tries.
///
/// `None` leaves a time to the SDK, which limits nothing but connecting (3.1 s).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientSettings {
    /// Until a connection stands.
    pub connect_timeout: Option<Duration>,
    /// From the request's end to the answer's first byte.
    pub read_timeout: Option<Duration>,
    /// One attempt, from its start to the answer's last byte.
    pub attempt_timeout: Option<Duration>,
    /// All attempts together, with the pauses between them.
    pub operation_timeout: Option<Duration>,
    /// Attempts in all: 1 is no retry, of throttling neither. `None`: as the environment or the
    /// client says, else the SDK's three.
    pub attempts: Option<u32>,
}

/// Who asks, and how the way to AWS is found.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSettings {
    /// The region. `None`: the environment's, the profile's or the instance's.
    pub region: Option<String>,
    /// In place of the SDK's standard chain of credentials.
    pub credentials: Option<SharedCredentialsProvider>,
    /// These parts of the standard chain alone, in this order. `None`: all of it.
    pub sources: Option<Vec<CredentialsSource>>,
    /// How long an instance's metadata service may take to connect and to answer, asked once.
    /// `None`: the SDK's times and attempts.
    pub instance_metadata_timeout: Option<Duration>,
    /// Of every client that has none of its own; also of STS.
    pub client: ClientSettings,
}

impl ClientSettings {
    pub(crate) fn timeouts(&self) -> TimeoutConfig {
        let mut timeouts = TimeoutConfig::builder();
        timeouts
            .set_connect_timeout(self.connect_timeout)
            .set_read_timeout(self.read_timeout)
            .set_operation_attempt_timeout(self.attempt_timeout)
            .set_operation_timeout(self.operation_timeout);
        timeouts.build()
    }

    pub(crate) fn retries(&self) -> Option<RetryConfig> {
        self.attempts.map(|attempts| match attempts {
            0 | 1 => RetryConfig::disabled(),
            attempts => RetryConfig::standard().with_max_attempts(attempts),
        })
    }

    /// The client with these times where it has none of its own. Attempts set here replace the
    /// client's.
    pub fn complete_kinesis(&self, client: &KinesisClient) -> KinesisClient {
        let timeouts = self.complete(client.config().timeout_config());
        let mut config = client.config().to_builder().timeout_config(timeouts);
        if let Some(retries) = self.retries() {
            config = config.retry_config(retries);
        }
        KinesisClient::from_conf(config.build())
    }

    /// As [`complete_kinesis`](Self::complete_kinesis).
    pub fn complete_dynamodb(&self, client: &DynamoDbClient) -> DynamoDbClient {
        let timeouts = self.complete(client.config().timeout_config());
        let mut config = client.config().to_builder().timeout_config(timeouts);
        if let Some(retries) = self.retries() {
            config = config.retry_config(retries);
        }
        DynamoDbClient::from_conf(config.build())
    }

    /// The client with these times and attempts whatever it has of its own; a time that is `None`
    /// is no limit.
    pub fn replace_dynamodb(&self, client: &DynamoDbClient) -> DynamoDbClient {
        let mut config = client.config().to_builder().timeout_config(self.timeouts());
        if let Some(retries) = self.retries() {
            config = config.retry_config(retries);
        }
        DynamoDbClient::from_conf(config.build())
    }

    fn complete(&self, set: Option<&TimeoutConfig>) -> TimeoutConfig {
        let set = set.map(TimeoutConfig::to_builder).unwrap_or_default();
        set.take_unset_from(self.timeouts().to_builder()).build()
    }
}
