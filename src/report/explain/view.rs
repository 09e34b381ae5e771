//! What is shown, as values: for a browser and for tools.

use right_sizing::{Decision, Outage, Step};
use serde::Serialize;

use super::{Now, shards::ApplicationView};
use crate::{
    decision::{answer::Answer, memories::settings},
    error::{Error, code_name},
    report::journal::{Answered, Asker, Entry},
    trigger::{
        Trigger,
        understood::{Mode, Pair, understood},
    },
};

/// Every ScaledObject that asked lately, a line each.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// The moment shown, in UTC.
    pub at: String,
    /// By namespace and name.
    pub scaled_objects: Vec<Line>,
    /// The query that asks for those that come after; absent: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One ScaledObject, in short.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its namespace, as claimed.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its triggers, in short.
    pub triggers: Vec<Short>,
}

/// One trigger, in short.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Short {
    /// The stream, by name or ARN.
    pub stream: String,
    /// Its `scaleOn`.
    pub scale_on: &'static str,
    /// When it was last asked for.
    pub asked_seconds_ago: u64,
    /// Its last answer.
    #[serde(flatten)]
    pub answer: Option<AnswerView>,
}

/// All about one ScaledObject.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its namespace, as claimed.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The moment shown, in UTC.
    pub at: String,
    /// Its triggers: the one asked for last comes first.
    pub triggers: Vec<TriggerView>,
}

/// All about one trigger.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerView {
    /// What it asks for, as understood: every key that holds, also by default.
    pub metadata: Vec<Pair>,
    /// `lagThreshold`, which the charts compare with.
    #[serde(skip)]
    pub lag_threshold_ms: Option<u64>,
    /// When it was last asked for.
    pub asked_seconds_ago: u64,
    /// The answer that KEDA gets now.
    pub keda: Keda,
    /// What is known of the source.
    pub source: SourceView,
    /// The answers of the last hour, oldest first; equal ones in a row are one.
    pub answers: Vec<AnsweredView>,
}

/// What KEDA gets for a trigger.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keda {
    /// The metric's name.
    pub metric_name: String,
    /// The metric's target.
    pub target: i64,
    /// Its value, or why there is none.
    #[serde(flatten)]
    pub answer: AnswerView,
}

/// An answer, or why there is none.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum AnswerView {
    /// An answer.
    Answer {
        /// The metric's value.
        value: i64,
        /// The replicas that the value comes to, before the ScaledObject's own bounds.
        replicas: i64,
        /// Is the trigger active?
        active: bool,
        /// What the value follows from, in words.
        reason: String,
        /// How lag became replicas.
        #[serde(skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionView>,
    },
    /// An error.
    Error {
        /// The gRPC code.
        code: String,
        /// The text.
        error: String,
    },
}

/// How lag became replicas: a [`Decision`] without its shards, which [`ApplicationView`] shows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    /// What kind of decision it is.
    pub step: Step,
    /// What a user should know besides.
    pub notes: Vec<String>,
    /// The replicas wished.
    pub wished: u32,
    /// Pods that hold a lease.
    pub running: u32,
    /// Shards per replica.
    pub shards_per_replica: u32,
    /// The most shards that a pod was seen to carry, while that is remembered.
    pub carry: Option<f64>,
    /// The time between checkpoints, as observed, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// Whose checkpoints stand still, while there is an outage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
    /// Shards with work that nobody takes although pods run.
    pub orphans: u32,
    /// Shards of which nothing is known yet: where there are any, the replicas are a lower bound.
    pub undecided: u32,
}

/// An answer and since when it is given.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnsweredView {
    /// When it was first given, in UTC.
    pub since: String,
    /// The same, in seconds before now.
    pub seconds_ago: u64,
    /// The age of the oldest unread record then, where lag was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_unread_ms: Option<u64>,
    /// The answer.
    #[serde(flatten)]
    pub answer: AnswerView,
}

