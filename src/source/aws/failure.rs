//! From a failed call to what the operator must do.

use std::fmt;

use kinesis_edge::{Failure, Kind, Service, partition};

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

impl Resource<'_> {
    /// As policies name it: in the account of the role that asks, else in whatever account it is.
    fn arn(&self, region: &str, role: Option<&str>) -> String {
        let account = role.and_then(|arn| arn.split(':').nth(4)).unwrap_or("*");
        let partition = partition(region);
        let arn = |service: &str, resource: String| {
            format!("arn:{partition}:{service}:{region}:{account}:{resource}")
        };
        match self {
            Self::Stream(Stream::Arn(arn)) => arn.clone(),
            Self::Stream(Stream::Name(name)) => arn("kinesis", format!("stream/{name}")),
            Self::Stream(Stream::All) => arn("kinesis", "stream/*".to_owned()),
            Self::LeaseTable(arn) if arn.starts_with("arn:") => (*arn).to_owned(),
            Self::LeaseTable(table) => arn("dynamodb", format!("table/{table}")),
            Self::Identity => "*".to_owned(),
        }
    }
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
    let remedy = failure.remedy(&resource.arn(region, arn));
    let (hint, statement) = match remedy {
        Some(remedy) => (remedy.text, remedy.statement),
        None => (hint(failure, resource), None),
    };
    SourceError {
        kind: kind(failure.kind),
        operation: failure.operation,
        resource: about,
        region: region.to_owned(),
        code: failure.code.clone(),
        message: failure.message.clone(),
        hint,
        statement,
    }
}

/// The next step, where nothing was denied. `{operation}` stands for the operation.
fn hint(failure: &Failure, resource: Resource<'_>) -> String {
    use Resource::{Identity, LeaseTable, Stream};
    let kind = kind(failure.kind);
    let hint = match (failure.service, kind, resource) {
        _ if failure.code == "UntrustedCertificate" => {
            "The scaler keeps on asking; see who answers there, such as a proxy that ends TLS"
        }
        (Service::Credentials, ..) if failure.kind == Kind::NoCredentials => {
            "Give the scaler's pod a service account with IRSA or EKS Pod Identity, or keys in the environment"
        }
        (Service::Credentials, SourceErrorKind::Timeout, _) => {
            "The provider of credentials does not answer: see the pod's identity and its network"
        }
        (Service::Credentials, SourceErrorKind::Unavailable, _) => {
            "The scaler keeps on asking; if this stays, see the pod's identity and what answers where it asks for credentials"
        }
        (Service::Credentials, ..) => {
            "See the scaler's own identity: its service account, token files and profile"
        }
        (Service::Sts, SourceErrorKind::Throttled, _) => {
            "Others use up the account's quota of STS; the scaler keeps on asking"
        }
        (Service::Sts, SourceErrorKind::Unavailable | SourceErrorKind::Timeout, _)
            if failure.is_of_credentials() =>
        {
            "The scaler keeps on asking; if this stays, see the way to STS and what answers there, such as a proxy or a VPC \
             endpoint"
        }
        _ if failure.service == Service::Kinesis && failure.kind == Kind::InUse => {
            "The scaler keeps on asking until the stream is ACTIVE"
        }
        _ if failure.code == "UnreadableAnswer" => {
            "The scaler keeps on asking; if this stays, see what answers at the endpoint"
        }
        _ if failure.kind == Kind::TooLarge => {
            "Delete rows that nobody needs any more, or give the application a lease table of its own; the scaler looks \
             again in ten minutes"
        }
        _ if failure.kind == Kind::NotSent => {
            "This is a request that the SDK would not send; see the trigger's metadata"
        }
        (_, SourceErrorKind::NotFound, Stream(_)) => {
            "Correct streamName (or streamArn) and awsRegion, or create the stream"
        }
        (_, SourceErrorKind::Unauthenticated, _) => {
            "Correct or renew the credentials of the identity that asks, and see that the region is enabled for its account"
        }
        (_, _, Identity) => "Only this report is without it; see the way to STS",
        (_, SourceErrorKind::NotFound, LeaseTable(_)) => {
            "Correct applicationName (or leaseTable) and awsRegion, or start the application: it makes its table"
        }
        (_, SourceErrorKind::Throttled, LeaseTable(_)) => {
            "The table's read capacity is used up: raise it (or make the table on-demand), or raise aws.refresh"
        }
        (_, SourceErrorKind::Throttled, _) if failure.operation != "DescribeStreamSummary" => {
            "Others use up the stream's quota of {operation}: raise aws.refresh"
        }
        (_, SourceErrorKind::Throttled, _) => {
            "Others use up the account's quota: lower aws.callsPerSecond or raise aws.refresh, and allow \
             kinesis:ListShards, which is counted per stream"
        }
        (_, SourceErrorKind::Timeout, _) => {
            "The scaler keeps on asking; if this stays, see the way to the endpoint and to the source of the credentials, \
             or raise aws.timeout"
        }
        (_, SourceErrorKind::AccessDenied | SourceErrorKind::Unavailable, _) => {
            "The scaler keeps on asking; if this stays, see awsRegion, awsEndpoint and the way there"
        }
    };
    hint.replace("{operation}", failure.operation)
}
