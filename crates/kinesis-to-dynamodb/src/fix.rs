//! The commands that mend what is missing, as they are told in errors. Pure.

use kinesis_edge::{Failure, Kind};

/// What the consumer does with its stream.
pub(crate) const STREAM_ACTIONS: [&str; 3] = [
    "kinesis:ListShards",
    "kinesis:GetShardIterator",
    "kinesis:GetRecords",
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

/// Makes the stream.
pub(crate) fn create_stream(stream: &str, region: &str) -> String {
    format!("aws kinesis create-stream --stream-name {stream} --shard-count 2 --region {region}")
}

/// Waits until the stream can be read.
pub(crate) fn wait_for_stream(stream: &str, region: &str) -> String {
    format!("aws kinesis wait stream-exists --stream-name {stream} --region {region}")
}

/// Makes a table for items.
pub(crate) fn create_table(table: &str, key: &str, region: &str) -> String {
    format!(
        "aws dynamodb create-table --table-name {table} --attribute-definitions AttributeName={key},AttributeType=S \
         --key-schema AttributeName={key},KeyType=HASH --billing-mode PAY_PER_REQUEST --region {region}"
    )
}

/// Makes a table for rejects.
pub(crate) fn create_rejects_table(table: &str, region: &str) -> String {
    format!(
        "aws dynamodb create-table --table-name {table} --attribute-definitions AttributeName=record,AttributeType=S \
         AttributeName=part,AttributeType=N --key-schema AttributeName=record,KeyType=HASH AttributeName=part,KeyType=RANGE \
         --billing-mode PAY_PER_REQUEST --region {region}"
    )
}

/// Lets the consumer's role do `actions`.
pub(crate) fn allow(actions: &[&str], resource: &str) -> String {
    let actions = actions
        .iter()
        .map(|action| format!("\"{action}\""))
        .collect::<Vec<_>>()
        .join(",");
    format!(
        "aws iam put-role-policy --role-name <the consumer's role> --policy-name kinesis-to-dynamodb --policy-document \
         '{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":[{actions}],\"Resource\":\"{resource}\"}}]}}'"
    )
}

/// What mends a failure that is a matter of identity or permission; `None`: it is none.
pub(crate) fn of_failure(failure: &Failure, actions: &[&str], resource: &str) -> Option<String> {
    match failure.kind {
        _ if failure.is_of_credentials() => Some(an_identity()),
        Kind::Denied => Some(allow(actions, resource)),
        Kind::NoCredentials | Kind::Unauthenticated | Kind::ExpiredCredentials => {
            Some(an_identity())
        }
        _ => None,
    }
}

/// What mends a call that AWS did not do for another reason than identity or permission.
pub(crate) fn of_reaching_aws(kind: Kind) -> String {
    match kind {
        Kind::Throttled => {
            "patience: AWS throttles such calls for the whole account; start again in a minute"
                .to_owned()
        }
        Kind::Timeout | Kind::Unavailable | Kind::Senseless => {
            format!("a network path from here to AWS; try it with: {WHO_AM_I}")
        }
        _ => "what AWS says there".to_owned(),
    }
}

/// Says who this process is to AWS.
pub(crate) const WHO_AM_I: &str = "aws sts get-caller-identity";

/// Gives this process an identity.
fn an_identity() -> String {
    format!(
        "a role for the pod's service account (IRSA or EKS Pod Identity); see who this process is with: {WHO_AM_I}"
    )
}

/// A table's ARN, in whatever account the caller is.
pub(crate) fn table_arn(table: &str, region: &str) -> String {
    format!("arn:aws:dynamodb:{region}:*:table/{table}")
}

/// The stream's ARN.
pub(crate) fn stream_arn(stream: &str, region: &str) -> String {
    if stream.starts_with("arn:") {
        stream.to_owned()
    } else {
        format!("arn:aws:kinesis:{region}:*:stream/{stream}")
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
        for (text, actions) in [
            (others, &STREAM_ACTIONS[..]),
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
