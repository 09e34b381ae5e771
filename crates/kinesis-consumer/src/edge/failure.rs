//! Calls to AWS that failed.

use kinesis_edge::{Failure, Kind};

/// A call to AWS that failed: what was asked of what, AWS's code and message, and what to do, where
/// that is known. Its source is the failed call as `kinesis-edge` has it, whose source is the
/// SDK's.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    text: String,
    source: Option<Box<Failure>>,
    missing: bool,
}

impl CallError {
    /// AWS's error code, such as `AccessDeniedException`, or one in its style where AWS gave no
    /// answer: `Timeout`, `ConnectionFailed`, `UnreadableAnswer`, `NoCredentials`.
    pub fn code(&self) -> Option<&str> {
        Some(&self.source.as_ref()?.code)
    }

    /// `asked`: the call and of what, such as `GetItem on leases`. `thing`: what a policy must
    /// name, where AWS does not say it.
    pub(crate) fn new(asked: &str, thing: &str, failure: Failure) -> Self {
        let Failure { code, message, .. } = &failure;
        let advice = advice(&failure, thing);
        let text = format!("{asked}: {code}: {message}{advice}");
        let missing = failure.kind == Kind::NotFound && !failure.is_of_credentials();
        let source = Some(Box::new(failure));
        Self {
            text,
            source,
            missing,
        }
    }

    pub(crate) fn add(&mut self, advice: &str) {
        self.text.push_str(advice);
    }

    /// What was asked is not there, without a failed call behind it.
    #[cfg(feature = "test-util")]
    pub(crate) fn missing(text: impl Into<String>) -> Self {
        Self {
            missing: true,
            ..text.into().into()
        }
    }

    /// Whether AWS, or a source of credentials, said no, other than to slow down or for trouble of
    /// its own.
    pub(crate) fn is_refusal(&self) -> bool {
        let refuses = |failure: &Failure| {
            matches!(
                failure.kind,
                Kind::NotFound
                    | Kind::InUse
                    | Kind::Denied
                    | Kind::NoCredentials
                    | Kind::Unauthenticated
                    | Kind::ExpiredCredentials
                    | Kind::NotSent
                    | Kind::Unknown
            )
        };
        self.source.as_deref().is_some_and(refuses)
    }

    /// Whether the request itself is refused, rather than who sends it.
    pub(crate) fn is_of_request(&self) -> bool {
        let is_invalid = |failure: &Failure| failure.kind == Kind::Invalid;
        self.source.as_deref().is_none_or(is_invalid)
    }

    /// Whether the stream, shard or table is not there.
    pub(crate) fn is_of_missing_thing(&self) -> bool {
        self.missing
    }
}

/// Whose policy must change, by AWS's own words.
fn advice(failure: &Failure, thing: &str) -> String {
    match failure.remedy(&format!("<the ARN of {thing}>")) {
        Some(remedy) => format!(". {}", remedy.text),
        None if failure.kind == Kind::Unauthenticated && !failure.is_of_credentials() => {
            ". Correct or renew the worker's credentials".to_owned()
        }
        None => String::new(),
    }
}

/// A failure with nothing behind it.
impl<T: Into<String>> From<T> for CallError {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            source: None,
            missing: false,
        }
    }
}
