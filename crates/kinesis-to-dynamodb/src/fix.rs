//! What mends what is missing or denied, as errors tell it: sentences. Pure.

use std::fmt;

use kinesis_edge::{Failure, Kind, Statement, partition, remedy_of_status};

/// What the consumer does with its stream.
pub(crate) const STREAM_ACTIONS: [&str; 3] = [
    "kinesis:ListShards",
    "kinesis:GetShardIterator",
    "kinesis:GetRecords",
];
/// What it does besides with each stream, where there are several.
pub(crate) const DESCRIBE_ACTIONS: [&str; 1] = ["kinesis:DescribeStreamSummary"];
/// What it does besides in its account, where streams are named by a pattern.
pub(crate) const LIST_ACTIONS: [&str; 1] = ["kinesis:ListStreams"];
/// What it does besides with its registered consumer, with enhanced fan-out.
pub(crate) const CONSUMER_ACTIONS: [&str; 2] =
    ["kinesis:DescribeStreamConsumer", "kinesis:SubscribeToShard"];
/// What it does besides with its stream, until the consumer is registered.
pub(crate) const REGISTER_ACTIONS: [&str; 2] = [
    "kinesis:DescribeStreamSummary",
    "kinesis:RegisterStreamConsumer",
];
/// What it does with the table for items, and the rejects table.
pub(crate) const TABLE_ACTIONS: [&str; 2] = ["dynamodb:DescribeTable", "dynamodb:PutItem"];
/// What it does with the lease table.
pub(crate) const LEASE_ACTIONS: [&str; 8] = [
    "dynamodb:CreateTable",
    "dynamodb:DescribeTable",
    "dynamodb:Scan",
    "dynamodb:GetItem",
    "dynamodb:BatchGetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
];

fn mend(command: fmt::Arguments<'_>) -> String {
    format!("Mend it with: {command}")
}

/// Makes the stream.
pub(crate) fn create_stream(stream: &str, region: &str) -> String {
    mend(format_args!(
        "aws kinesis create-stream --stream-name {stream} --shard-count 2 --region {region}"
    ))
}

/// Waits until the stream can be read.
pub(crate) fn wait_for_stream(stream: &str, region: &str) -> String {
    mend(format_args!(
        "aws kinesis wait stream-exists --stream-name {stream} --region {region}"
    ))
}

/// What a table of this status, which cannot be used, needs.
pub(crate) fn of_status(status: &str) -> String {
    remedy_of_status(status).to_owned()
}

/// Makes a table for items.
pub(crate) fn create_table(table: &str, key: &str, region: &str) -> String {
    mend(format_args!(
        "aws dynamodb create-table --table-name {table} --attribute-definitions AttributeName={key},AttributeType=S \
         --key-schema AttributeName={key},KeyType=HASH --billing-mode PAY_PER_REQUEST --region {region}"
    ))
}

/// Makes a table for rejects.
pub(crate) fn create_rejects_table(table: &str, region: &str) -> String {
    mend(format_args!(
        "aws dynamodb create-table --table-name {table} --attribute-definitions AttributeName=record,AttributeType=S \
         AttributeName=part,AttributeType=N --key-schema AttributeName=record,KeyType=HASH AttributeName=part,KeyType=RANGE \
         --billing-mode PAY_PER_REQUEST --region {region}"
    ))
}

/// Lets the consumer's role do `actions`.
pub(crate) fn allow(actions: &[&str], resource: &str) -> String {
    let actions = actions
        .iter()
        .map(|action| format!("\"{action}\""))
        .collect::<Vec<_>>()
        .join(",");
    mend(format_args!(
        "aws iam put-role-policy --role-name <the consumer's role> --policy-name kinesis-to-dynamodb --policy-document \
         '{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":[{actions}],\"Resource\":\"{resource}\"}}]}}'"
    ))
}

/// What mends a failure that is a matter of identity or permission, as a sentence; `None`: it is
/// none. `actions`: all that are needed on `resource`.
pub(crate) fn of_failure(failure: &Failure, actions: &[&str], resource: &str) -> Option<String> {
    if let Some(remedy) = failure.remedy(resource) {
        let Some(Statement { action, resource }) = remedy.statement else {
            return Some(remedy.text);
        };
        let actions = match actions.contains(&action.as_str()) {
            true => actions,
            false => &[action.as_str()],
        };
        return Some(allow(actions, &resource));
    }
    match failure.kind {
        Kind::NoCredentials => Some(mend(format_args!(
            "a role for the pod's service account (IRSA or EKS Pod Identity); see who this process is with: {WHO_AM_I}"
        ))),
        Kind::Unauthenticated | Kind::ExpiredCredentials => Some(format!(
            "Correct or renew the credentials of this process, and see that the region is enabled for its account; see \
             who it is with: {WHO_AM_I}"
        )),
        _ => None,
    }
}

/// What mends a failure that is a matter of the way to AWS, or of AWS.
pub(crate) fn of_the_way(failure: &Failure) -> String {
    match failure.kind {
        Kind::Throttled => {
            "Start again in a minute: AWS throttles such calls for the whole account".to_owned()
        }
        _ if failure.code == "UntrustedCertificate" => {
            "See who answers there, such as a proxy that ends TLS".to_owned()
        }
        Kind::Timeout | Kind::Unavailable => mend(format_args!(
            "a network path from here to AWS; try it with: {WHO_AM_I}"
        )),
        _ => "See what answers at the endpoint".to_owned(),
    }
}

/// Says who this process is to AWS.
const WHO_AM_I: &str = "aws sts get-caller-identity";

/// A table's ARN, in whatever account the caller is.
pub(crate) fn table_arn(table: &str, region: &str) -> String {
    let partition = partition(region);
    format!("arn:{partition}:dynamodb:{region}:*:table/{table}")
}

/// The ARNs of the stream's registered consumers, which end in a time.
pub(crate) fn consumer_arn(stream: &str, region: &str) -> String {
    format!("{}/consumer/*", stream_arn(stream, region))
}

/// The stream's ARN.
pub(crate) fn stream_arn(stream: &str, region: &str) -> String {
    if stream.starts_with("arn:") {
        stream.to_owned()
    } else {
        let partition = partition(region);
        format!("arn:{partition}:kinesis:{region}:*:stream/{stream}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_and_the_example_policy_have_every_permission() {
        let readme = include_str!("../README.md");
        let permissions = readme.split("## Permissions").nth(1).unwrap_or_default();
        let (others, leases) = permissions.split_once("on the lease table").unwrap();
        let policy = include_str!("../../../examples/iam/consumer-policy.json");
        let fan_out = include_str!("../../../examples/iam/consumer-fan-out-policy.json");
        let streams = include_str!("../../../examples/iam/consumer-streams-policy.json");
        let policy = [policy, fan_out, streams].concat();
        for (text, actions) in [
            (others, &STREAM_ACTIONS[..]),
            (others, &DESCRIBE_ACTIONS),
            (others, &LIST_ACTIONS),
            (others, &CONSUMER_ACTIONS),
            (others, &REGISTER_ACTIONS),
            (others, &TABLE_ACTIONS),
            (leases, &LEASE_ACTIONS),
        ] {
            for action in actions {
                let (_, call) = action.split_once(':').unwrap();
                assert!(
                    text.contains(&format!("`{call}`")) || text.contains(&format!("`{action}`")),
                    "README: {action}"
                );
                assert!(
                    policy.contains(&format!("\"{action}\"")),
                    "example policy: {action}"
                );
            }
        }
    }
}
