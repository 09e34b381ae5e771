//! From an SDK error to what the operator must do.
//!
//! A failed call may have failed before it was sent: the SDK then hides the credentials' error, and STS's own, somewhere
//! down the chain of causes.

use std::{error::Error as StdError, fmt};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_sdk_sts::operation::{
    assume_role::AssumeRoleError, assume_role_with_web_identity::AssumeRoleWithWebIdentityError,
};

use crate::{
    error::{SourceError, SourceErrorKind},
    trigger::{Role, Stream},
};

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource<'a> {
    Stream(&'a Stream),
    LeaseTable(&'a str),
    Identity,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The API operation.
    pub(crate) operation: &'static str,
    /// What it is about.
    pub(crate) resource: Resource<'a>,
    /// The region.
    pub(crate) region: &'a str,
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failed {
    /// How.
    pub(crate) error: SourceError,
    /// A broken connection or a 5xx: another attempt may well succeed at once.
    pub(crate) broken: bool,
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(stream) => write!(f, "stream {stream}"),
            Self::LeaseTable(table) => write!(f, "lease table {table}"),
            Self::Identity => f.write_str("the identity"),
        }
    }
}

impl Call<'_> {
    /// An answer that AWS gave with status 200 and that makes no sense.
    pub(crate) fn senseless(&self, message: &str) -> SourceError {
        self.error(
            SourceErrorKind::Unavailable,
            "UnreadableAnswer",
            message,
            "The scaler keeps on asking; if this stays, see what answers at the endpoint",
        )
    }

    fn error(&self, kind: SourceErrorKind, code: &str, message: &str, hint: &str) -> SourceError {
        SourceError {
            kind,
            operation: self.operation,
            resource: self.resource.to_string(),
            region: self.region.to_owned(),
            code: one_line(code),
            message: one_line(message),
            hint: hint.to_owned(),
        }
    }
}

/// Names the failure of one attempt. `role`: the role that the client assumes.
pub(super) fn failed<E>(
    error: &SdkError<E, HttpResponse>,
    call: &Call<'_>,
    role: Option<&Role>,
) -> Failed
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    use SourceErrorKind::{Timeout, Unavailable};
    if let Some(error) = credentials(error, call, role) {
        return Failed {
            error,
            broken: false,
        };
    }
    let cause = innermost(error);
    let (error, broken) = match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let code = context.err().code().map(str::to_owned);
            let code = code.unwrap_or_else(|| format!("Http{status}"));
            let kind = kind_of(&code);
            let message = context.err().message().unwrap_or("no message");
            let hint = match code.as_str() {
                code if code.starts_with("KMS") && kind == SourceErrorKind::AccessDenied => {
                    "Allow kms:Decrypt on the stream's key to the identity that asks, and see that the key is enabled".to_owned()
                }
                _ => hint(kind, call),
            };
            (
                call.error(kind, &code, message, &hint),
                kind == Unavailable && status >= 500,
            )
        }
        SdkError::TimeoutError(_) => (timeout(call, "no answer in time"), false),
        SdkError::DispatchFailure(context) if context.is_timeout() => {
            (timeout(call, "no connection in time"), false)
        }
        SdkError::DispatchFailure(_) => {
            let hint = hint(Unavailable, call);
            (
                call.error(Unavailable, "ConnectionFailed", &cause, &hint),
                true,
            )
        }
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            let kind = if status == 429 {
                SourceErrorKind::Throttled
            } else {
                Unavailable
            };
            let hint = hint(kind, call);
            let error = if status == 200 {
                call.error(kind, "UnreadableAnswer", &cause, &hint)
            } else {
                call.error(kind, &format!("Http{status}"), &cause, &hint)
            };
            (error, kind == Unavailable)
        }
        _ => {
            let hint = "This is a request that the SDK would not send; see the trigger's metadata";
            (call.error(Unavailable, "NotSent", &cause, hint), false)
        }
    };
    return Failed { error, broken };

    fn timeout(call: &Call<'_>, message: &str) -> SourceError {
        call.error(Timeout, "Timeout", message, &hint(Timeout, call))
    }
}

