//! What can go wrong, named for what the operator must do, and the one table from that to gRPC
//! codes.

use std::{borrow::Cow, fmt, sync::Arc};

use kinesis_edge::Statement;
use tonic::{Code, Status};

/// One trigger metadata key that is wrong. Printed as one line: key, value, what would be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrong {
    /// The metadata key, as KEDA sent it.
    pub key: &'static str,
    /// The value, trimmed and shortened; `None` when the key is missing or must not be echoed.
    pub value: Option<String>,
    /// What would be right, in words that follow "want".
    pub want: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} {value:?}: want {}", self.key, self.want),
            None => write!(f, "{}: want {}", self.key, self.want),
        }
    }
}

/// Why an RPC has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The trigger metadata is wrong. One line for each wrong key.
    #[error("{}", lines(.0))]
    InvalidMetadata(Vec<Wrong>),
    /// The policy of this scaler does not let this namespace do that.
    #[error("{0}")]
    Refused(String),
    /// The source gave no answer yet; asking goes on.
    #[error("{0}")]
    NotYet(String),
    /// The application has no leases, and the trigger has `onMissingTable: error`.
    #[error("{0}")]
    NoLeases(String),
    /// AWS failed, and the last good answer, if any, is too old to stand in.
    #[error(transparent)]
    Source(#[from] Arc<SourceError>),
    /// A bound of the scaler's own, of which the asker has its share.
    #[error("{why}")]
    Exhausted {
        /// The bound, as metrics have it.
        limit: &'static str,
        /// What would mend it.
        why: String,
    },
}

/// How an AWS call failed, by what the operator can do about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SourceErrorKind {
    /// The stream (or lease table) does not exist.
    NotFound,
    /// The identity may not do this.
    AccessDenied,
    /// No credentials, or credentials that AWS does not know or that have expired.
    Unauthenticated,
    /// Throttled by AWS.
    Throttled,
    /// No answer in time.
    Timeout,
    /// Anything else: 5xx, a broken connection, an answer that makes no sense.
    Unavailable,
}

/// A failed AWS call: which one, on what, AWS's code and message, and the next step.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} of {resource} in {region} failed: {code}: {message}. {hint}")]
pub struct SourceError {
    /// How it failed.
    pub kind: SourceErrorKind,
    /// The API operation, such as `DescribeStreamSummary`.
    pub operation: &'static str,
    /// What was asked about: `stream orders`, `stream arn:…`, `role arn:…`.
    pub resource: String,
    /// The region asked.
    pub region: String,
    /// AWS's error code, or ours in the same style (`Timeout`, `ConnectionFailed`).
    pub code: String,
    /// AWS's message.
    pub message: String,
    /// What to do next, a sentence.
    pub hint: String,
    /// What a policy of the identity lacks, where that is the cause.
    pub statement: Option<Statement>,
}

impl SourceErrorKind {
    /// The gRPC code, also the label in metrics.
    pub fn code(self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::AccessDenied => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Throttled => Code::ResourceExhausted,
            Self::Timeout => Code::DeadlineExceeded,
            Self::Unavailable => Code::Unavailable,
        }
    }

    /// Is it an error that asking again soon does not mend? Seen twice in a row it is answered at
    /// once, before `maxStale` is over.
    pub fn is_permanent(self) -> bool {
        matches!(self, Self::NotFound | Self::AccessDenied)
    }
}

impl Error {
    /// The gRPC code that KEDA logs.
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidMetadata(_) => Code::InvalidArgument,
            Self::Refused(_) => Code::PermissionDenied,
            Self::NotYet(_) => Code::Unavailable,
            Self::NoLeases(_) => Code::NotFound,
            Self::Source(error) => error.kind.code(),
            Self::Exhausted { .. } => Code::ResourceExhausted,
        }
    }
}

/// A gRPC code as the gRPC specification writes it, `NOT_FOUND`: in metrics and in `/explain`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The longest part of somebody else's text that an error repeats, in characters.
const LONGEST_ECHO: usize = 80;

/// Text of a user, cut to a length fit for an event or a log line. Print it with `{:?}`, which
/// escapes control characters.
pub fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST_ECHO) {
        Some((cut, _)) => Cow::Owned(format!("{}…", &text[..cut])),
        None => Cow::Borrowed(text),
    }
}

fn lines(wrong: &[Wrong]) -> String {
    let lines: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
impl SourceErrorKind {
    /// An error of this kind, for unit tests.
    pub(crate) fn example(self) -> SourceError {
        SourceError {
            kind: self,
            operation: "GetRecords",
            resource: "stream orders".to_owned(),
            region: "eu-west-1".to_owned(),
            code: format!("{self:?}Exception"),
            message: "no".to_owned(),
            hint: "Try again".to_owned(),
            statement: None,
        }
    }
}
