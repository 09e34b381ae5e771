//! What was found out about each trigger. Values, also printed as JSON.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    documents::Unread,
    scaling::{Outcome, Scaling},
};
use crate::{
    report::explain::{
        shards::ApplicationView,
        view::{AnswerView, DecisionView},
    },
    trigger::understood::Pair,
};

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) triggers: Vec<TriggerReport>,
    /// What was passed over.
    pub(super) unread: Vec<Unread>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerReport {
    pub(super) place: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) namespace: String,
    /// Keys that are not read, and why. Never their values: they may be secrets.
    #[serde(serialize_with = "names")]
    pub(super) ignored: Vec<(String, String)>,
    /// Of them: what would be right.
    pub(super) hints: Vec<String>,
    #[serde(flatten)]
    pub(super) seen: Seen,
    /// What KEDA would get.
    pub(super) told: Told,
}

/// What KEDA would get for a trigger.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum Told {
    /// An answer.
    Answer {
        value: i64,
        /// Of the whole object; `None`: the answer alone does not say it.
        #[serde(skip_serializing_if = "Option::is_none")]
        replicas: Option<i64>,
        active: bool,
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionView>,
        #[serde(skip)]
        words: String,
        /// What else decides on the replicas.
        left_out: Vec<String>,
    },
    /// An error.
    Error {
        code: String,
        error: String,
        /// What the object's `fallback` makes of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// Nothing: Kubernetes or KEDA refuses the object.
    Refused { refused: Vec<String> },
    /// It depends on what only the cluster knows.
    Unknown { unknown: Vec<String> },
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
    /// Who asks about the lease table, where that is another.
    pub(super) table_identity: Option<String>,
    pub(super) permissions: Vec<Permission>,
    /// The application's work, where it is asked for. As `/explain` shows it.
    pub(super) application: Option<ApplicationView>,
    /// What is not as it should be, and is no error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
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
    /// The IAM policy statement that the identity lacks, where that is the cause.
    pub(super) statement: Option<Value>,
}

impl Told {
    /// `has_spec`: does GetMetricSpec answer?
    pub(super) fn new(answer: AnswerView, scaling: Option<&Scaling>, has_spec: bool) -> Self {
        match answer {
            AnswerView::Answer {
                value,
                replicas,
                active,
                reason,
                decision,
            } => {
                let Outcome {
                    replicas,
                    words,
                    mut left_out,
                } = match scaling {
                    Some(scaling) => scaling.outcome(replicas, active),
                    None => Scaling::outcome_alone(replicas, active),
                };
                left_out.extend(scaling.and_then(|it| it.fallback_words(true)));
                Self::Answer {
                    value,
                    replicas,
                    active,
                    reason,
                    decision,
                    words,
                    left_out,
                }
            }
            AnswerView::Error { code, error } => Self::Error {
                code,
                error,
                fallback: scaling.and_then(|it| it.fallback_words(has_spec)),
            },
        }
    }

    pub(super) fn is_error(&self) -> bool {
        matches!(self, Self::Error { .. } | Self::Refused { .. })
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

fn names<S: Serializer>(ignored: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ignored.iter().map(|(name, _)| name))
}