/// The error of the credentials, if that is why the call was not sent.
fn credentials(
    error: &(dyn StdError + 'static),
    call: &Call<'_>,
    role: Option<&Role>,
) -> Option<SourceError> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    let sts = causes(found).find_map(|cause| {
        let assumed = cause.downcast_ref::<AssumeRoleError>().map(|error| {
            let role = role.map_or("of the profile", |role| role.arn.as_str());
            ("AssumeRole", format!("role {role}"), error.meta().clone())
        });
        let web = || {
            let error = cause.downcast_ref::<AssumeRoleWithWebIdentityError>()?;
            let role = "role of the service account (AWS_ROLE_ARN)".to_owned();
            Some(("AssumeRoleWithWebIdentity", role, error.meta().clone()))
        };
        assumed.or_else(web)
    });
    let Some((operation, resource, meta)) = sts else {
        let mut error = match found {
            CredentialsError::CredentialsNotLoaded(_) => call.error(
                SourceErrorKind::Unauthenticated,
                "NoCredentials",
                "none in the environment, a profile, a web identity token (IRSA), a container (EKS Pod Identity) or the instance",
                "Give the scaler's pod a service account with IRSA or EKS Pod Identity, or keys in the environment",
            ),
            CredentialsError::ProviderTimedOut(_) => call.error(
                SourceErrorKind::Timeout,
                "CredentialsTimeout",
                &innermost(found),
                "The provider of credentials does not answer: see the pod's identity and its network",
            ),
            _ => call.error(
                SourceErrorKind::Unauthenticated,
                "CredentialsFailed",
                &innermost(found),
                "See the scaler's own identity: its service account, token files and profile",
            ),
        };
        if let Some(role) = role {
            error.resource = format!("{} as role {}", call.resource, role.arn);
        }
        return Some(error);
    };
    let code = meta.code().unwrap_or("NoCode");
    let kind = kind_of(code);
    let hint = match kind {
        SourceErrorKind::AccessDenied => {
            "Let the trust policy of the role name the scaler's identity (and its external id, awsExternalId), and allow that identity sts:AssumeRole on it".to_owned()
        }
        kind => hint(kind, call),
    };
    let mut error = call.error(kind, code, meta.message().unwrap_or("no message"), &hint);
    error.operation = operation;
    error.resource = format!("{resource} for {}", call.resource);
    Some(error)
}

fn kind_of(code: &str) -> SourceErrorKind {
    use SourceErrorKind::{
        AccessDenied, NotFound, Throttled, Timeout, Unauthenticated, Unavailable,
    };
    match code {
        "ResourceNotFoundException" => NotFound,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "UnauthorizedOperation" => {
            AccessDenied
        }
        "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => AccessDenied,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidIdentityToken"
        | "IDPCommunicationError"
        | "IDPRejectedClaim"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Unauthenticated,
        "LimitExceededException" | "RequestLimitExceeded" | "SlowDown" | "Http429" => Throttled,
        "RequestTimeout" | "RequestTimeoutException" => Timeout,
        code if code.contains("Throttl") || code.starts_with("ProvisionedThroughputExceeded") => {
            Throttled
        }
        _ => Unavailable,
    }
}

fn hint(kind: SourceErrorKind, call: &Call<'_>) -> String {
    let operation = call.operation;
    match (kind, call.resource) {
        (SourceErrorKind::NotFound, Resource::Stream(_)) => {
            "Correct streamName (or streamArn) and awsRegion, or create the stream".to_owned()
        }
        (kind, Resource::Identity) if kind != SourceErrorKind::Unauthenticated => {
            "Only this report is without it; see the way to STS".to_owned()
        }
        (SourceErrorKind::NotFound, Resource::LeaseTable(_) | Resource::Identity) => {
            "Correct applicationName (or leaseTable) and awsRegion, or start the application: it makes its table".to_owned()
        }
        (SourceErrorKind::AccessDenied, Resource::Stream(_)) => {
            format!("Allow kinesis:{operation} on the stream to the identity that asks")
        }
        (SourceErrorKind::AccessDenied, Resource::LeaseTable(_) | Resource::Identity) => {
            format!("Allow dynamodb:{operation} on the table to the identity that asks")
        }
        (SourceErrorKind::Unauthenticated, _) => {
            "Correct or renew the credentials of the identity that asks".to_owned()
        }
        (SourceErrorKind::Throttled, Resource::LeaseTable(_) | Resource::Identity) => {
            "The table's read capacity is used up: raise it (or make the table on-demand), or raise aws.refresh".to_owned()
        }
        (SourceErrorKind::Throttled, Resource::Stream(_)) if operation != "DescribeStreamSummary" => {
            format!("Others use up the stream's quota of {operation}: raise aws.refresh")
        }
        (SourceErrorKind::Throttled, Resource::Stream(_)) => {
            "Others use up the account's quota: lower aws.callsPerSecond or raise aws.refresh, and allow kinesis:ListShards, which is counted per stream".to_owned()
        }
        (SourceErrorKind::Timeout, _) => {
            "The scaler keeps on asking; if this stays, see the way to the endpoint and to the source of the credentials, or raise aws.timeout".to_owned()
        }
        (SourceErrorKind::Unavailable, _) => {
            "The scaler keeps on asking; if this stays, see awsRegion, awsEndpoint and the way there".to_owned()
        }
    }
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

/// Somebody else's text, fit for one log line and one event.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ResourceNotFoundException", SourceErrorKind::NotFound)]
    #[case("AccessDenied", SourceErrorKind::AccessDenied)]
    #[case("ExpiredTokenException", SourceErrorKind::Unauthenticated)]
    #[case("LimitExceededException", SourceErrorKind::Throttled)]
    #[case("ThrottlingException", SourceErrorKind::Throttled)]
    #[case("ProvisionedThroughputExceededException", SourceErrorKind::Throttled)]
    #[case("InternalFailure", SourceErrorKind::Unavailable)]
    #[case("SomethingNewException", SourceErrorKind::Unavailable)]
    fn codes_have_kinds(#[case] code: &str, #[case] kind: SourceErrorKind) {
        assert_eq!(kind_of(code), kind);
    }

    #[test]
    fn texts_of_others_become_one_short_line() {
        assert_eq!(one_line("a\nb\u{1b}c."), "a b c");
        assert_eq!(one_line(&"x".repeat(400)).chars().count(), 301);
    }
}
