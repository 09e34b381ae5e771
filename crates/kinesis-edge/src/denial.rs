//! What stands in the way of a denied call, by AWS's own words ("Troubleshoot access denied error
//! messages" in the IAM user guide). Services word most of it alike; where they do not, nothing is
//! guessed.

/// Why a call was denied.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Denial {
    /// The kind of policy that AWS names: of several that deny, one. `None`: it names none.
    pub policy: Option<Policy>,
    /// Does that policy deny the call? Else it only lacks what allows it.
    pub explicit: bool,
    /// Is it about the KMS key that encrypts the data: its policy, or its state?
    pub key: bool,
    /// The action, such as `kinesis:ListShards`, which may be another than the call's
    /// (`kms:Decrypt`).
    pub action: Option<String>,
    /// The ARN of what it was to be done on.
    pub resource: Option<String>,
}

/// A kind of policy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// Of the user, group or role that asks.
    Identity,
    /// Of the stream or table. Across accounts AWS names it also where the identity's policy is the
    /// one that lacks something.
    Resource,
    /// Who may assume a role.
    RoleTrust,
    /// Given when the role was assumed.
    Session,
    /// The most that the user or role may be allowed.
    PermissionsBoundary,
    /// Of the organization, for accounts (SCP).
    ServiceControl,
    /// Of the organization, for resources (RCP).
    ResourceControl,
    /// Of the VPC endpoint that the call came through.
    VpcEndpoint,
}

/// AWS's ARNs are not longer.
const LONGEST: usize = 2048;

/// As they stand after "because no" and "with an explicit deny in a".
const POLICIES: [(&str, Policy); 8] = [
    ("identity-based policy", Policy::Identity),
    ("resource-based policy", Policy::Resource),
    ("role trust policy", Policy::RoleTrust),
    ("session policy", Policy::Session),
    ("permissions boundary", Policy::PermissionsBoundary),
    ("service control policy", Policy::ServiceControl),
    ("resource control policy", Policy::ResourceControl),
    ("vpc endpoint policy", Policy::VpcEndpoint),
];

impl Denial {
    pub(crate) fn parse(code: &str, message: &str) -> Self {
        let after = |words| message.split_once(words).map(|(_, rest)| rest);
        let lacking = after("because no ");
        let action =
            word_after(message, "to perform").or_else(|| word_after(message, "allows the"));
        let is_of_kms = |action: &String| action.starts_with("kms:");
        Self {
            policy: after("explicit deny in").or(lacking).and_then(policy),
            explicit: message.contains("explicit deny"),
            key: code.starts_with("KMS") || action.as_ref().is_some_and(is_of_kms),
            action,
            resource: word_after(message, "on resource:"),
        }
    }
}

fn policy(text: &str) -> Option<Policy> {
    let text = text.trim_start().to_lowercase();
    let text = ["a ", "an ", "the "]
        .iter()
        .find_map(|article| text.strip_prefix(article))
        .unwrap_or(&text);
    let named = POLICIES.iter().find(|(words, _)| text.starts_with(words));
    named.map(|(_, policy)| *policy)
}

