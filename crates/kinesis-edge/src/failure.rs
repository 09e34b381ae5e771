//! A failed call, as one value.
//!
//! A call may have failed before it was sent: the SDK then hides the credentials' error, and STS's own, down the chain
//! of causes.

use std::{error::Error as StdError, fmt, sync::Arc};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::{
    assume_role::AssumeRoleError, assume_role_with_web_identity::AssumeRoleWithWebIdentityError,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::{ErrorMetadata, ProvideErrorMetadata};

use crate::{codes, denial::Denial};

/// AWS's texts name principals, actions and whole ARNs; what is longer is none of AWS's.
const LONGEST_MESSAGE: usize = 2048;

/// Who failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Service {
    /// Kinesis Data Streams.
    Kinesis,
    /// DynamoDB.
    DynamoDb,
    /// The Security Token Service, asked for itself or for credentials.
    Sts,
    /// A source of credentials other than STS; the call was not sent.
    Credentials,
}

/// How a call failed, by what is to be done about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// No such stream, shard or table.
    NotFound,
    /// The stream or table is there, but is being made, changed or deleted. Of CreateTable: there is
    /// one of that name.
    InUse,
    /// The identity may not do this; [`Failure::denial`] says what stands in its way.
    Denied,
    /// There are no credentials to be found.
    NoCredentials,
    /// AWS does not know the credentials, or they could not be loaded.
    Unauthenticated,
    /// AWS knew the credentials, and their time is over. The chain may bring new ones.
    ExpiredCredentials,
    /// Slower. Nothing was done.
    Throttled,
    /// No answer in time. A write may have been done or not.
    Timeout,
    /// 5xx, a broken connection, an answer that cannot be read. A write may have been done or not.
    Unavailable,
    /// An answer of status 200 that lacks what every such answer has: is it AWS's?
    Senseless,
    /// The shard iterator cannot be used any more: get a new one after the last record read.
    ExpiredIterator,
    /// The list of shards took longer than its token lives.
    ExpiredToken,
    /// The sequence number is none of this shard's, or older than the retention period.
    InvalidPosition,
    /// AWS finds no sense in the request.
    Invalid,
    /// The SDK would not send the request.
    NotSent,
    /// The condition of a write did not hold.
    Condition,
    /// Anything else.
    Unknown,
}

/// A failed call. Its `Display` is one line: operation, code, message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Who failed.
    pub service: Service,
    /// The API operation, such as `ListShards`. Where STS refused credentials for it, STS's.
    pub operation: &'static str,
    /// How.
    pub kind: Kind,
    /// AWS's error code, or one of this crate's in the same style: `Timeout`, `ConnectionFailed`,
    /// `UnreadableAnswer`, `Http503` (a status without a code), `NotSent`, `NoCredentials`,
    /// `CredentialsTimeout`, `CredentialsFailed`.
    pub code: String,
    /// AWS's message, or the innermost cause: one line of at most 2 KiB, without a full stop.
    pub message: String,
    /// Of [`Kind::Denied`]: what stands in the way, as far as AWS says it.
    pub denial: Option<Box<Denial>>,
    /// The id by which AWS's support finds the call, if AWS answered.
    pub request_id: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.operation, self.code, self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source: &(dyn StdError + 'static) = self.source.as_deref()?;
        Some(source)
    }
}

impl Failure {
    /// May the same call succeed in a moment, with nothing changed by anybody?
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            Kind::Throttled | Kind::Timeout | Kind::Unavailable
        )
    }

    /// Is it the identity's own, so that the call that was wanted never reached AWS?
    pub fn is_of_credentials(&self) -> bool {
        match self.service {
            Service::Credentials => true,
            Service::Sts => self.operation.starts_with("AssumeRole"),
            Service::Kinesis | Service::DynamoDb => false,
        }
    }

    /// An answer of status 200 without what every such answer has.
    pub fn senseless(service: Service, operation: &'static str, message: &str) -> Self {
        Self::new(
            service,
            operation,
            Kind::Senseless,
            "UnreadableAnswer",
            message,
        )
    }

    /// An answer that says that only a part was done, for want of capacity.
    pub(crate) fn throttled(operation: &'static str, code: &str, message: &str) -> Self {
        Self::new(Service::DynamoDb, operation, Kind::Throttled, code, message)
    }

    /// The service's own error, typed.
    pub(crate) fn service_error<E: StdError + Send + Sync + 'static>(&self) -> Option<&E> {
        let source: &(dyn StdError + 'static) = self.source.as_deref()?;
        source
            .downcast_ref::<SdkError<E, HttpResponse>>()?
            .as_service_error()
    }

    fn new(
        service: Service,
        operation: &'static str,
        kind: Kind,
        code: &str,
        message: &str,
    ) -> Self {
        Self {
            service,
            operation,
            kind,
            code: one_line(code),
            message: one_line(message),
            denial: (kind == Kind::Denied).then(|| Box::new(Denial::parse(code, message))),
            request_id: None,
            source: None,
        }
    }

    pub(crate) fn from_sdk<E>(
        service: Service,
        operation: &'static str,
        error: SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let failure = of_credentials(operation, &error)
            .unwrap_or_else(|| of_the_call(service, operation, &error));
        Self {
            request_id: error.raw_response().and_then(request_id),
            source: Some(Arc::new(error)),
            ..failure
        }
    }
}

