//! What was found out about each trigger. Values, also printed as JSON.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) triggers: Vec<TriggerReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerReport {
    pub(super) place: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) namespace: String,
    /// The keys that we know, as they are understood.
    pub(super) keys: Vec<KeyReport>,
    /// Keys that are not read. Never their values: a `…FromEnv` key carries a secret.
    pub(super) ignored: Vec<String>,
    pub(super) identity: Option<String>,
    pub(super) permissions: Vec<Permission>,
    pub(super) lease_table: Option<String>,
    pub(super) shards: Vec<ShardReport>,
    #[serde(serialize_with = "told")]
    pub(super) told: Result<Told, Refused>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyReport {
    pub(super) key: &'static str,
    pub(super) value: String,
    /// Is it the default?
    pub(super) default: bool,
}

/// A call that was tried.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permission {
    /// `kinesis:ListShards`, …
    pub(super) action: String,
    pub(super) ok: bool,
    /// Why not.
    pub(super) error: Option<String>,
    /// The IAM policy statement that would allow it, where it is not allowed.
    pub(super) statement: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShardReport {
    pub(super) id: String,
    pub(super) parents: Vec<String>,
    pub(super) closed: bool,
    /// `readable`, `finished`, `not wanted`, or which parents it waits for.
    pub(super) state: String,
    pub(super) owner: Option<String>,
    pub(super) checkpoint: Option<String>,
    /// Age of the oldest unread record, in seconds.
    pub(super) unread_for_seconds: Option<f64>,
    /// What was found after the checkpoint.
    pub(super) why: Option<String>,
}

/// What KEDA would get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    pub(super) metric_name: String,
    pub(super) target: i64,
    pub(super) value: i64,
    pub(super) active: bool,
    pub(super) reason: String,
}

/// The error that KEDA would get.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) message: String,
}

fn told<S: Serializer>(told: &Result<Told, Refused>, serializer: S) -> Result<S::Ok, S::Error> {
    match told {
        Ok(told) => told.serialize(serializer),
        Err(error) => json!({"error": error}).serialize(serializer),
    }
}
