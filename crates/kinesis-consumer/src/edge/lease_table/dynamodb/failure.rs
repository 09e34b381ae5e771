//! DynamoDB's errors by what is to be done about them.

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::edge::lease_table::TableError;

const THROTTLED: [&str; 6] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "LimitExceededException",
    "TooManyRequestsException",
];
const DENIED: [&str; 5] = [
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
];

/// Sorts an error by its code, and says operation, table, code and the next step.
pub(super) fn classify<E, R>(operation: &str, table: &str, error: &SdkError<E, R>) -> TableError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let Some(code) = error.code() else {
        return TableError::Unavailable(format!(
            "{operation} on {table}: {}",
            DisplayErrorContext(error)
        ));
    };
    let told = format!(
        "{operation} on {table}: {code}: {}",
        error.message().unwrap_or("no message")
    );
    match code {
        code if THROTTLED.contains(&code) => TableError::Throttled(told),
        code if DENIED.contains(&code) => TableError::Permanent(format!(
            "{told}. Check the worker's credentials and that its policy allows dynamodb:{operation} on this table"
        )),
        "ResourceNotFoundException" => TableError::Permanent(format!(
            "{told}. The table was deleted while the worker ran; restart the worker to create it anew"
        )),
        "ValidationException" => TableError::Permanent(format!(
            "{told}. Is it a lease table, with key leaseKey (S)?"
        )),
        _ => TableError::Unavailable(told),
    }
}
