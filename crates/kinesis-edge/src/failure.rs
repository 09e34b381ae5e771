//! A failed call, as one value.
//!
//! A call may have failed before it was sent: the SDK then hides the credentials' error, and STS's
//! own, down the chain of causes.

use std::{error::Error as StdError, fmt, sync::Arc};

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::{ErrorMetadata, ProvideErrorMetadata};
use rustls::CertificateError;

pub(crate) use self::credentials::causes_in_words;
use self::credentials::of_credentials;
use crate::{codes, denial::Denial, proxies::Unreached, room::NoRoom};

mod credentials;

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

impl Service {
    /// As AWS writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Kinesis => "Kinesis",
            Self::DynamoDb => "DynamoDB",
            Self::Sts => "STS",
            Self::Credentials => "the source of credentials",
        }
    }
}

/// Who was asked to do what.
pub(crate) type Call = (Service, &'static str);

/// How a call failed, by what is to be done about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// No such stream, shard or table.
    NotFound,
    /// The stream or table is there, but is being made, changed or deleted. Of CreateTable and
    /// RegisterStreamConsumer: there is one of that name. Of SubscribeToShard: the consumer has
    /// another subscription to the shard.
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
    /// There may be no more of them: waiting does not mend it.
    LimitReached,
    /// No answer in time. A write may have been done or not.
    Timeout,
    /// 5xx, a broken connection, an answer that cannot be read. A write may have been done or not.
    Unavailable,
    /// An answer of status 200 that lacks what every such answer has: is it AWS's?
    Senseless,
    /// There is more than the caller reads, every answer of AWS's notwithstanding.
    TooLarge,
    /// The answer is larger than the caller has [`Room`](crate::Room) for. It was not read.
    NoRoom,
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
    /// The kind of failure, from which follows what to do about it.
    pub kind: Kind,
    /// AWS's error code, or one of this crate's in the same style: `Timeout`, `ConnectionFailed`,
    /// `UntrustedCertificate`, `UnreadableAnswer`, `Http503` (a status without a code), `NotSent`,
    /// `NoCredentials`, `CredentialsTimeout`, `CredentialsUnavailable`, `CredentialsFailed`.
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

    /// The failure behind an error, however far down its causes.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| {
            let boxed = || cause.downcast_ref::<Box<Self>>().map(AsRef::as_ref);
            cause.downcast_ref().or_else(boxed)
        })
    }

    /// The stream is there, but AWS does not say its shards yet: it is being made.
    pub fn not_ready(operation: &'static str) -> Self {
        let call = (Service::Kinesis, operation);
        let message = "the stream has no shards yet, it is being made";
        Self::new(call, Kind::InUse, "StreamNotReady", message)
    }

    /// An answer of status 200 without what every such answer has.
    pub fn senseless(service: Service, operation: &'static str, message: &str) -> Self {
        let call = (service, operation);
        Self::new(call, Kind::Senseless, "UnreadableAnswer", message)
    }

    /// More than the caller reads. `message`: what, and the most that is read.
    pub fn too_large(service: Service, operation: &'static str, message: &str) -> Self {
        let call = (service, operation);
        Self::new(call, Kind::TooLarge, "TooLarge", message)
    }

    /// The cause of that type.
    pub(crate) fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        causes(self).find_map(|cause| cause.downcast_ref())
    }

    pub(crate) fn new(call: Call, kind: Kind, code: &str, message: &str) -> Self {
        let (service, operation) = call;
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

    pub(crate) fn from_sdk<E>(call: Call, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let answer = error.raw_response();
        let request_id = answer.and_then(|answer| answer.headers().get("x-amzn-requestid"));
        let request_id = request_id.map(one_line);
        let failure = of_call(call, &error);
        Self {
            request_id,
            source: Some(Arc::new(error)),
            ..failure
        }
    }
}

