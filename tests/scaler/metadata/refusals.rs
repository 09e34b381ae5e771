//! What is refused, and in which words.

use rstest::rstest;

use super::{ARN, parse, refusal, trigger};

#[rstest]
#[case(&[("shardCount", "0")], "shardCount \"0\": want a whole number from 1 to 9223372036854775807, such as 2")]
#[case(&[("shardCount", "-0")], "shardCount \"-0\": want a whole number from 1")]
#[case(&[("shardCount", "\u{feff}2")], "shardCount \"\\u{feff}2\": want a whole number")]
#[case(&[("shardCount", "9223372036854775808")], "shardCount \"9223372036854775808\": want a whole number from 1 to")]
#[case(&[("activationShardCount", "1.5")], "activationShardCount \"1.5\": want a whole number within int64, such as 0 or 5")]
#[case(&[("streamName", "a b")], "streamName \"a b\": want 1 to 128 of the characters a-z A-Z 0-9 _ . -")]
#[case(&[("streamName", " ")], "streamName: want the stream's name, or its ARN in streamArn")]
#[case(&[("streamArn", ARN)], "streamName \"orders\": want either streamName or streamArn, not both")]
#[case(&[("awsRegion", "moon")], "awsRegion \"moon\": want a region, such as eu-west-1")]
#[case(&[("awsEndpoint", "localhost:4566")], "awsEndpoint \"localhost:4566\": want an http or https URL")]
#[case(&[("awsRoleArn", "keda")], "awsRoleArn \"keda\": want the ARN of an IAM role, arn:aws:iam::ACCOUNT:role/NAME")]
#[case(&[("awsExternalId", "abc")], "awsExternalId: want awsRoleArn with it: it is for assuming a role")]
#[case(&[("scaleOn", "Lag")], "scaleOn \"Lag\": want openShards, readableShards or lag")]
#[case(&[("scaleOn", "lag")], "applicationName: want the name that the application's consumers are configured with: scaleOn asks about its work")]
#[case(&[("applicationName", "billing")], "applicationName \"billing\": want scaleOn readableShards or lag with it, or no such key: openShards asks about the stream alone")]
#[case(&[("lagThreshold", "30s")], "lagThreshold \"30s\": want scaleOn lag with it")]
#[case(&[("scaleOn", "readableShards"), ("applicationName", "billing"), ("activationLagThreshold", "1")], "activationLagThreshold \"1\": want scaleOn lag with it")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("activationShardCount", "1")], "activationShardCount \"1\": want activationLagThreshold with scaleOn lag: it is a record's age that activates")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("lagThreshold", "0")], "lagThreshold \"0\": want a duration from 1s to 7d, such as 45s or 2m, or a number of seconds")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("lagThreshold", "soon")], "lagThreshold \"soon\": want a duration from 1s to 7d, such as 45s or 2m, or a number of seconds")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("activationLagThreshold", "8d")], "activationLagThreshold \"8d\": want a duration from 0s to 7d, such as 45s or 2m, or a number of seconds")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("onMissingTable", "wait")], "onMissingTable \"wait\": want activate, idle or error")]
#[case(&[("scaleOn", "lag"), ("applicationName", "my billing")], "applicationName \"my billing\": want 3 to 255 of the characters a-z A-Z 0-9 _ . -, as DynamoDB has it")]
#[case(&[("scaleOn", "lag"), ("applicationName", "my billing"), ("leaseTable", "b")], "leaseTable \"b\": want 3 to 255 of the characters a-z A-Z 0-9 _ . -, as DynamoDB has it")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("leaseTable", "arn:aws:dynamodb:eu-west-1:111122223333:table/billing/index/i")], "leaseTable \"arn:aws:dynamodb:eu-west-1:111122223333:table/billing/index/i\": want a table's name or ARN, arn:aws:dynamodb:REGION:ACCOUNT:table/NAME; this is an ARN of something of the table: leave out \"/index/…\"")]
#[case(&[("scaleOn", "lag"), ("applicationName", "arn:aws:dynamodb:eu-west-1:111122223333:table/billing")], "applicationName \"arn:aws:dynamodb:eu-west-1:111122223333:table/billing\": want 3 to 255")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("leaseTable", "arn:aws:dynamodb:eu-west-1:111122223333:table/billing"), ("leaseTableRegion", "eu-west-2")], "leaseTableRegion \"eu-west-2\": want the region of leaseTable, eu-west-1, or nothing")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("leaseTableRegion", "here")], "leaseTableRegion \"here\": want a region, such as eu-west-1")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("leaseTableRoleArn", "keda")], "leaseTableRoleArn \"keda\": want the ARN of an IAM role, arn:aws:iam::ACCOUNT:role/NAME, or none: the scaler's own identity")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("leaseTableExternalId", "abc")], "leaseTableExternalId: want leaseTableRoleArn with it: it is for assuming a role")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("leaseTableRoleArn", "none"), ("leaseTableExternalId", "abc")], "leaseTableExternalId: want leaseTableRoleArn with it: it is for assuming a role")]
#[case(&[("leaseTableExternalId", "abc")], "leaseTableExternalId: want scaleOn readableShards or lag with it")]
#[case(&[("scaleOn", "readableShards"), ("applicationName", "billing"), ("initialTimestamp", "2026-11-30T08:00:00Z")], "initialTimestamp \"2026-11-30T08:00:00Z\": want scaleOn lag with it")]
#[case(&[("scaleOn", "lag"), ("applicationName", "billing"), ("initialTimestamp", "2026-11-30T08:00:00")], "initialTimestamp \"2026-11-30T08:00:00\": want a time with its offset from UTC, such as 2026-11-30T08:00:00Z")]
#[case(&[("awsAccessKeyID", "AKIA")], "awsAccessKeyID: want no static credentials: the scaler has its own identity; name a role in awsRoleArn")]
fn one_line_for_a_wrong_key(#[case] pairs: &[(&str, &str)], #[case] line: &str) {
    let text = refusal(trigger(pairs));
    assert!(text.starts_with(line) && !text.contains('\n'), "{text}");
}

