//! The one table of AWS's error codes.
//!
//! From the API references of Kinesis Data Streams, DynamoDB, STS and KMS, their lists of common
//! errors, and what the SDK for Rust takes for throttling or transient (`aws-runtime`,
//! `retries/classifiers.rs`).

use crate::{Kind, Service, failure::Call};

const CODES: [(Kind, &str); 14] = [
    (Kind::NotFound, "ResourceNotFoundException"),
    (Kind::InUse, "ResourceInUseException"),
    (
        Kind::Denied,
        "AccessDeniedException AccessDenied NotAuthorized UnauthorizedOperation",
    ),
    // Waiting does not bring a key back: somebody must allow, enable or restore it.
    (
        Kind::Denied,
        "KMSAccessDeniedException KMSDisabledException KMSInvalidStateException KMSNotFoundException KMSOptInRequired",
    ),
    (
        Kind::ExpiredCredentials,
        "ExpiredToken ExpiredTokenException",
    ),
    (
        Kind::Unauthenticated,
        "UnrecognizedClientException InvalidClientTokenId InvalidAccessKeyId InvalidIdentityToken IDPCommunicationError \
         IDPRejectedClaim SignatureDoesNotMatch InvalidSignatureException IncompleteSignature \
         IncompleteSignatureException MissingAuthenticationToken MissingAuthenticationTokenException",
    ),
    // LimitExceeded is a rate for all calls made here, but for one: `limit_reached`.
    (
        Kind::Throttled,
        "LimitExceededException ProvisionedThroughputExceededException RequestLimitExceeded RequestThrottled \
         RequestThrottledException SlowDown Throttling ThrottlingException ThrottledException TooManyRequestsException \
         KMSThrottlingException Http429",
    ),
    // Two writers of one item at a time: in a transaction, or in two regions of a global table.
    // Nothing was written.
    (
        Kind::Throttled,
        "TransactionConflictException ReplicatedWriteConflictException",
    ),
    (Kind::Timeout, "RequestTimeout RequestTimeoutException"),
    (
        Kind::Unavailable,
        "InternalFailure InternalFailureException InternalServerError ServiceUnavailable ServiceUnavailableException",
    ),
    (Kind::Condition, "ConditionalCheckFailedException"),
    (Kind::ExpiredIterator, "ExpiredIteratorException"),
    (Kind::ExpiredToken, "ExpiredNextTokenException"),
    (Kind::Invalid, "ValidationException"),
];

/// What the code means as an answer to the call. `status`: of HTTP; it speaks where the code is
/// unknown.
pub(crate) fn kind(call: Call, code: &str, message: &str, status: u16) -> Kind {
    if limit_reached(call.1, code, message) {
        return Kind::LimitReached;
    }
    let mut rows = CODES.iter();
    match rows.find(|(_, codes)| codes.split(' ').any(|known| known == code)) {
        Some((kind, _)) => *kind,
        None if code == "InvalidArgumentException" && call.0 == Service::Kinesis => {
            invalid_argument(call.1, message)
        }
        None if status >= 500 => Kind::Unavailable,
        None => Kind::Unknown,
    }
}

/// A stream has 20 consumers at the most (50 where on-demand advantage is switched on): no waiting
/// mends that. The code is also that of the call's rate, of which AWS says so.
fn limit_reached(operation: &str, code: &str, message: &str) -> bool {
    operation == "RegisterStreamConsumer"
        && code == "LimitExceededException"
        && !message.to_lowercase().contains("rate exceeded")
}

