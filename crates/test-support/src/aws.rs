//! SDK clients of services on this machine.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};

/// The region of most tests.
pub const REGION: &str = "us-east-1";
/// The access key of the tests' own calls.
pub const ACCESS_KEY: &str = "AKIDTEST";

/// Static keys, which no embedded service refuses.
pub fn credentials(access_key: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(access_key, "secret", None, None, "test"))
}

/// The tests' identity at this endpoint. Change what differs with `into_builder`.
pub fn config(endpoint: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(credentials(ACCESS_KEY))
        .endpoint_url(endpoint)
        .build()
}

/// A client of the Kinesis at this endpoint.
pub fn kinesis(endpoint: &str) -> aws_sdk_kinesis::Client {
    aws_sdk_kinesis::Client::new(&config(endpoint))
}

/// A client of the DynamoDB at this endpoint.
pub fn dynamodb(endpoint: &str) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&config(endpoint))
}