/// An action, or an ARN, whole.
fn word_after(text: &str, words: &str) -> Option<String> {
    let (_, rest) = text.split_once(words)?;
    let rest = rest.trim_start_matches([':', ' ', '"']);
    let word = rest.split([' ', '"']).next()?;
    let word = word.trim_end_matches(['.', ',']);
    (word.contains(':') && word.len() <= LONGEST).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const STREAM: &str = "arn:aws:kinesis:eu-west-1:777788889999:stream/orders";

    #[rstest]
    #[case(
        "because no identity-based policy allows the kinesis:ListShards action",
        Policy::Identity,
        false
    )]
    #[case(
        "because no resource-based policy allows the kinesis:ListShards action",
        Policy::Resource,
        false
    )]
    #[case(
        "because no session policy allows the kinesis:ListShards action",
        Policy::Session,
        false
    )]
    #[case(
        "because no permissions boundary allows the kinesis:ListShards action",
        Policy::PermissionsBoundary,
        false
    )]
    #[case(
        "because no service control policy allows the kinesis:ListShards action",
        Policy::ServiceControl,
        false
    )]
    #[case(
        "because no resource control policy allows the kinesis:ListShards action",
        Policy::ResourceControl,
        false
    )]
    #[case(
        "because no VPC endpoint policy allows the kinesis:ListShards action",
        Policy::VpcEndpoint,
        false
    )]
    #[case(
        "with an explicit deny in an identity-based policy",
        Policy::Identity,
        true
    )]
    #[case(
        "with an explicit deny in a resource-based policy",
        Policy::Resource,
        true
    )]
    #[case("with an explicit deny in a session policy", Policy::Session, true)]
    #[case(
        "with an explicit deny in a permissions boundary",
        Policy::PermissionsBoundary,
        true
    )]
    #[case(
        "with an explicit deny in a service control policy",
        Policy::ServiceControl,
        true
    )]
    #[case(
        "with an explicit deny in a service control policy: arn:aws:organizations::111122223333:policy/o-exampleorgid/service_control_policy/p-example",
        Policy::ServiceControl,
        true
    )]
    #[case(
        "with an explicit deny in a resource control policy",
        Policy::ResourceControl,
        true
    )]
    #[case(
        "with an explicit deny in a VPC endpoint policy",
        Policy::VpcEndpoint,
        true
    )]
    fn the_policy_is_named(#[case] why: &str, #[case] policy: Policy, #[case] explicit: bool) {
        let message = format!(
            "User: arn:aws:iam::777788889999:user/JohnDoe is not authorized to perform: kinesis:ListShards on resource: {STREAM} {why}"
        );
        let wanted = Denial {
            policy: Some(policy),
            explicit,
            key: false,
            action: Some("kinesis:ListShards".to_owned()),
            resource: Some(STREAM.to_owned()),
        };
        assert_eq!(Denial::parse("AccessDeniedException", &message), wanted);
    }

    #[rstest]
    #[case(
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        None,
        Some("sts:AssumeRoleWithWebIdentity")
    )]
    #[case(
        "AccessDenied",
        "User: arn:aws:iam::777788889999:user/JohnDoe is not authorized to perform: sts:AssumeRole because no role trust policy allows the sts:AssumeRole action",
        Some(Policy::RoleTrust),
        Some("sts:AssumeRole")
    )]
    #[case(
        "AccessDenied",
        "User: arn:aws:iam::777788889999:user/JohnDoe is not authorized to perform: sts:AssumeRole with an explicit deny in the role trust policy",
        Some(Policy::RoleTrust),
        Some("sts:AssumeRole")
    )]
    #[case(
        "KMSAccessDeniedException",
        "User: arn:aws:iam::777788889999:user/JohnDoe is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:777788889999:key/1 because no identity-based policy allows the kms:Decrypt action",
        Some(Policy::Identity),
        Some("kms:Decrypt")
    )]
    #[case(
        "KMSDisabledException",
        "arn:aws:kms:eu-west-1:777788889999:key/1 is disabled.",
        None,
        None
    )]
    #[case(
        "AccessDeniedException",
        "User is not authorized to perform this action",
        None,
        None
    )]
    #[case(
        "KMSAccessDeniedException",
        "User is not authorized to perform: kms:Decrypt on this resource because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access",
        None,
        Some("kms:Decrypt")
    )]
    #[case(
        "KMSAccessDeniedException",
        "User arn:aws:iam::777788889999:user/JohnDoe is not authorized to decrypt records in stream 777788889999:orders:1",
        None,
        None
    )]
    #[case(
        "AccessDeniedException",
        "Unable to determine service/operation name to be authorized",
        None,
        None
    )]
    #[case("AccessDeniedException", "", None, None)]
    fn nothing_is_guessed(
        #[case] code: &str,
        #[case] message: &str,
        #[case] policy: Option<Policy>,
        #[case] action: Option<&str>,
    ) {
        let denial = Denial::parse(code, message);
        assert_eq!((denial.policy, denial.action.as_deref()), (policy, action));
        assert_eq!(denial.key, code.starts_with("KMS"));
    }

    #[test]
    fn an_explicit_deny_may_come_without_its_policy() {
        let message = format!(
            "User: arn:aws:iam::777788889999:user/JohnDoe is not authorized to perform: kinesis:ListShards on resource: \"{STREAM}\" with an explicit deny"
        );
        let denial = Denial::parse("AccessDeniedException", &message);
        assert!(denial.explicit && denial.policy.is_none());
        assert_eq!(denial.resource.as_deref(), Some(STREAM));
        let endless = format!(
            "is not authorized to perform: kinesis:ListShards on resource: arn:{}",
            "x".repeat(3000)
        );
        assert_eq!(
            Denial::parse("AccessDeniedException", &endless).resource,
            None
        );
    }
}
