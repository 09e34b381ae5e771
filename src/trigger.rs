//! Trigger metadata of a ScaledObject, parsed and checked. Pure: no AWS, no policy.
//!
//! Values are trimmed of Unicode white space and an empty one counts as absent, as KEDA's built-in scaler has it. A key
//! that is not in [`KEYS`] is never looked at, kept or echoed: KEDA hands over a `…FromEnv` key with the secret itself.

mod metadata;
pub(crate) mod syntax;

use std::{collections::HashMap, fmt};

use url::Url;

use self::metadata::Metadata;
use crate::error::Error;

/// A trigger metadata key, as the README lists it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key as it is written; case matters.
    pub name: &'static str,
    /// What holds when it is absent, in Markdown.
    pub default: &'static str,
    /// What it means, in Markdown.
    pub meaning: &'static str,
}

/// Every key that the parser reads.
pub const KEYS: &[Key] = &[
    Key {
        name: "streamName",
        default: "this or `streamArn`",
        meaning: "Stream, by name, in the account of the identity that asks.",
    },
    Key {
        name: "streamArn",
        default: "this or `streamName`",
        meaning: "Stream, by ARN; also one of another account that shares it by a resource policy.",
    },
    Key {
        name: "awsRegion",
        default: "the ARN's, else the scaler's (`aws.region`, `AWS_REGION`)",
        meaning: "Region of the stream.",
    },
    Key {
        name: "shardCount",
        default: "`2`",
        meaning: "Target: open shards per replica, a whole number of at least 1.",
    },
    Key {
        name: "activationShardCount",
        default: "`0`",
        meaning: "Active, so scaled from zero, when there are more open shards than this.",
    },
    Key {
        name: "scaleOn",
        default: "`openShards`",
        meaning: "What is counted. This version knows `openShards`.",
    },
    Key {
        name: "awsEndpoint",
        default: "AWS's own",
        meaning: "Another endpoint for Kinesis, an http(s) URL. Only where the scaler's `policy` allows it.",
    },
    Key {
        name: "awsRoleArn",
        default: "the scaler's own identity",
        meaning: "Role to assume for asking. Only where the scaler's `policy` allows it.",
    },
    Key {
        name: "awsExternalId",
        default: "none",
        meaning: "External id that the trust policy of `awsRoleArn` asks for.",
    },
    Key {
        name: "identityOwner",
        default: "ignored",
        meaning: "Accepted for triggers written for the built-in scaler; without effect, the scaler has its own identity.",
    },
];

/// Static credentials, which the built-in scaler takes and we do not.
const STATIC_CREDENTIALS: &[&str] = &[
    "awsAccessKeyID",
    "awsAccessKeyId",
    "awsSecretAccessKey",
    "awsSessionToken",
    "awsAccessKeyIDFromEnv",
    "awsAccessKeyIdFromEnv",
    "awsSecretAccessKeyFromEnv",
    "awsSessionTokenFromEnv",
];

/// What one trigger asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trigger {
    /// Where the number comes from.
    pub source: Source,
    /// The target: shards per replica. At least 1.
    pub shard_count: i64,
    /// Active when the value is strictly greater.
    pub activation_shard_count: i64,
}

/// One thing to watch. Triggers with equal sources share one watcher, whatever their thresholds.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Source {
    /// The stream.
    pub stream: Stream,
    /// The region that is asked.
    pub region: String,
    /// An endpoint other than AWS's own.
    pub endpoint: Option<Url>,
    /// The role to assume for it; `None`: the scaler's own identity.
    pub role: Option<Role>,
}

/// A stream, by name in the identity's own account, or by ARN.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Stream {
    /// `streamName`.
    Name(String),
    /// `streamArn`, whole.
    Arn(String),
}

/// `awsRoleArn` and `awsExternalId`. Its `Debug` says whether there is an external id, never which.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Role {
    /// The role's ARN.
    pub arn: String,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
}

impl Trigger {
    /// Reads the metadata of one trigger; `default_region` is the region for triggers that name none.
    ///
    /// # Errors
    /// [`Error::InvalidMetadata`] with everything that is wrong, not only the first.
    pub fn parse(
        metadata: &HashMap<String, String>,
        default_region: Option<&str>,
    ) -> Result<Self, Error> {
        let mut metadata = Metadata::new(metadata);
        metadata.refuse_static_credentials(STATIC_CREDENTIALS);
        metadata.scale_on();
        let shard_count = metadata.whole_number("shardCount", 2, 1);
        // Below 0 the trigger is always active: the built-in scaler has it so, and KEDA copes.
        let activation_shard_count = metadata.whole_number("activationShardCount", 0, i64::MIN);
        let stream = metadata.stream();
        let region = metadata.region(stream.as_ref(), default_region);
        let endpoint = metadata.endpoint();
        let role = metadata.role();
        let wrong = metadata.into_wrong();
        match (stream, region) {
            (Some(stream), Some(region)) if wrong.is_empty() => Ok(Self {
                source: Source {
                    stream,
                    region,
                    endpoint,
                    role,
                },
                shard_count,
                activation_shard_count,
            }),
            _ => Err(Error::InvalidMetadata(wrong)),
        }
    }

    /// The metric's name, as KEDA's built-in scaler has it: `aws-kinesis-` and the stream's name, with `/ . : % ( )` as `-`.
    pub fn metric_name(&self) -> String {
        let name = self.source.stream.name();
        format!(
            "aws-kinesis-{}",
            name.replace(['/', '.', ':', '%', '(', ')'], "-")
        )
    }
}

impl Stream {
    /// The stream's name, also of an ARN.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Arn(arn) => arn.rsplit('/').next().unwrap_or(arn),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Name(text) | Self::Arn(text)) = self;
        f.write_str(text)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arn, external_id } = self;
        let external_id = external_id.as_ref().map(|_| "…");
        f.debug_struct("Role")
            .field("arn", arn)
            .field("external_id", &external_id)
            .finish()
    }
}
