//! What was found out about each trigger. Values, also printed as JSON.

use serde::Serialize;
use serde_json::Value;

use crate::{
    report::explain::{shards::ApplicationView, view::AnswerView},
    trigger::understood::Pair,
};

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
    /// Keys that are not read. Never their values: a `…FromEnv` key carries a secret.
    pub(super) ignored: Vec<String>,
    #[serde(flatten)]
    pub(super) seen: Seen,
    /// What KEDA would get.
    #[serde(rename = "told")]
    pub(super) answer: AnswerView,
}

/// What was found out on the way to an answer, or to the error that ended it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seen {
    /// The keys that we know, as they are understood.
    pub(super) keys: Vec<KeyReport>,
    pub(super) metric_name: Option<String>,
    pub(super) target: Option<i64>,
    pub(super) identity: Option<String>,
    pub(super) permissions: Vec<Permission>,
    /// The application's work, where it is asked for. As `/explain` shows it.
    pub(super) application: Option<ApplicationView>,
}

/// A key that holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyReport {
    #[serde(flatten)]
    pub(super) pair: Pair,
    /// Does it hold by default?
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

impl TriggerReport {
    pub(super) fn failed(&self) -> bool {
        matches!(self.answer, AnswerView::Error { .. })
    }
}
