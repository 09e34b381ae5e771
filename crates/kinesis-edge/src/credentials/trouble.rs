//! Trouble of whoever hands out credentials: he gave no answer, or one that nobody can read.

use std::{error::Error as StdError, fmt};

use aws_config::imds::client::error::{ImdsError, TokenError};
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};

use super::is_of;
use crate::{
    failure::{causes, causes_in_words},
    proxies::Unreached,
};

/// A source of credentials has trouble of its own, which may be over in a moment.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Trouble {}

/// The error, as [`Trouble`] of `who` where it is that: a status by which he says so, or an answer
/// that cannot be read. What else he said is about the identity.
pub(super) fn named(who: &str, error: CredentialsError) -> CredentialsError {
    let is_unreadable = matches!(error, CredentialsError::Unhandled(_))
        || matches!(of_instance(&error), Some(ImdsError::IoError(_)));
    let text = match status(&error) {
        Some(status) if status == 429 || status >= 500 => format!("{who} answered {status}"),
        None if is_unreadable && !is_of::<Unreached>(&error) => {
            let told = causes_in_words(&error);
            format!("{who} answered with something that is not credentials: {told}")
        }
        _ => return error,
    };
    CredentialsError::provider_error(Trouble(text))
}

fn of_instance(error: &CredentialsError) -> Option<&ImdsError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The status of the answer, where it was not 200.
pub(super) fn status(error: &CredentialsError) -> Option<u16> {
    let of = |answer: &HttpResponse| answer.status().as_u16();
    if let Some(ImdsError::ErrorResponse(refused)) = of_instance(error) {
        return Some(of(refused.response()));
    }
    causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<SdkError<TokenError, HttpResponse>>() {
            return error.raw_response().map(of);
        }
        // The SDK's provider for pods has it in a text only.
        let text = cause.to_string();
        let (_, status) = text.split_once("Non-success status")?.1.split_once('(')?;
        status.trim_end_matches(')').parse().ok()
    })
}
