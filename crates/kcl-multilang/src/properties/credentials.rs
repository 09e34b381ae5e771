//! Names of Java's credentials providers, as sources of ours.

use kinesis_edge::CredentialsSource;

/// Who asks AWS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// The first of these that has some.
    Chain(Vec<Provider>),
    /// A role, assumed by whoever the environment says.
    Assume {
        /// Its ARN.
        role: String,
        /// What CloudTrail shows.
        session: String,
        /// The region whose STS is asked.
        region: Option<String>,
        /// What the role's trust policy may want.
        external_id: Option<String>,
    },
}

/// A provider of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Provider {
    /// All sources, in the SDK's order.
    Default,
    /// One of them.
    One(CredentialsSource),
}

impl Credentials {
    /// The sources of a chain; `None`: the SDK's own chain.
    pub fn sources(&self) -> Option<Vec<CredentialsSource>> {
        let Self::Chain(providers) = self else {
            return None;
        };
        if providers.first() == Some(&Provider::Default) {
            // Whatever comes behind all that there is, is not asked.
            return None;
        }
        let sources = providers.iter().flat_map(|provider| match provider {
            Provider::Default => CredentialsSource::all(),
            Provider::One(source) => vec![source.clone()],
        });
        Some(sources.collect())
    }
}

/// Reads the value of `AwsCredentialsProvider`: names with commas between them, each with arguments
/// behind bars. Class names may be full, and those of the SDK for Java 1.x count, too.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn parse(value: &str) -> Result<Credentials, String> {
    let mut chain = Vec::new();
    let providers: Vec<_> = value.split(',').map(str::trim).collect();
    for provider in &providers {
        let mut parts = provider.split('|').map(str::trim);
        let class = parts.next().unwrap_or_default();
        let name = class.rsplit('.').next().unwrap_or_default();
        let arguments: Vec<_> = parts.collect();
        let one = |source| Provider::One(source);
        let takes = match name {
            "ProfileCredentialsProvider" => 1,
            "StsAssumeRoleCredentialsProvider" | "STSAssumeRoleSessionCredentialsProvider" => 4,
            _ => 0,
        };
        if let Some(argument) = arguments.get(takes) {
            return Err(not_understood(name, argument));
        }
        match name {
            "DefaultCredentialsProvider" | "DefaultAWSCredentialsProviderChain" => {
                chain.push(Provider::Default);
            }
            "EnvironmentVariableCredentialsProvider" => {
                chain.push(one(CredentialsSource::Environment));
            }
            "ProfileCredentialsProvider" => {
                let profile = arguments.first().map(|name| (*name).to_owned());
                if let Some(profile) = profile.as_ref().filter(|name| name.contains('=')) {
                    return Err(not_understood(name, profile));
                }
                chain.push(one(CredentialsSource::Profile(profile)));
            }
            "WebIdentityTokenFileCredentialsProvider" | "WebIdentityTokenCredentialsProvider" => {
                chain.push(one(CredentialsSource::WebIdentity));
            }
            "ContainerCredentialsProvider" => chain.push(one(CredentialsSource::Container)),
            "InstanceProfileCredentialsProvider" => chain.push(one(CredentialsSource::Instance)),
            "EC2ContainerCredentialsProviderWrapper" => {
                chain.push(one(CredentialsSource::Container));
                chain.push(one(CredentialsSource::Instance));
            }
            // There are no properties without a JVM: others of the chain are asked.
            "SystemPropertyCredentialsProvider" | "SystemPropertiesCredentialsProvider"
                if providers.len() > 1 => {}
            "StsAssumeRoleCredentialsProvider" | "STSAssumeRoleSessionCredentialsProvider" => {
                if providers.len() > 1 {
                    return Err(format!("want {name} alone, without other providers"));
                }
                return assumed(name, &arguments);
            }
            _ => return Err(unknown(name)),
        }
    }
    Ok(Credentials::Chain(chain))
}

fn assumed(name: &str, arguments: &[&str]) -> Result<Credentials, String> {
    let [role, session, options @ ..] = arguments else {
        return Err(format!(
            "want {name}|arn:aws:iam::111122223333:role/NAME|SESSION"
        ));
    };
    let (mut region, mut external_id) = (None, None);
    for option in options {
        match option.split_once('=') {
            Some(("endpointRegion", value)) => region = Some(value.to_owned()),
            Some(("externalId", value)) => external_id = Some(value.to_owned()),
            Some(("endpoint", _)) => {
                let instead = "endpoint: want it in the variable AWS_ENDPOINT_URL_STS, and the \
                               region in endpointRegion";
                return Err(instead.to_owned());
            }
            _ => {
                return Err(format!(
                    "{option:?}: want endpointRegion=REGION or externalId=ID"
                ));
            }
        }
    }
    Ok(Credentials::Assume {
        role: (*role).to_owned(),
        session: (*session).to_owned(),
        region,
        external_id,
    })
}

fn not_understood(provider: &str, argument: &str) -> String {
    let instead = match provider {
        "ProfileCredentialsProvider" => ": want ProfileCredentialsProvider|NAME",
        "DefaultCredentialsProvider" if argument.starts_with("profileName") => {
            ": want ProfileCredentialsProvider|NAME for a profile"
        }
        _ => "",
    };
    format!("{argument:?} behind {provider} is not understood{instead}")
}

fn unknown(name: &str) -> String {
    let instead = match name {
        "" => "it is empty",
        "SystemPropertyCredentialsProvider" | "SystemPropertiesCredentialsProvider" => {
            "there are no system properties without a JVM"
        }
        "StaticCredentialsProvider" | "AWSStaticCredentialsProvider" | "BasicAWSCredentials" => {
            "keys are no part of the file"
        }
        "AnonymousCredentialsProvider" => "calls are always signed; an emulator takes any keys",
        "ProcessCredentialsProvider" => "a profile can name the process (credential_process)",
        _ => "no such provider is known",
    };
    format!(
        "{instead}: want DefaultCredentialsProvider, EnvironmentVariableCredentialsProvider, \
         ProfileCredentialsProvider|NAME, WebIdentityTokenFileCredentialsProvider, \
         ContainerCredentialsProvider, InstanceProfileCredentialsProvider or \
         StsAssumeRoleCredentialsProvider|ROLE|SESSION"
    )
}
