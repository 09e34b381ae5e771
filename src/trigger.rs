//! Trigger metadata of a ScaledObject, parsed and checked. Pure: no AWS, no policy.
//!
//! Values are trimmed of Unicode white space and an empty one counts as absent, as KEDA's built-in
//! scaler has it. Each key is also taken as `…FromEnv`, which KEDA hands over with the variable's
//! value. The value of a key that is not in [`KEYS`] is never read, kept or echoed: under a
//! `…FromEnv` key it is often a secret.

pub(crate) mod given;
mod metadata;
pub mod policy;
pub mod tenant;
pub mod understood;

use std::{collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;
use url::Url;

use self::metadata::Metadata;
use crate::error::Error;

/// A trigger metadata key, as `docs/trigger.md` lists it.
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
        name: "streams",
        default: "`streamName` or `streamArn`",
        meaning: "`all`: every stream that the lease table has leases of, in place of one, by name in the account of the identity that asks. For `readableShards` and `lag` of an application that reads several streams.",
    },
    Key {
        name: "awsRegion",
        default: "the ARN's, else the scaler's (`aws.region`, `AWS_REGION`)",
        meaning: "Region of the stream.",
    },
    Key {
        name: "shardCount",
        default: "`2`",
        meaning: "Target: shards per replica, a whole number of at least 1. With `scaleOn: lag` the fewest shards that a replica may get.",
    },
    Key {
        name: "activationShardCount",
        default: "`0`",
        meaning: "Active, so scaled from zero, when there are more shards than this. Not with `scaleOn: lag`.",
    },
    Key {
        name: "scaleOn",
        default: "`openShards`",
        meaning: "`openShards`: the open shards of the stream. `readableShards`: the shards that one application can work on now. `lag`: as many replicas as keep each of its records younger than `lagThreshold`.",
    },
    Key {
        name: "applicationName",
        default: "needed for `readableShards` and `lag`",
        meaning: "The application that reads the stream, as its consumers (KCL or ours) are configured.",
    },
    Key {
        name: "leaseTable",
        default: "`applicationName`",
        meaning: "The application's lease table in DynamoDB, where it is not named after the application: a name, or an ARN of any region and account.",
    },
    Key {
        name: "leaseTableRegion",
        default: "the ARN's, else `awsRegion`",
        meaning: "Region of the lease table.",
    },
    Key {
        name: "leaseTableRoleArn",
        default: "`awsRoleArn`; for a table by ARN in another account, the scaler's own identity",
        meaning: "Role to assume for reading the lease table; `none`: the scaler's own identity. Only where the scaler's `policy` allows it.",
    },
    Key {
        name: "leaseTableExternalId",
        default: "none",
        meaning: "External id that the trust policy of `leaseTableRoleArn` asks for.",
    },
    Key {
        name: "onMissingTable",
        default: "`activate`; `error` with a role, or a table in another region or account than the stream",
        meaning: "What an application without leases (no table yet, or an empty one) is worth: `activate` one replica, `idle` none, or an `error`.",
    },
    Key {
        name: "lagThreshold",
        default: "`30s`",
        meaning: "With `scaleOn: lag`: how old a record may become before it is processed and checkpointed, such as `45s` or `2m`; a bare number is seconds. At least twice the application's checkpoint interval.",
    },
    Key {
        name: "activationLagThreshold",
        default: "`0s`",
        meaning: "With `scaleOn: lag`: active, so scaled from zero, when the oldest unread record is at least this old.",
    },
    Key {
        name: "initialTimestamp",
        default: "the oldest record's",
        meaning: "With `scaleOn: lag`, of an application whose initial position is AT_TIMESTAMP: that time, such as `2026-11-30T08:00:00Z`. Where no checkpoint stands yet, only records from then on are unread.",
    },
    Key {
        name: "awsEndpoint",
        default: "AWS's own",
        meaning: "Another endpoint for Kinesis, an http(s) URL. Only where the scaler's `policy` allows it.",
    },
    Key {
        name: "leaseTableEndpoint",
        default: "AWS's own",
        meaning: "Another endpoint for DynamoDB, an http(s) URL. Only where the scaler's `policy` allows it.",
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
    /// The stream.
    pub stream: StreamSource,
    /// What is counted: of the stream alone, or of an application's work on it.
    pub scale_on: ScaleOn,
    /// The target: shards per replica. At least 1.
    pub shard_count: i64,
}

/// What is counted, and from when on that makes the trigger active.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each trigger: a few thousand"
)]
pub enum ScaleOn {
    /// The open shards of the stream.
    OpenShards {
        /// Active when the value is strictly greater.
        activation: i64,
    },
    /// The work of an application on the stream.
    Application(Work),
}

/// The work of an application, and how it is measured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Work {
    /// The application's name.
    pub application: String,
    /// The application's lease table.
    pub table: LeaseTable,
    /// The key that names the table: `leaseTable` or `applicationName`.
    pub table_key: &'static str,
    /// What an application without leases is worth.
    pub on_missing_table: OnMissingTable,
    /// What of the work is counted.
    pub measure: Measure,
    /// Where the application starts to read, if its initial position is AT_TIMESTAMP.
    pub initial_timestamp: Option<Timestamp>,
}

/// What of an application's work is counted, and from when on that makes the trigger active.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// The shards that the application can work on now.
    ReadableShards {
        /// Active when the value is strictly greater.
        activation: i64,
    },
    /// The replicas that keep every record younger than the threshold, times `shardCount`.
    Lag {
        /// How old a record may become.
        threshold: Duration,
        /// Active when a record at least this old is unread.
        activation: Duration,
    },
}