/// The error in a subscription's events. `code`: AWS's.
pub(crate) fn of_event<E, R>(call: Call, code: Option<&str>, error: SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let failure = match (&error, code) {
        (SdkError::ServiceError(context), Some(code)) => {
            let message = context.err().meta().message().unwrap_or("no message");
            let kind = codes::kind(call, code, message, 400);
            Failure::new(call, kind, code, message)
        }
        (SdkError::DispatchFailure(_), _) => {
            let (kind, code) = (Kind::Unavailable, "ConnectionFailed");
            Failure::new(call, kind, code, &innermost(&error))
        }
        _ => {
            let (kind, code) = (Kind::Unavailable, "UnreadableAnswer");
            Failure::new(call, kind, code, &innermost(&error))
        }
    };
    Failure {
        source: Some(Arc::new(error)),
        ..failure
    }
}

fn of_call<E>(call: Call, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    of_credentials(call.1, error).unwrap_or_else(|| match (error, status) {
        (SdkError::ServiceError(context), Some(status)) => {
            answered(call, context.err().meta(), error, status)
        }
        (SdkError::ResponseError(_), Some(status)) => {
            answered(call, &ErrorMetadata::builder().build(), error, status)
        }
        _ => unanswered(call, error),
    })
}

/// The error in an answer: AWS's, or that of whoever stands before it, who knows no codes.
fn answered(
    call: Call,
    answer: &ErrorMetadata,
    error: &(dyn StdError + 'static),
    status: u16,
) -> Failure {
    let who = call.0.name();
    match (answer.code(), answer.message()) {
        (Some(code), message) => {
            let message = message.unwrap_or("no message");
            let kind = codes::kind(call, code, message, status);
            Failure::new(call, kind, code, message)
        }
        (None, _) if (200..300).contains(&status) => {
            let cause = innermost(error);
            let message = format!(
                "{who} answered with what is no answer to {}: {cause}",
                call.1
            );
            Failure::new(call, Kind::Unavailable, "UnreadableAnswer", &message)
        }
        (None, said) => {
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            let message = format!("{who} answered {status} without an error code{said}");
            let code = format!("Http{status}");
            let kind = codes::kind(call, &code, &message, status);
            Failure::new(call, kind, &code, &message)
        }
    }
}

/// The error of a call that got no answer.
fn unanswered<E>(call: Call, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: StdError + 'static,
{
    let cause = innermost(error);
    let (kind, code, message) = match error {
        SdkError::TimeoutError(_) => (Kind::Timeout, "Timeout", "no answer in time"),
        SdkError::DispatchFailure(_) if causes(error).any(|cause| cause.is::<NoRoom>()) => {
            (Kind::NoRoom, "NoRoom", &*cause)
        }
        SdkError::DispatchFailure(_) => match unreached(error) {
            Some((kind, code, message)) => return Failure::new(call, kind, code, &message),
            None => (Kind::Unavailable, "ConnectionFailed", &*cause),
        },
        _ => (Kind::NotSent, "NotSent", &*cause),
    };
    Failure::new(call, kind, code, message)
}

pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a _| <dyn StdError>::source(*error))
}

/// Kind, code and message, with the host's name.
fn unreached(error: &(dyn StdError + 'static)) -> Option<(Kind, &'static str, String)> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<Unreached>())?;
    let host = &found.host;
    Some(match &found.untrusted {
        Some(why @ CertificateError::UnknownIssuer) => (
            Kind::Unavailable,
            "UntrustedCertificate",
            format!(
                "the certificate of {host} is not trusted ({why}); name a file with its authority's certificate, and all \
                 others that are needed, in AWS_CA_BUNDLE"
            ),
        ),
        Some(why) => (
            Kind::Unavailable,
            "UntrustedCertificate",
            format!("the certificate of {host} is not accepted: {why}"),
        ),
        None if found.timed_out => (
            Kind::Timeout,
            "Timeout",
            format!("no connection to {host}, or no answer of it, in time"),
        ),
        None => (
            Kind::Unavailable,
            "ConnectionFailed",
            format!("{host}: {}", innermost(found)),
        ),
    })
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