/// Kinesis has one code for all that is wrong with an argument.
fn invalid_argument(operation: &str, message: &str) -> Kind {
    let message = message.to_lowercase().replace(' ', "");
    match operation {
        // An iterator that Kinesis cannot read any more is as good as an expired one.
        "GetRecords" => Kind::ExpiredIterator,
        "GetShardIterator" | "SubscribeToShard" if message.contains("sequencenumber") => {
            Kind::InvalidPosition
        }
        _ => Kind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    // What all programs agreed on.
    #[case("ResourceNotFoundException", 400, Kind::NotFound)]
    #[case("AccessDeniedException", 400, Kind::Denied)]
    #[case("LimitExceededException", 400, Kind::Throttled)]
    #[case("ProvisionedThroughputExceededException", 400, Kind::Throttled)]
    #[case("ThrottlingException", 400, Kind::Throttled)]
    #[case("RequestLimitExceeded", 400, Kind::Throttled)]
    #[case("UnrecognizedClientException", 400, Kind::Unauthenticated)]
    #[case("InternalFailure", 500, Kind::Unavailable)]
    // Throttling to the library, unknown to the others.
    #[case("TooManyRequestsException", 400, Kind::Throttled)]
    // Throttling to scaler and library, unknown to the consumer.
    #[case("Throttling", 400, Kind::Throttled)]
    #[case("KMSThrottlingException", 400, Kind::Throttled)]
    // Throttling to the scaler alone.
    #[case("SlowDown", 503, Kind::Throttled)]
    #[case("Http429", 429, Kind::Throttled)]
    // Throttling to the consumer, an outage to the library: nothing was written, so it is no
    // outage.
    #[case("TransactionConflictException", 400, Kind::Throttled)]
    #[case("ReplicatedWriteConflictException", 400, Kind::Throttled)]
    // A denial to the scaler and the library's lease table, an outage to its stream.
    #[case("NotAuthorized", 400, Kind::Denied)]
    // A denial to scaler and consumer, an outage to the library.
    #[case("AccessDenied", 403, Kind::Denied)]
    #[case("UnauthorizedOperation", 403, Kind::Denied)]
    // A denial to scaler and library, unknown to the consumer.
    #[case("KMSDisabledException", 400, Kind::Denied)]
    #[case("KMSOptInRequired", 400, Kind::Denied)]
    // Wrong credentials to scaler and consumer, an outage to the library.
    #[case("ExpiredTokenException", 400, Kind::ExpiredCredentials)]
    #[case("InvalidClientTokenId", 403, Kind::Unauthenticated)]
    #[case("IncompleteSignatureException", 400, Kind::Unauthenticated)]
    // Wrong credentials to the scaler alone.
    #[case("ExpiredToken", 403, Kind::ExpiredCredentials)]
    #[case("IncompleteSignature", 400, Kind::Unauthenticated)]
    #[case("SignatureDoesNotMatch", 403, Kind::Unauthenticated)]
    #[case("InvalidAccessKeyId", 403, Kind::Unauthenticated)]
    #[case("MissingAuthenticationToken", 403, Kind::Unauthenticated)]
    // A time-out to the scaler, an outage to the library, unknown to the consumer.
    #[case("RequestTimeout", 400, Kind::Timeout)]
    #[case("RequestTimeoutException", 408, Kind::Timeout)]
    // An outage to scaler and library; the consumer asked for the status.
    #[case("ValidationException", 400, Kind::Invalid)]
    #[case("SomethingNewException", 400, Kind::Unknown)]
    #[case("SomethingNewException", 503, Kind::Unavailable)]
    #[case("Http503", 503, Kind::Unavailable)]
    #[case("Http403", 403, Kind::Unknown)]
    fn codes_have_kinds(#[case] code: &str, #[case] status: u16, #[case] wanted: Kind) {
        for service in [Service::Kinesis, Service::DynamoDb, Service::Sts] {
            assert_eq!(
                kind((service, "Any"), code, "", status),
                wanted,
                "{service:?}"
            );
        }
    }

    #[rstest]
    #[case("GetRecords", "Invalid ShardIterator.", Kind::ExpiredIterator)]
    #[case(
        "GetShardIterator",
        "StartingSequenceNumber 4959 used in GetShardIterator on shard shardId-0 is invalid.",
        Kind::InvalidPosition
    )]
    #[case("GetShardIterator", "Invalid sequence number", Kind::InvalidPosition)]
    #[case("GetShardIterator", "Timestamp is in the future", Kind::Invalid)]
    #[case(
        "SubscribeToShard",
        "StartingSequenceNumber 4959 used in SubscribeToShard on shard shardId-0 is invalid.",
        Kind::InvalidPosition
    )]
    #[case("ListShards", "NextToken and StreamName", Kind::Invalid)]
    fn what_is_wrong_with_an_argument_depends_on_the_call(
        #[case] operation: &'static str,
        #[case] message: &str,
        #[case] wanted: Kind,
    ) {
        let code = "InvalidArgumentException";
        assert_eq!(
            kind((Service::Kinesis, operation), code, message, 400),
            wanted
        );
    }

    #[rstest]
    #[case(
        "RegisterStreamConsumer",
        "20 consumers are registered",
        Kind::LimitReached
    )]
    #[case(
        "RegisterStreamConsumer",
        "Rate exceeded for stream orders",
        Kind::Throttled
    )]
    #[case("SubscribeToShard", "1 call a second", Kind::Throttled)]
    fn a_cap_is_told_from_a_rate(
        #[case] operation: &'static str,
        #[case] message: &str,
        #[case] wanted: Kind,
    ) {
        let code = "LimitExceededException";
        let call = (Service::Kinesis, operation);
        assert_eq!(kind(call, code, message, 400), wanted);
    }
}
