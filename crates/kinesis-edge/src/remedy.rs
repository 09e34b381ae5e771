//! What mends a denied call. AWS's own words decide: a statement helps only where an identity
//! policy lacks one.

use std::fmt;

use serde_json::json;

use crate::{Denial, Failure, Policy, Service};

/// Who must change what.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Remedy {
    /// A sentence without its full stop.
    pub text: String,
    /// What the policies of the identity lack, where that is the cause.
    pub statement: Option<Statement>,
}

/// A statement of an IAM policy. Its `Display` is JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    /// The action to allow, such as `kinesis:ListShards`.
    pub action: String,
    /// On what: the whole ARN, where AWS gave it.
    pub resource: String,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, resource } = self;
        let (action, resource) = (json!(action), json!(resource));
        write!(
            f,
            r#"{{"Effect":"Allow","Action":[{action}],"Resource":[{resource}]}}"#
        )
    }
}

impl Failure {
    /// What mends it, if it is a denial, or signed by a wrong clock. `resource`: the ARN of what
    /// was asked for, where AWS names none.
    pub fn remedy(&self, resource: &str) -> Option<Remedy> {
        let Some(denial) = self.denial.as_deref() else {
            return clock(&self.message);
        };
        let action = denial.action.clone().unwrap_or_else(|| match denial.key {
            true => "kms:Decrypt".to_owned(),
            false => format!("{}:{}", prefix(self.service), self.operation),
        });
        let thing = match action.split_once(':') {
            Some(("kinesis", _)) => "stream",
            Some(("dynamodb", _)) => "table",
            Some(("kms", _)) => "key",
            Some(("sts", _)) => "role",
            _ => "resource",
        };
        let resource = match (&denial.resource, thing) {
            (Some(named), _) => named.clone(),
            (None, "stream" | "table") => resource.to_owned(),
            (None, _) => format!("<the {thing}'s ARN>"),
        };
        let statement = Statement { action, resource };
        if denial.policy == Some(Policy::Identity) && !denial.explicit {
            return Some(Remedy {
                text: format!("Add to a policy of the identity that asks: {statement}"),
                statement: Some(statement),
            });
        }
        let text = match denial.policy {
            Some(policy) => change(policy, denial.explicit, &statement.action, thing),
            None => key_state(&self.code)
                .map_or_else(|| candidates(denial, &statement, thing), str::to_owned),
        };
        Some(Remedy {
            text,
            statement: None,
        })
    }
}

/// AWS takes what was signed within five minutes of its own time.
fn clock(message: &str) -> Option<Remedy> {
    let is_off = message.starts_with("Signature expired") || message.contains("not yet current");
    is_off.then(|| Remedy {
        text: "Set the clock of this machine: AWS's is another".to_owned(),
        statement: None,
    })
}

fn prefix(service: Service) -> &'static str {
    match service {
        Service::Kinesis => "kinesis",
        Service::DynamoDb => "dynamodb",
        Service::Sts | Service::Credentials => "sts",
    }
}

/// Whose the policy is that AWS names, and what must become of it.
fn change(policy: Policy, explicit: bool, action: &str, thing: &str) -> String {
    let does = if explicit { "denies" } else { "does not allow" };
    match policy {
        Policy::Identity => format!(
            "A policy of the identity that asks {does} {action}: its author must narrow or remove that Deny, another Allow \
             does not help"
        ),
        Policy::Resource if explicit => format!(
            "The {thing}'s own policy {does} {action}: the {thing}'s owner must narrow or remove that Deny"
        ),
        Policy::Resource => format!(
            "The {thing}'s own policy {does} {action} to the identity that asks: the {thing}'s owner must add it; from \
             another account a policy of the identity must allow it, too"
        ),
        Policy::RoleTrust if explicit => format!(
            "The role's trust policy {does} {action}: the role's owner must narrow or remove that Deny"
        ),
        Policy::RoleTrust => format!(
            "The role's trust policy {does} {action} to the identity that asks: the role's owner must name it there, with \
             the external id if one is asked for"
        ),
        Policy::Session => format!(
            "The session policy {does} {action}: it must be changed where the role's session starts, such as in an EKS Pod \
             Identity association"
        ),
        Policy::PermissionsBoundary => format!(
            "The permissions boundary of the identity that asks {does} {action}: whoever sets boundaries in its account must \
             change it, another policy of the identity does not help"
        ),
        Policy::ServiceControl => format!(
            "A service control policy of the organization {does} {action}: the organization's administrators must change \
             it, no policy of the account helps"
        ),
        Policy::ResourceControl => format!(
            "A resource control policy of the organization that owns the {thing} {does} {action}: that organization's \
             administrators must change it"
        ),
        Policy::VpcEndpoint => format!(
            "The policy of the VPC endpoint on the way {does} {action}: the endpoint's owner must change it"
        ),
    }
}

