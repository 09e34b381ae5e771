//! What a namespace may ask for, judged on every RPC before anything else is done with the trigger.
//! Pure.
//!
//! Metadata comes from whoever may write a ScaledObject, or reach the port: an endpoint would get
//! signed requests, and a role may be another team's. So both need a rule that allows them. A
//! role's or stream's `*` crosses `/` and `:`, as in IAM.

use std::fmt;

use url::{Host, Url};

use crate::{
    config::{PolicyDefault, Rule, pattern},
    error::{Error, shortened},
    trigger::{Stream, Trigger},
};

/// The rules of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    default: PolicyDefault,
}

impl Policy {
    /// The first rule whose namespaces match decides; of what it leaves out, the default.
    pub fn new(rules: Vec<Rule>, default: PolicyDefault) -> Self {
        Self { rules, default }
    }

    /// May this namespace have such a trigger?
    ///
    /// # Errors
    /// [`Error::Refused`], one line for each refused value: the value, the number of the rule that
    /// decided, and the configuration that would allow it. What a rule allows else, and to whom,
    /// stays unsaid.
    pub fn check(&self, namespace: &str, trigger: &Trigger) -> Result<(), Error> {
        let source = &trigger.stream;
        let mut rules = self.rules.iter();
        let matching = rules.position(|rule| any(&rule.namespaces, namespace));
        let rule = matching.map(|index| &self.rules[index]);
        let (mut refused, mut guarded) = (Vec::new(), Vec::new());
        let mut refuse = |key, value: &str, list| {
            refused.push(
                Refusal {
                    namespace,
                    matching,
                    key,
                    value,
                    list,
                }
                .to_string(),
            );
        };

        let may_have = |patterns: Option<&Vec<String>>, text| match patterns {
            Some(patterns) => any_of_its_kind(patterns, text),
            None => self.default == PolicyDefault::Allow,
        };
        let (key, text) = match &source.stream {
            Stream::Name(name) => ("streamName", name.as_str()),
            Stream::Arn(arn) => ("streamArn", arn.as_str()),
            // What the table has is not known here: a pattern must allow every name.
            Stream::All => ("streams", "*"),
        };
        if !may_have(rule.and_then(|rule| rule.streams.as_ref()), text) {
            refuse(key, text, "streams");
        }
        let table = trigger.lease_table();
        let table_role = table.and_then(|table| table.role.as_ref());
        let roles = [
            ("awsRoleArn", source.role.as_ref()),
            // The same for both is judged once.
            (
                "leaseTableRoleArn",
                table_role.filter(|role| Some(*role) != source.role.as_ref()),
            ),
        ];
        for (key, role) in roles {
            let Some(role) = role else { continue };
            let allowed = rule.and_then(|rule| rule.roles.as_ref());
            if !allowed.is_some_and(|patterns| any(patterns, &role.arn)) {
                refuse(key, &role.arn, "roles");
            }
        }
        if let Some(table) = table
            && !may_have(rule.and_then(|rule| rule.tables.as_ref()), table.as_asked())
        {
            refuse("leaseTable", table.as_asked(), "tables");
        }
        let table_endpoint = table.and_then(|table| table.endpoint.as_ref());
        for (key, endpoint) in [
            ("awsEndpoint", source.endpoint.as_ref()),
            ("leaseTableEndpoint", table_endpoint),
        ] {
            let Some(endpoint) = endpoint else { continue };
            if names_guarded_address(endpoint) {
                guarded.push(format!(
                    "{key} {:?} is refused: link-local and metadata addresses are never asked",
                    endpoint.as_str()
                ));
                continue;
            }
            let allowed = rule.and_then(|rule| rule.endpoints.as_ref());
            if !allowed
                .is_some_and(|patterns| patterns.iter().any(|pattern| pattern.matches(endpoint)))
            {
                // As a pattern that would allow it.
                refuse(key, endpoint.as_str().trim_end_matches('/'), "endpoints");
            }
        }
        refused.append(&mut guarded);
        if refused.is_empty() {
            Ok(())
        } else {
            Err(Error::Refused(refused.join("\n")))
        }
    }
}

/// Is the host an address that no rule can allow? What a name means is seen when it is connected
/// to.
fn names_guarded_address(endpoint: &Url) -> bool {
    // The URL's parser has read decimal, octal and hexadecimal forms already.
    match endpoint.host() {
        Some(Host::Ipv4(address)) => kinesis_edge::is_guarded(address.into()),
        Some(Host::Ipv6(address)) => kinesis_edge::is_guarded(address.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

/// Patterns that start with `arn:` are for ARNs, which may be of any account. All others, also `*`,
/// are for names, which are of the asking identity's own account.
fn any_of_its_kind(patterns: &[String], text: &str) -> bool {
    let is_arn = |text: &str| text.starts_with("arn:");
    let patterns = patterns.iter();
    any(patterns.filter(|it| is_arn(it) == is_arn(text)), text)
}

fn any<'a>(patterns: impl IntoIterator<Item = &'a String>, text: &str) -> bool {
    patterns
        .into_iter()
        .any(|pattern| pattern::matches(pattern, text))
}

struct Refusal<'a> {
    namespace: &'a str,
    /// The number of the rule that decides.
    matching: Option<usize>,
    key: &'static str,
    value: &'a str,
    list: &'static str,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            matching,
            key,
            value,
            list,
            ..
        } = self;
        // The one thing here that nobody has checked yet.
        let namespace = shortened(self.namespace);
        write!(
            f,
            "{key} {value:?} is refused for namespace {namespace:?}: "
        )?;
        match matching {
            Some(index) => write!(
                f,
                "policy[{index}] does not allow it; \
                 to allow it, add {value:?} to policy[{index}].{list} in the scaler's config"
            ),
            None => write!(
                f,
                "no policy rule matches the namespace; to allow it, add to the scaler's config: \
                 policy: [{{namespaces: [{namespace:?}], {list}: [{value:?}]}}]"
            ),
        }
    }
}
