//! The failures of credentials, and of STS for them, behind an operation's.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::{
    assume_role::AssumeRoleError, assume_role_with_web_identity::AssumeRoleWithWebIdentityError,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{Failure, Kind, Service, causes, of_call, unreached};
use crate::credentials::{Nobody, Silent, Trouble};

/// The error of the credentials, if that is why the call was not sent.
pub(super) fn of_credentials(
    operation: &'static str,
    error: &(dyn StdError + 'static),
) -> Option<Failure> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    let call = (Service::Credentials, operation);
    if let Some(failure) = causes(found).find_map(|cause| of_sts(operation, cause)) {
        return Some(failure);
    }
    if let Some(silent) = causes(found).find_map(|cause| cause.downcast_ref::<Silent>()) {
        let message = silent.to_string();
        let (kind, code) = (Kind::Timeout, "CredentialsTimeout");
        return Some(Failure::new(call, kind, code, &message));
    }
    if let Some((kind, code, message)) = unreached(found) {
        return Some(Failure::new(call, kind, code, &message));
    }
    let cause = causes_in_words(found);
    let nobody = causes(found).find_map(|cause| cause.downcast_ref::<Nobody>());
    let nobody = nobody.map_or_else(|| Nobody::default().to_string(), ToString::to_string);
    let is_trouble = causes(found).any(|cause| cause.is::<Trouble>());
    let (kind, code, message) = match found {
        CredentialsError::CredentialsNotLoaded(_) => {
            (Kind::NoCredentials, "NoCredentials", &*nobody)
        }
        CredentialsError::ProviderTimedOut(_) => (Kind::Timeout, "CredentialsTimeout", &*cause),
        _ if is_trouble => (Kind::Unavailable, "CredentialsUnavailable", &*cause),
        _ => (Kind::Unauthenticated, "CredentialsFailed", &*cause),
    };
    Some(Failure::new(call, kind, code, message))
}

/// The error of a call to STS, asked for credentials for `operation`.
fn of_sts(operation: &'static str, cause: &(dyn StdError + 'static)) -> Option<Failure> {
    fn assumed<E>(
        call: &'static str,
        operation: &'static str,
        cause: &(dyn StdError + 'static),
    ) -> Option<Failure>
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let error = cause.downcast_ref::<SdkError<E, HttpResponse>>()?;
        // Credentials that STS itself was to be asked with are the operation's, too.
        let failure = of_credentials(operation, error);
        Some(failure.unwrap_or_else(|| of_call((Service::Sts, call), error)))
    }
    let senseless = || cause.downcast_ref::<Failure>().cloned();
    let web = "AssumeRoleWithWebIdentity";
    assumed::<AssumeRoleError>("AssumeRole", operation, cause)
        .or_else(|| assumed::<AssumeRoleWithWebIdentityError>(web, operation, cause))
        .or_else(senseless)
}

/// The causes of a credentials' error, first to last, without the SDK's words for its kind.
pub(crate) fn causes_in_words(error: &CredentialsError) -> String {
    let causes = causes(error).filter(|cause| !cause.is::<CredentialsError>());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