/// What is known of the source.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// When AWS last gave a good answer.
    pub last_good_seconds_ago: Option<u64>,
    /// How the last fetch failed, if it did.
    pub failure: Option<String>,
    /// The stream's open shards, where only they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_shards: Option<i64>,
    /// The application's work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationView>,
}

impl Index {
    pub(super) fn new(now: &Now, entries: &[(Asker, Vec<Entry>)], has_more: bool) -> Self {
        let line = |(asker, entries): &(Asker, Vec<Entry>)| Line {
            namespace: asker.namespace.clone(),
            name: asker.name.clone(),
            triggers: entries.iter().map(|entry| Short::new(now, entry)).collect(),
        };
        Self {
            at: format!("{:.0}", now.time),
            scaled_objects: entries.iter().map(line).collect(),
            next: entries
                .last()
                .filter(|_| has_more)
                .map(|(last, _)| last.query()),
        }
    }
}

impl Short {
    fn new(now: &Now, entry: &Entry) -> Self {
        let last = entry.answers.back();
        Self {
            stream: entry.trigger.stream.stream.to_string(),
            scale_on: Mode::from_trigger(&entry.trigger).name(),
            asked_seconds_ago: now.seconds_since(entry.asked),
            answer: last.map(|last| AnswerView::new(&last.answer, entry.trigger.shard_count)),
        }
    }
}

impl TriggerView {
    pub(super) fn new(
        now: &Now,
        entry: &Entry,
        answer: &Result<Answer, Error>,
        source: SourceView,
    ) -> Self {
        let Entry { trigger, .. } = entry;
        let view = |answered: &Answered| AnsweredView {
            since: format!("{:.0}", now.time_of(answered.at)),
            seconds_ago: now.seconds_since(answered.at),
            oldest_unread_ms: answered.oldest_ms,
            answer: AnswerView::new(&answered.answer, trigger.shard_count),
        };
        Self {
            metadata: understood(trigger),
            lag_threshold_ms: settings(trigger).map(|settings| settings.lag_threshold_ms),
            asked_seconds_ago: now.seconds_since(entry.asked),
            keda: Keda::new(trigger, answer),
            source,
            answers: entry.answers.iter().map(view).collect(),
        }
    }
}

impl Keda {
    /// What KEDA gets for this trigger.
    pub fn new(trigger: &Trigger, answer: &Result<Answer, Error>) -> Self {
        Self {
            metric_name: trigger.metric_name(),
            target: trigger.shard_count,
            answer: AnswerView::new(answer, trigger.shard_count),
        }
    }
}

impl AnswerView {
    /// An answer or an error; `target`: the value per replica.
    pub fn new(answer: &Result<Answer, Error>, target: i64) -> Self {
        match answer {
            Ok(answer) => Self::Answer {
                value: answer.value,
                replicas: replicas(answer.value, target),
                active: answer.active,
                reason: answer.reason.clone(),
                decision: answer.decision.as_deref().map(DecisionView::new),
            },
            Err(error) => Self::Error {
                code: code_name(error.code()).to_owned(),
                error: error.to_string(),
            },
        }
    }
}

impl DecisionView {
    fn new(decision: &Decision) -> Self {
        Self {
            step: decision.step,
            notes: decision.notes.iter().map(ToString::to_string).collect(),
            wished: decision.replicas,
            running: decision.running,
            shards_per_replica: decision.shards_per_replica,
            carry: decision.carry,
            checkpoint_interval_ms: decision.checkpoint_interval_ms,
            outage: decision.outage.clone(),
            orphans: decision.orphans,
            undecided: decision.undecided,
        }
    }
}

/// The replicas of a value, as the HPA computes them for AverageValue: rounded up.
fn replicas(value: i64, target: i64) -> i64 {
    let (whole, rest) = (value / target, value % target);
    whole + i64::from(rest > 0)
}
