//! Kinesis's errors by what is to be done about them.

use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::edge::kinesis::KinesisError;

/// Rates. For the calls made here LimitExceeded is one too; hard limits (consumers, reshards) are other calls'. The SDK knows
/// nothing of KMS's throttling and does not retry it.
const THROTTLED: [&str; 7] = [
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "TooManyRequestsException",
];
const KMS: [&str; 5] = [
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
];
const DENIED: [&str; 4] = [
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
];

/// Sorts an error by its code, and says operation, stream, code and the next step.
pub(super) fn classify<E, R>(operation: &str, stream: &str, error: &SdkError<E, R>) -> KinesisError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match error.code() {
        Some(code) => by_code(
            operation,
            stream,
            code,
            error.message().unwrap_or("no message"),
        ),
        None => KinesisError::Unavailable(format!(
            "{operation} of {stream}: {}",
            DisplayErrorContext(error)
        )),
    }
}

fn by_code(operation: &str, stream: &str, code: &str, message: &str) -> KinesisError {
    let told = format!("{operation} of {stream}: {code}: {message}");
    match code {
        code if THROTTLED.contains(&code) => KinesisError::Throttled(told),
        "ExpiredIteratorException" => KinesisError::ExpiredIterator(told),
        // An iterator that Kinesis cannot read any more is as good as an expired one.
        "InvalidArgumentException" if operation == "GetRecords" => {
            KinesisError::ExpiredIterator(told)
        }
        "InvalidArgumentException"
            if message
                .to_lowercase()
                .replace(' ', "")
                .contains("sequencenumber") =>
        {
            KinesisError::InvalidSequenceNumber(told)
        }
        "InvalidArgumentException" | "ValidationException" => KinesisError::Permanent(told),
        "ResourceNotFoundException" => KinesisError::NotFound(told),
        code if KMS.contains(&code) => KinesisError::Permanent(format!(
            "{told}. The stream is encrypted: check that its KMS key is enabled and that the worker may call kms:Decrypt on it"
        )),
        code if DENIED.contains(&code) => KinesisError::Permanent(format!(
            "{told}. Check the worker's credentials and that its policy allows kinesis:{operation} on this stream"
        )),
        _ => KinesisError::Unavailable(told),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "GetRecords",
        "ProvisionedThroughputExceededException",
        "Rate exceeded for shard",
        "throttled"
    )]
    #[case(
        "ListShards",
        "LimitExceededException",
        "Rate exceeded for stream",
        "throttled"
    )]
    #[case("GetRecords", "KMSThrottlingException", "Rate exceeded", "throttled")]
    #[case(
        "GetRecords",
        "ExpiredIteratorException",
        "Iterator expired.",
        "iterator expired"
    )]
    #[case(
        "GetRecords",
        "InvalidArgumentException",
        "Invalid ShardIterator.",
        "iterator expired"
    )]
    #[case(
        "GetShardIterator",
        "InvalidArgumentException",
        "StartingSequenceNumber 4959 used in GetShardIterator on shard shardId-0 is invalid.",
        "sequence number refused"
    )]
    #[case(
        "GetShardIterator",
        "InvalidArgumentException",
        "Timestamp is in the future",
        "GetShardIterator"
    )]
    #[case(
        "GetShardIterator",
        "ResourceNotFoundException",
        "Shard shardId-0 does not exist",
        "not found"
    )]
    #[case("GetRecords", "KMSDisabledException", "Key is disabled", "GetRecords")]
    #[case("ListShards", "AccessDeniedException", "not authorized", "ListShards")]
    #[case("ListShards", "InternalFailure", "", "ListShards")]
    fn codes_say_what_to_do(
        #[case] operation: &str,
        #[case] code: &str,
        #[case] message: &str,
        #[case] want: &str,
    ) {
        let error = by_code(operation, "orders", code, message);
        let text = error.to_string();
        assert!(
            text.starts_with(want) && text.contains(code) && text.contains("orders"),
            "{text}"
        );
        let waits = matches!(
            error,
            KinesisError::Throttled(_) | KinesisError::Unavailable(_)
        );
        let permanent = code.starts_with("AccessDenied") || code == "KMSDisabledException";
        assert!(!(waits && permanent), "{error:?}");
        assert_eq!(
            permanent,
            matches!(error, KinesisError::Permanent(_)) && !message.starts_with("Timestamp")
        );
    }
}
