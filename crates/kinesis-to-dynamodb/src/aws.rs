//! AWS: clients, and what its errors mean to this program.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::{Error, Settings};

/// The clients of one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    /// The stream's.
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    /// The lease table's, and for the checks at the start.
    pub(crate) leases: aws_sdk_dynamodb::Client,
    /// For items. The SDK does not retry: the writer waits throttling out itself, and counts it.
    pub(crate) items: aws_sdk_dynamodb::Client,
    /// Where they ask.
    pub(crate) region: String,
}

/// How a call failed, by what is to be done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Slower.
    Throttled,
    /// 5xx, a timeout, a broken connection: ask again.
    Unavailable,
    /// A condition did not hold.
    Condition,
    /// The request makes no sense to AWS.
    Invalid,
    /// No such stream or table.
    NotFound,
    /// The identity may not do that.
    Denied,
    /// No identity, or none that AWS knows.
    Credentials,
    /// Anything else.
    Other,
}

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation}: {text}")]
pub struct Failure {
    pub(crate) kind: Kind,
    pub(crate) operation: &'static str,
    /// AWS's code and message; never a request's content.
    pub(crate) text: String,
}

impl Clients {
    pub(crate) async fn new(settings: &Settings) -> Result<Self, Error> {
        // The SDK has no time limits of its own but for connecting, and would wait for a silent peer for ever.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            // As long as a page of 10 MiB may take on a slow line.
            .operation_attempt_timeout(Duration::from_secs(30))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
        if let Some(region) = settings.aws_region() {
            loader = loader.region(Region::new(region.to_owned()));
        }
        let config = loader.load().await;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(Error::Setting {
                name: "AWS_REGION",
                value: String::new(),
                want: "a region, such as eu-west-1",
            });
        };
        if let Some(other) = region_of_arn(&settings.stream_name).filter(|other| *other != region) {
            tracing::debug!(other, "the stream's ARN is of another region");
            return Err(Error::Setting {
                name: "AWS_REGION",
                value: region,
                want: "the region of the ARN in STREAM_NAME",
            });
        }
        let items = aws_sdk_dynamodb::config::Builder::from(&config)
            .retry_config(RetryConfig::disabled())
            .build();
        Ok(Self {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            leases: aws_sdk_dynamodb::Client::new(&config),
            items: aws_sdk_dynamodb::Client::from_conf(items),
            region,
        })
    }
}

fn region_of_arn(stream: &str) -> Option<&str> {
    stream.strip_prefix("arn:")?.split(':').nth(2)
}

impl Failure {
    pub(crate) fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (kind, text) = match (error, error.as_service_error()) {
            (_, Some(service)) => {
                let code = service.code().unwrap_or("no code");
                let status = error
                    .raw_response()
                    .map_or(0, |response| response.status().as_u16());
                (
                    kind(code, status),
                    format!("{code}: {}", service.message().unwrap_or("no message")),
                )
            }
            (SdkError::TimeoutError(_), _) => (Kind::Unavailable, "no answer in time".to_owned()),
            _ => {
                let text = chain(error);
                let kind = if text.contains("credentials") {
                    Kind::Credentials
                } else {
                    Kind::Unavailable
                };
                (kind, text)
            }
        };
        Self {
            kind,
            operation,
            text,
        }
    }

    /// Does waiting help?
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Unavailable)
    }
}

/// An error and all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes = causes.map(|error| error.to_string().replace('\n', ";"));
    causes.collect::<Vec<_>>().join(": ")
}

fn kind(code: &str, status: u16) -> Kind {
    match code {
        "ConditionalCheckFailedException" => Kind::Condition,
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        // Two writers of one item at a time: in a transaction, or in two regions of a global table.
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException" => Kind::Throttled,
        "ValidationException" => Kind::Invalid,
        "ResourceNotFoundException" => Kind::NotFound,
        "AccessDeniedException" | "AccessDenied" => Kind::Denied,
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId" => Kind::Credentials,
        _ if status >= 500 => Kind::Unavailable,
        _ => Kind::Other,
    }
}