#[rstest]
#[case(&[("streamName", "")], None, &["streamName: want", "awsRegion: want the stream's region, such as eu-west-1: neither"])]
#[case(&[("streamArn", "arn:aws:sqs:eu-west-1:111122223333:orders")], None, &["streamArn \"arn:aws:sqs:eu-west-1:111122223333:orders\": want a stream's ARN, arn:aws:kinesis:REGION:ACCOUNT:stream/NAME; this is an ARN of another service, \"sqs\""])]
#[case(&[("streamArn", ARN), ("awsRegion", "eu-west-2")], None, &["awsRegion \"eu-west-2\": want the region of streamArn, eu-west-1, or nothing"])]
#[case(
    &[("shardCount", "x"), ("activationShardCount", "y"), ("scaleOn", "z"), ("awsEndpoint", "e"), ("awsRoleArn", "r"), ("awsExternalId", "i")],
    Some("eu-west-1"),
    &["scaleOn", "shardCount", "activationShardCount", "streamName", "awsEndpoint", "awsExternalId", "awsRoleArn"]
)]
fn all_wrong_keys_at_once(
    #[case] pairs: &[(&str, &str)],
    #[case] default: Option<&str>,
    #[case] lines: &[&str],
) {
    let text = refusal(parse(pairs, default));
    let said: Vec<_> = text.lines().collect();
    assert_eq!(said.len(), lines.len(), "{text}");
    for (said, wanted) in said.iter().zip(lines) {
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn a_value_is_repeated_escaped_and_short() {
    let text = refusal(trigger(&[(
        "streamName",
        &format!("\u{1b}[31m\n{}", "x".repeat(5_000_000)),
    )]));
    assert!(
        text.starts_with("streamName \"\\u{1b}[31m\\nxxx") && text.len() < 200,
        "{text}"
    );
}

#[rstest]
fn secrets_are_never_repeated(
    #[values(
        ("awsAccessKeyID", "s3cret"),
        ("awsAccessKeyId", "s3cret"),
        ("awsSecretAccessKey", "s3cret"),
        ("awsSessionToken", "s3cret"),
        ("awsAccessKeyIDFromEnv", "s3cret"),
        ("awsSecretAccessKeyFromEnv", "s3cret"),
        ("awsSessionTokenFromEnv", "s3cret"),
        ("awsExternalId", "s3cret"),
        ("awsExternalId", "s3cret s3cret"),
        ("leaseTableExternalId", "s3cret"),
        ("leaseTableExternalId", "s3cret s3cret"),
        ("awsEndpoint", "http://user:s3cret@host"),
    )]
    pair: (&str, &str),
) {
    for role in ["", "arn:aws:iam::111122223333:role/keda", "nonsense"] {
        let lag = [("scaleOn", "lag"), ("applicationName", "billing")];
        let roles = [("awsRoleArn", role), ("leaseTableRoleArn", role), pair];
        for pairs in [&roles[..], &[&lag[..], &roles].concat()] {
            match trigger(pairs) {
                Ok(trigger) => assert!(!format!("{trigger:?}").contains("s3cret")),
                Err(error) => assert!(!format!("{error} {error:?}").contains("s3cret")),
            }
        }
    }
}
