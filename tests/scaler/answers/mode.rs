//! What a trigger scales on, how its source is, and what is right to say of it.

use embedded_kinesis::Fault;
use serde_json::{Value, json};
use test_support::shard_id;

pub(super) const DESCRIBE: &str = "DescribeStreamSummary";
pub(super) const ASSUME: &str = "AssumeRole";
pub(super) const SHARDS: i32 = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    OpenShards,
    /// ListShards is denied as well.
    Unlisted,
    /// DescribeStreamSummary is throttled as well.
    Spent,
    ReadableShards,
    /// A pod runs and one shard has an unread record.
    Lag,
    /// No pod runs, and all is read.
    LagAtZero,
    /// The scaler assumes a role. Once it has one, the fault comes with the session's end.
    Role,
}

/// Replicas and activity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    pub(super) value: f64,
    pub(super) active: bool,
}

impl Mode {
    pub(super) const ALL: [Self; 7] = [
        Self::OpenShards,
        Self::Unlisted,
        Self::Spent,
        Self::ReadableShards,
        Self::Lag,
        Self::LagAtZero,
        Self::Role,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenShards => "`openShards`",
            Self::Unlisted => "`openShards` without ListShards",
            Self::Spent => "`openShards`, DescribeStreamSummary throttled",
            Self::ReadableShards => "`readableShards`",
            Self::Lag => "`lag`",
            Self::LagAtZero => "`lag` at zero",
            Self::Role => "`openShards` by a role",
        }
    }

    /// What is called for it, and fails.
    pub(super) fn operations(self) -> &'static [&'static str] {
        match self {
            Self::OpenShards | Self::Unlisted => &[DESCRIBE],
            Self::Spent => &["ListShards"],
            Self::ReadableShards => &["ListShards", "Scan"],
            Self::Lag | Self::LagAtZero => {
                &["ListShards", "Scan", "GetShardIterator", "GetRecords"]
            }
            Self::Role => &[ASSUME],
        }
    }

    /// What fails in it beside the operation.
    pub(super) fn constant_fault(self) -> Option<(&'static str, Fault)> {
        match self {
            Self::Unlisted => Some(("ListShards", Fault::access_denied())),
            Self::Spent => Some((DESCRIBE, Fault::throttling())),
            _ => None,
        }
    }

    pub(super) fn has_leases(self) -> bool {
        matches!(self, Self::ReadableShards | Self::Lag | Self::LagAtZero)
    }

    pub(super) fn truth(self) -> Truth {
        let value = match self {
            // KEDA goes to zero by activity alone.
            Self::Lag | Self::LagAtZero => 1.0,
            _ => 3.0,
        };
        let active = self != Self::LagAtZero;
        Truth { value, active }
    }

    pub(super) fn metadata(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ReadableShards => &[("scaleOn", "readableShards"), ("shardCount", "1")],
            Self::Lag | Self::LagAtZero => &[
                ("scaleOn", "lag"),
                ("shardCount", "1"),
                // No record becomes so old.
                ("lagThreshold", "10h"),
            ],
            _ => &[],
        }
    }

    /// A lease table's name, which says what is in it.
    pub(super) fn table(self, number: usize) -> String {
        let kind = if self == Self::Lag { "held" } else { "free" };
        format!("{kind}-{number}")
    }
}

/// The lease table of that name. Whoever holds a lease renews it; `beats`: how often by now.
pub(super) fn scan(table: &str, beats: u128) -> Value {
    let leases = (0..SHARDS).map(|shard| {
        let mut lease = json!({
            "leaseKey": {"S": shard_id(&shard.to_string())},
            "checkpoint": {"S": "TRIM_HORIZON"},
            "checkpointSubSequenceNumber": {"N": "0"},
            "leaseCounter": {"N": "1"},
            "ownerSwitchesSinceCheckpoint": {"N": "0"},
        });
        if shard == 0 && table.starts_with("held") {
            lease["leaseOwner"] = json!({"S": "pod"});
            lease["leaseCounter"] = json!({"N": beats.to_string()});
        }
        lease
    });
    let leases: Vec<_> = leases.collect();
    json!({"Items": leases, "Count": SHARDS, "ScannedCount": SHARDS})
}