/// What the owner of a key must do that is not a matter of policies.
fn key_state(code: &str) -> Option<&'static str> {
    Some(match code {
        "KMSDisabledException" => "The key's owner must enable it",
        "KMSInvalidStateException" => {
            "The key's owner must see its state: cancel its deletion, or import its material"
        }
        "KMSNotFoundException" => {
            "The stream names a key that is gone: records under it are lost, give the stream another key"
        }
        "KMSOptInRequired" => "The key's owner must subscribe the account to KMS",
        _ => return None,
    })
}

/// Where AWS does not say what stands in the way: all that may, the likely first.
fn candidates(denial: &Denial, statement: &Statement, thing: &str) -> String {
    let Statement { action, resource } = statement;
    if denial.explicit {
        return format!(
            "AWS does not say which policy denies {action}: see the Deny statements of the identity's policies and its \
             permissions boundary, of the organization's control policies, of the {thing}'s own policy, and of a VPC \
             endpoint on the way"
        );
    }
    match action.as_str() {
        "sts:AssumeRoleWithWebIdentity" => {
            "See that the role's trust policy names the cluster's OIDC provider, this service account (sub) and the token's \
             audience (aud)"
                .to_owned()
        }
        "sts:AssumeRole" => format!(
            "See that the role's trust policy names the identity that asks, with the external id if one is asked for, and \
             that a policy of that identity allows sts:AssumeRole on {resource}"
        ),
        _ if thing == "key" => format!(
            "AWS does not say what denies {action}: see that the key is enabled and in this region, that its key policy \
             allows it to the identity that asks, that a policy of the identity does, and the organization's control policies"
        ),
        _ => format!(
            "AWS does not say what denies {action} on {resource}: see that a policy of the identity that asks allows it, \
             that its permissions boundary and the organization's service control policies do, and the {thing}'s own policy \
             and that of a VPC endpoint on the way"
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::Kind;

    const STREAM: &str = "arn:aws-us-gov:kinesis:us-gov-west-1:777788889999:stream/orders";
    const ASKED: &str = "arn:aws:kinesis:eu-west-1:*:stream/orders";

    fn remedy(service: Service, operation: &'static str, code: &str, message: &str) -> Remedy {
        let failure = Failure::new((service, operation), Kind::Denied, code, message);
        failure.remedy(ASKED).unwrap()
    }

    fn listed(why: &str) -> Remedy {
        let message = format!(
            "User: arn:aws:sts::777788889999:assumed-role/scaler/1 is not authorized to perform: kinesis:ListShards on \
             resource: {STREAM} {why}"
        );
        remedy(
            Service::Kinesis,
            "ListShards",
            "AccessDeniedException",
            &message,
        )
    }

    #[rstest]
    #[case(
        "because no identity-based policy allows the kinesis:ListShards action",
        true,
        "a policy of the identity"
    )]
    #[case(
        "with an explicit deny in an identity-based policy",
        false,
        "another Allow does not help"
    )]
    #[case(
        "because no resource-based policy allows the kinesis:ListShards action",
        false,
        "the stream's owner must add it"
    )]
    #[case(
        "with an explicit deny in a resource-based policy",
        false,
        "stream's own policy denies"
    )]
    #[case(
        "because no session policy allows the kinesis:ListShards action",
        false,
        "where the role's session starts"
    )]
    #[case(
        "because no permissions boundary allows the kinesis:ListShards action",
        false,
        "whoever sets boundaries"
    )]
    #[case(
        "with an explicit deny in a service control policy: arn:aws:organizations::1:policy/o-1/service_control_policy/p-1",
        false,
        "organization's administrators"
    )]
    #[case(
        "with an explicit deny in a resource control policy",
        false,
        "organization that owns the stream"
    )]
    #[case(
        "because no VPC endpoint policy allows the kinesis:ListShards action",
        false,
        "the endpoint's owner"
    )]
    #[case("with an explicit deny", false, "does not say which policy denies")]
    #[case(
        "",
        false,
        "does not say what denies kinesis:ListShards on arn:aws-us-gov:"
    )]
    fn who_must_change_what(#[case] why: &str, #[case] is_missing: bool, #[case] wanted: &str) {
        let Remedy { text, statement } = listed(why);
        assert!(text.contains(wanted), "{text}");
        let missing = is_missing.then(|| Statement {
            action: "kinesis:ListShards".to_owned(),
            resource: STREAM.to_owned(),
        });
        assert_eq!(statement, missing);
        assert_eq!(text.contains("\"Allow\""), is_missing, "{text}");
    }

    #[rstest]
    #[case(
        "KMSAccessDeniedException",
        "User: arn:aws:iam::777788889999:user/a is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:777788889999:key/1 because no identity-based policy allows the kms:Decrypt action",
        "[\"kms:Decrypt\"],\"Resource\":[\"arn:aws:kms:eu-west-1:777788889999:key/1\"]"
    )]
    #[case(
        "AccessDeniedException",
        "User: arn:aws:iam::777788889999:user/a is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:777788889999:key/1 because no resource-based policy allows the kms:Decrypt action",
        "The key's own policy"
    )]
    #[case(
        "KMSAccessDeniedException",
        "User arn:aws:iam::777788889999:user/a is not authorized to decrypt records in stream 777788889999:orders:1",
        "its key policy"
    )]
    #[case(
        "KMSDisabledException",
        "arn:aws:kms:eu-west-1:777788889999:key/1 is disabled.",
        "must enable it"
    )]
    #[case(
        "KMSInvalidStateException",
        "arn:aws:kms:eu-west-1:777788889999:key/1 is pending deletion.",
        "cancel its deletion"
    )]
    fn keys(#[case] code: &str, #[case] message: &str, #[case] wanted: &str) {
        let text = remedy(Service::Kinesis, "GetRecords", code, message).text;
        assert!(text.contains(wanted), "{text}");
    }

    #[rstest]
    #[case(
        "AssumeRoleWithWebIdentity",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        "OIDC provider"
    )]
    #[case(
        "AssumeRole",
        "User: arn:aws:iam::1:user/a is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::2:role/b",
        "allows sts:AssumeRole on arn:aws:iam::2:role/b"
    )]
    #[case(
        "AssumeRole",
        "User: arn:aws:iam::1:user/a is not authorized to perform: sts:AssumeRole because no role trust policy allows the sts:AssumeRole action",
        "must name it there"
    )]
    #[case(
        "AssumeRole",
        "User: arn:aws:iam::1:user/a is not authorized to perform: sts:AssumeRole because no identity-based policy allows the sts:AssumeRole action",
        "<the role's ARN>"
    )]
    fn roles(#[case] operation: &'static str, #[case] message: &str, #[case] wanted: &str) {
        let text = remedy(Service::Sts, operation, "AccessDenied", message).text;
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn a_wrong_clock_is_told_as_that() {
        let message = "Signature expired: 20261130T000000Z is now earlier than 20261130T001000Z \
                       (20261130T001500Z - 5 min.)";
        let call = (Service::Kinesis, "ListShards");
        let kind = Kind::Unauthenticated;
        let failure = Failure::new(call, kind, "InvalidSignatureException", message);
        assert!(failure.remedy(ASKED).unwrap().text.contains("clock"));
        let other = Failure::new(call, kind, "UnrecognizedClientException", "invalid");
        assert_eq!(other.remedy(ASKED), None);
    }

    #[test]
    fn without_a_name_it_is_what_was_asked() {
        let code = "AccessDeniedException";
        let message = "because no identity-based policy allows it";
        let failure = Failure::new((Service::DynamoDb, "Scan"), Kind::Denied, code, message);
        let statement = failure.remedy("arn:aws:dynamodb:eu-west-1:*:table/billing");
        assert_eq!(
            statement.unwrap().statement.unwrap().to_string(),
            r#"{"Effect":"Allow","Action":["dynamodb:Scan"],"Resource":["arn:aws:dynamodb:eu-west-1:*:table/billing"]}"#
        );
        let throttled = Failure::new((Service::DynamoDb, "Scan"), Kind::Throttled, code, "");
        assert_eq!(throttled.remedy(ASKED), None);
    }
}