/// `onMissingTable`: what an application is worth whose lease table is absent or empty, so that
/// nobody knows how far it got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnMissingTable {
    /// One replica, which makes the table.
    Activate,
    /// None.
    Idle,
    /// An error.
    Error,
}

/// A stream, with where it is asked about and by whom. Triggers with equal sources share one
/// watcher, whatever their thresholds.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamSource {
    /// The stream.
    pub stream: Stream,
    /// The region that is asked.
    pub region: String,
    /// An endpoint other than AWS's own.
    pub endpoint: Option<Url>,
    /// The role to assume for it; `None`: the scaler's own identity.
    pub role: Option<Role>,
}

/// An application's work on a stream, which its lease table tells of. A watcher of its own.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ApplicationSource {
    /// The stream.
    pub stream: StreamSource,
    /// The application's lease table.
    pub table: LeaseTable,
    /// Where the application starts to read, if its initial position is AT_TIMESTAMP.
    pub initial_timestamp: Option<Timestamp>,
}

/// A lease table in DynamoDB, with where it is asked about and by whom.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseTable {
    /// The table's name.
    pub name: String,
    /// Its ARN, where the trigger has it; else it is in the account of the identity that asks.
    pub arn: Option<String>,
    /// The region that is asked.
    pub region: String,
    /// An endpoint other than AWS's own.
    pub endpoint: Option<Url>,
    /// The role to assume for it; `None`: the scaler's own identity.
    pub role: Option<Role>,
}

/// A stream, by name in the identity's own account, or by ARN.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Stream {
    /// `streamName`.
    Name(String),
    /// `streamArn`, whole.
    Arn(String),
    /// `streams: all`: those that an application's lease table has leases of.
    All,
}

/// `awsRoleArn` and `awsExternalId`. Its `Debug` says whether there is an external id, never which.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Role {
    /// The role's ARN.
    pub arn: String,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
}

impl Trigger {
    /// Reads the metadata of one trigger; `default_region` is the region for triggers that name
    /// none.
    ///
    /// # Errors
    /// [`Error::InvalidMetadata`] with everything that is wrong, not only the first.
    pub fn parse(
        metadata: &HashMap<String, String>,
        default_region: Option<&str>,
    ) -> Result<Self, Error> {
        let mut metadata = Metadata::new(metadata);
        metadata.refuse_static_credentials(STATIC_CREDENTIALS);
        metadata.refuse_both();
        let mode = metadata.mode();
        let shard_count = metadata.whole_number("shardCount", 2, 1);
        let scaling = metadata.scaling(mode);
        let stream = metadata.stream_source(default_region);
        let wrong = metadata.into_wrong();
        match (stream, scaling) {
            (Some(stream), Some(scaling)) if wrong.is_empty() => Ok(Self {
                scale_on: scaling.beside(&stream),
                stream,
                shard_count,
            }),
            _ => Err(Error::InvalidMetadata(wrong)),
        }
    }

    /// The lease table, where an application's work is counted.
    pub fn lease_table(&self) -> Option<&LeaseTable> {
        match &self.scale_on {
            ScaleOn::OpenShards { .. } => None,
            ScaleOn::Application(work) => Some(&work.table),
        }
    }

    /// The metric's name, as KEDA's built-in scaler has it: `aws-kinesis-` and the stream's name,
    /// with `/ . : % ( )` as `-`. Of all streams of an application, the application's.
    pub fn metric_name(&self) -> String {
        let name = match (&self.stream.stream, &self.scale_on) {
            (Stream::All, ScaleOn::Application(work)) => &work.application,
            (stream, _) => stream.name(),
        };
        format!(
            "aws-kinesis-{}",
            name.replace(['/', '.', ':', '%', '(', ')'], "-")
        )
    }
}

impl Work {
    /// The application that works so on a stream.
    pub fn application(&self, stream: &StreamSource) -> ApplicationSource {
        ApplicationSource {
            stream: stream.clone(),
            table: self.table.clone(),
            initial_timestamp: self.initial_timestamp,
        }
    }
}

impl LeaseTable {
    /// As AWS is asked for it: the ARN, where there is one.
    pub fn as_asked(&self) -> &str {
        self.arn.as_deref().unwrap_or(&self.name)
    }

    /// What tells the table from others of its name, in metrics and file names: the ARN, or the
    /// name with its region and its role's account where those are not the stream's.
    pub fn label(&self, stream: &StreamSource) -> String {
        let mut label = self.as_asked().to_owned();
        if self.arn.is_none() && self.region != stream.region {
            label.push_str(&format!("@{}", self.region));
        }
        if self.arn.is_none() && self.role != stream.role {
            let account = self
                .role
                .as_ref()
                .and_then(|role| role.arn.split(':').nth(4));
            label.push_str(&format!("@{}", account.unwrap_or("own")));
        }
        label
    }

    /// What is asked for, where and as whom, in words.
    pub fn place(&self) -> String {
        let place = format!("{} in {}", self.as_asked(), self.region);
        match &self.role {
            Some(role) => format!("{place} (asked as {})", role.arn),
            None => place,
        }
    }
}

impl Stream {
    /// The stream's name, also of an ARN.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Arn(arn) => arn.rsplit('/').next().unwrap_or(arn),
            Self::All => "all",
        }
    }

    /// As AWS is asked for it, which is never asked for all.
    pub fn as_asked(&self) -> &str {
        match self {
            Self::Name(text) | Self::Arn(text) => text,
            Self::All => "",
        }
    }

    /// The account, of an ARN.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Name(_) | Self::All => None,
            Self::Arn(arn) => arn.split(':').nth(4),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(_) | Self::Arn(_) => self.as_asked(),
            Self::All => "all streams",
        })
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
