//! From a failed call to what the operator must do.

use std::fmt;

use kinesis_edge::{Failure, Kind, Service};

use crate::{
    error::{SourceError, SourceErrorKind},
    trigger::{Role, Stream},
};

/// The longest part of somebody else's text that an error repeats, in characters.
const LONGEST: usize = 300;

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource<'a> {
    Stream(&'a Stream),
    LeaseTable(&'a str),
    Identity,
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

/// The gRPC side of how a call failed.
pub(super) fn kind(kind: Kind) -> SourceErrorKind {
    match kind {
        Kind::NotFound => SourceErrorKind::NotFound,
        Kind::Denied => SourceErrorKind::AccessDenied,
        Kind::NoCredentials | Kind::Unauthenticated | Kind::ExpiredCredentials => {
            SourceErrorKind::Unauthenticated
        }
        Kind::Throttled => SourceErrorKind::Throttled,
        Kind::Timeout => SourceErrorKind::Timeout,
        _ => SourceErrorKind::Unavailable,
    }
}

/// Names what was asked for and the next step. `role`: the role that the client assumes.
pub(super) fn source_error(
    failure: &Failure,
    resource: Resource<'_>,
    region: &str,
    role: Option<&Role>,
) -> SourceError {
    let arn = role.map(|role| role.arn.as_str());
    let about = match (failure.service, failure.operation, arn) {
        (Service::Sts, "AssumeRole", arn) => {
            format!("role {} for {resource}", arn.unwrap_or("of the profile"))
        }
        (Service::Sts, "AssumeRoleWithWebIdentity", _) => {
            format!("role of the service account (AWS_ROLE_ARN) for {resource}")
        }
        (Service::Credentials, _, Some(arn)) => format!("{resource} as role {arn}"),
        _ => resource.to_string(),
    };
    SourceError {
        kind: kind(failure.kind),
        operation: failure.operation,
        resource: about,
        region: region.to_owned(),
        code: failure.code.clone(),
        message: shortened(&failure.message),
        hint: hint(failure, resource),
    }
}

fn hint(failure: &Failure, resource: Resource<'_>) -> String {
    let operation = failure.operation;
    let hint = match (failure.service, failure.kind) {
        (Service::Credentials, Kind::NoCredentials) => {
            "Give the scaler's pod a service account with IRSA or EKS Pod Identity, or keys in the environment"
        }
        (Service::Credentials, Kind::Timeout) => {
            "The provider of credentials does not answer: see the pod's identity and its network"
        }
        (Service::Credentials, _) => {
            "See the scaler's own identity: its service account, token files and profile"
        }
        (Service::Sts, Kind::Denied) if failure.is_of_credentials() => {
            "Let the trust policy of the role name the scaler's identity (and its external id, awsExternalId), and allow \
             that identity sts:AssumeRole on it"
        }
        (_, Kind::Denied) if failure.denial.as_ref().is_some_and(|denial| denial.key) => {
            "Allow kms:Decrypt on the stream's key to the identity that asks, and see that the key is enabled"
        }
        (_, Kind::Senseless) => {
            "The scaler keeps on asking; if this stays, see what answers at the endpoint"
        }
        (_, Kind::NotSent) => {
            "This is a request that the SDK would not send; see the trigger's metadata"
        }
        _ => return hint_of_kind(kind(failure.kind), operation, resource),
    };
    hint.to_owned()
}

fn hint_of_kind(kind: SourceErrorKind, operation: &str, resource: Resource<'_>) -> String {
    let hint = match (kind, resource) {
        (SourceErrorKind::NotFound, Resource::Stream(_)) => {
            "Correct streamName (or streamArn) and awsRegion, or create the stream"
        }
        (kind, Resource::Identity) if kind != SourceErrorKind::Unauthenticated => {
            "Only this report is without it; see the way to STS"
        }
        (SourceErrorKind::NotFound, Resource::LeaseTable(_) | Resource::Identity) => {
            "Correct applicationName (or leaseTable) and awsRegion, or start the application: it makes its table"
        }
        (SourceErrorKind::AccessDenied, Resource::Stream(_)) => {
            return format!("Allow kinesis:{operation} on the stream to the identity that asks");
        }
        (SourceErrorKind::AccessDenied, Resource::LeaseTable(_) | Resource::Identity) => {
            return format!("Allow dynamodb:{operation} on the table to the identity that asks");
        }
        (SourceErrorKind::Unauthenticated, _) => {
            "Correct or renew the credentials of the identity that asks"
        }
        (SourceErrorKind::Throttled, Resource::LeaseTable(_) | Resource::Identity) => {
            "The table's read capacity is used up: raise it (or make the table on-demand), or raise aws.refresh"
        }
        (SourceErrorKind::Throttled, Resource::Stream(_))
            if operation != "DescribeStreamSummary" =>
        {
            return format!("Others use up the stream's quota of {operation}: raise aws.refresh");
        }
        (SourceErrorKind::Throttled, Resource::Stream(_)) => {
            "Others use up the account's quota: lower aws.callsPerSecond or raise aws.refresh, and allow \
             kinesis:ListShards, which is counted per stream"
        }
        (SourceErrorKind::Timeout, _) => {
            "The scaler keeps on asking; if this stays, see the way to the endpoint and to the source of the credentials, \
             or raise aws.timeout"
        }
        (SourceErrorKind::Unavailable, _) => {
            "The scaler keeps on asking; if this stays, see awsRegion, awsEndpoint and the way there"
        }
    };
    hint.to_owned()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
