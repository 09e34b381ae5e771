//! Keys whose values come by a variable of the consumer's pod, as `…FromEnv`.

use rstest::rstest;

use super::{KEYS, parse};

#[test]
fn a_key_may_come_by_a_variable() {
    let by_env = parse(
        &[
            ("streamNameFromEnv", " orders "),
            ("awsRegionFromEnv", "eu-west-1"),
            ("shardCountFromEnv", "3"),
            ("scaleOnFromEnv", "lag"),
            ("applicationNameFromEnv", "billing"),
            ("lagThresholdFromEnv", "90s"),
        ],
        None,
    );
    let plain = parse(
        &[
            ("streamName", "orders"),
            ("awsRegion", "eu-west-1"),
            ("shardCount", "3"),
            ("scaleOn", "lag"),
            ("applicationName", "billing"),
            ("lagThreshold", "90s"),
        ],
        None,
    );
    assert_eq!(by_env.unwrap(), plain.unwrap());
}

#[test]
fn each_key_is_taken_by_a_variable_and_refused_beside_it() {
    for key in KEYS {
        let by_env = format!("{}FromEnv", key.name);
        let both = [(key.name, "one"), (by_env.as_str(), "s3cret")];
        let error = parse(&both, None).unwrap_err().to_string();
        let want = format!("want either {} or {by_env}, not both", key.name);
        assert!(error.contains(&want), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[rstest]
#[case(
    &[("streamNameFromEnv", "my orders")],
    "streamName \"my orders\": want 1 to 128 of the characters a-z A-Z 0-9 _ . -; it came by streamNameFromEnv"
)]
#[case(&[("awsExternalIdFromEnv", "s3cret")], "awsExternalId: want awsRoleArn with it")]
#[case(&[("awsEndpointFromEnv", "http://me:s3cret@host")], "awsEndpoint: want an http or https URL")]
#[case(&[("streamname", "s3cret")], "want streamName where \"streamname\" stands")]
#[case(
    &[("STREAM_NAME_FROM_ENV", "s3cret")],
    "want streamNameFromEnv where \"STREAM_NAME_FROM_ENV\" stands"
)]
#[case(
    &[("streamName", "orders"), ("shardCount", "0"), ("scaleon", "lag")],
    "\nscaleOn: want scaleOn where \"scaleon\" stands"
)]
#[case(
    &[("streamName", "arn:aws:kinesis:eu-west-1:111122223333:stream/orders")],
    "an ARN goes into streamArn"
)]
#[case(&[("awsSecretAccessKeyFromEnv", "s3cret")], "awsSecretAccessKeyFromEnv: want no static credentials")]
fn what_is_wrong_is_named_and_no_secret(#[case] given: &[(&str, &str)], #[case] says: &str) {
    let error = parse(given, Some("eu-west-1")).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}