fn request_id(response: &HttpResponse) -> Option<String> {
    response.headers().get("x-amzn-requestid").map(one_line)
}

/// The error of a call that was sent.
fn of_the_call<E>(
    service: Service,
    operation: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let failure =
        |kind, code: &str, message: &str| Failure::new(service, operation, kind, code, message);
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    match error {
        SdkError::ServiceError(context) => {
            let error = context.err().meta();
            answered(service, operation, error, status)
        }
        SdkError::TimeoutError(_) => failure(Kind::Timeout, "Timeout", "no answer in time"),
        SdkError::DispatchFailure(context) if context.is_timeout() => {
            failure(Kind::Timeout, "Timeout", "no connection in time")
        }
        SdkError::DispatchFailure(_) => {
            failure(Kind::Unavailable, "ConnectionFailed", &innermost(error))
        }
        SdkError::ResponseError(_) if status == 200 => {
            failure(Kind::Unavailable, "UnreadableAnswer", &innermost(error))
        }
        SdkError::ResponseError(_) => {
            let kind = match status {
                429 => Kind::Throttled,
                _ => Kind::Unavailable,
            };
            failure(kind, &format!("Http{status}"), &innermost(error))
        }
        _ => failure(Kind::NotSent, "NotSent", &innermost(error)),
    }
}

/// The error in an answer of AWS's.
fn answered(
    service: Service,
    operation: &'static str,
    error: &ErrorMetadata,
    status: u16,
) -> Failure {
    let code = error.code().map(str::to_owned);
    let code = code.unwrap_or_else(|| format!("Http{status}"));
    let message = error.message().unwrap_or("no message");
    let kind = codes::kind(service, operation, &code, message, status);
    Failure::new(service, operation, kind, &code, message)
}

/// The error of the credentials, if that is why the call was not sent.
fn of_credentials(operation: &'static str, error: &(dyn StdError + 'static)) -> Option<Failure> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    let by_sts = causes(found).find_map(|cause| {
        let assumed = cause.downcast_ref().map(AssumeRoleError::meta);
        let assumed = assumed.map(|error| ("AssumeRole", error));
        assumed.or_else(|| {
            let error = cause
                .downcast_ref()
                .map(AssumeRoleWithWebIdentityError::meta)?;
            Some(("AssumeRoleWithWebIdentity", error))
        })
    });
    if let Some((operation, error)) = by_sts {
        return Some(answered(Service::Sts, operation, error, 0));
    }
    let failure = |kind, code: &str, message: &str| {
        Failure::new(Service::Credentials, operation, kind, code, message)
    };
    Some(match found {
        CredentialsError::CredentialsNotLoaded(_) => failure(
            Kind::NoCredentials,
            "NoCredentials",
            "no credentials found in the environment, a profile, a web identity token (IRSA), a container (EKS Pod Identity) or the instance",
        ),
        CredentialsError::ProviderTimedOut(_) => {
            failure(Kind::Timeout, "CredentialsTimeout", &innermost(found))
        }
        _ => failure(
            Kind::Unauthenticated,
            "CredentialsFailed",
            &innermost(found),
        ),
    })
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a _| <dyn StdError>::source(*error))
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// Somebody else's text, fit for one log line.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_MESSAGE)
        .collect();
    if text.chars().nth(LONGEST_MESSAGE).is_some() {
        line.push('…');
    }
    line.truncate(line.trim_end_matches('.').len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_become_one_bounded_line() {
        assert_eq!(one_line("a\nb\u{1b}c."), "a b c");
        assert_eq!(one_line(&"x".repeat(4000)).chars().count(), 2049);
    }

    #[test]
    fn it_reads_as_one_line() {
        let failure = Failure::senseless(Service::Kinesis, "ListShards", "no\nShards.");
        assert_eq!(
            failure.to_string(),
            "ListShards: UnreadableAnswer: no Shards"
        );
        assert!(!failure.is_transient() && failure.source().is_none());
    }
}
