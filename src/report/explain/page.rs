//! The pages for browsers: one with a line for every ScaledObject, and one for each of them. Their
//! size is bounded.

mod shards;
#[cfg(test)]
mod tests;

use maud::{Markup, html};

use super::{
    chart::{Chart, Line},
    html::{count, document, link},
    view::{AnswerView, AnsweredView, DecisionView, Index, Object, Short, TriggerView},
};

use crate::report::text::time;

/// The most answers in the table. The charts have every one.
const MOST_ANSWERS: usize = 30;

/// The page of all ScaledObjects.
pub fn index(index: &Index) -> String {
    let objects = &index.scaled_objects;
    let body = html! {
        h1 { "What KEDA is told" }
        p.dim { (count(objects.len() as i64, "ScaledObject")) " asked within the last hour · " (index.at) " · " a href="?format=json" { "JSON" } }
        @if objects.is_empty() {
            div.card { p { "Nobody has asked yet. KEDA asks when a ScaledObject with this scaler's address is applied, and then every pollingInterval." } }
        } @else {
            div.card.wide {
                table {
                    tr { th { "ScaledObject" } th { "stream" } th { "scaleOn" } th.number { "replicas" } th { "active" } th { "why" } }
                    @for object in objects {
                        @for trigger in &object.triggers {
                            tr {
                                td { (name(&object.namespace, &object.name)) }
                                td { (trigger.stream) }
                                td { (trigger.scale_on) }
                                (short(trigger))
                            }
                        }
                    }
                }
                @if let Some(next) = &index.next { p.dim { a href={ "?" (next) } { "more" } } }
            }
        }
    };
    document("What KEDA is told", &body)
}

fn name(namespace: &str, name: &str) -> Markup {
    html! {
        @match link(namespace, name) {
            Some(link) => a href=(link) { (namespace) "/" (name) },
            None => { (namespace) "/" (name) },
        }
    }
}

fn short(trigger: &Short) -> Markup {
    html! {
        @match &trigger.answer {
            Some(AnswerView::Answer { replicas, active, reason, .. }) => {
                td.number { (replicas) }
                td { (yes(*active)) }
                td { (reason) }
            }
            Some(AnswerView::Error { code, error }) => {
                td.number { "—" }
                td { span.bad { (code) } }
                td { (error) }
            }
            None => { td {} td {} td { "no answer yet" } }
        }
    }
}

/// The page of one ScaledObject.
pub fn object(object: &Object) -> String {
    let title = format!("{}/{}", object.namespace, object.name);
    let body = html! {
        p { a href="/explain" { "All ScaledObjects" } }
        h1 { (title) }
        p.dim { (object.at) " · " a href="?format=json" { "JSON" } }
        @for trigger in &object.triggers { (card(trigger)) }
    };
    document(&title, &body)
}

fn card(trigger: &TriggerView) -> Markup {
    let application = trigger.source.application.as_ref();
    html! {
        section.card {
            (headline(trigger))
            (tiles(trigger))
            (aws(trigger))
            div.charts { (charts(trigger)) }
            @if let Some(application) = application {
                (shards::table(application, trigger.lag_threshold_ms))
            }
            h3 { "The trigger, as understood" }
            table.keys {
                @for key in &trigger.metadata {
                    tr { td { code { (key.key) } } td { (key.value) } }
                }
            }
            (answers(&trigger.answers))
        }
    }
}

/// Why so many replicas, in a sentence.
fn headline(trigger: &TriggerView) -> Markup {
    html! {
        @match &trigger.keda.answer {
            AnswerView::Answer { replicas, reason, decision, .. } => {
                h2.headline { (count(*replicas, "replica")) }
                p { (reason) "." }
                @for note in decision.iter().flat_map(|it| &it.notes) { p { "Note: " (note) } }
            }
            AnswerView::Error { code, error } => {
                h2.headline { span.bad { "No answer: " (code) } }
                p { (error) }
                p.dim { "KEDA keeps the replicas as they are, or takes the ScaledObject's fallback." }
            }
        }
        @if trigger.asked_seconds_ago > 120 {
            p.dim { "Last asked for " (time(trigger.asked_seconds_ago * 1_000)) " ago: the ScaledObject may have been changed or deleted since." }
        }
    }
}

fn tiles(trigger: &TriggerView) -> Markup {
    let application = trigger.source.application.as_ref();
    let tile = |what: &str, value: &str| html! { div { b { (value) } small { (what) } } };
    let unread = |unread: usize, readable: usize| format!("{unread} of {readable}");
    html! {
        div.tiles {
            @if let AnswerView::Answer { value, active, decision, .. } = &trigger.keda.answer {
                (tile(&format!("value of {}", trigger.keda.metric_name), &value.to_string()))
                (tile("target (shardCount)", &trigger.keda.target.to_string()))
                div { b { (yes(*active)) } small { "active" } }
                @if let Some(DecisionView { running, shards_per_replica, carry, .. }) = decision {
                    (tile("pods that hold a lease", &running.to_string()))
                    (tile("shards per replica", &shards_per_replica.to_string()))
                    @if let Some(carry) = carry { (tile("shards a pod can carry, at most", &format!("{carry:.1}"))) }
                }
            }
            @if let Some(application) = application {
                @match application.unread {
                    Some(n) => (tile("readable shards with unread records", &unread(n, application.readable))),
                    None => (tile("readable shards", &application.readable.to_string())),
                }
                @if let Some(age) = application.oldest_unread_ms { (tile("age of the oldest unread record", &time(age))) }
            }
        }
    }
}

fn yes(is: bool) -> Markup {
    html! { @if is { span.good { "yes" } } @else { span { "no" } } }
}

fn aws(trigger: &TriggerView) -> Markup {
    let source = &trigger.source;
    // Not what the headline says already.
    let said = match &trigger.keda.answer {
        AnswerView::Error { error, .. } => Some(error),
        AnswerView::Answer { .. } => None,
    };
    let failure = source.failure.as_ref().filter(|it| Some(*it) != said);
    let look = source
        .application
        .as_ref()
        .and_then(|it| it.failure.as_ref());
    html! {
        p.dim {
            @match source.last_good_seconds_ago {
                Some(ago) => { "AWS last answered " (ago) " s ago." },
                None => "AWS has given no good answer yet.",
            }
        }
        @if let Some(failure) = failure { p { span.bad { "The last question failed: " } (failure) } }
        @if let Some(failure) = look { p { span.bad { "Shards could not be looked into: " } (failure) } }
    }
}

fn charts(trigger: &TriggerView) -> Markup {
    let until = trigger.asked_seconds_ago;
    // The journal keeps an age a minute, so the present values are added as the last points.
    let application = trigger.source.application.as_ref();
    let present = AnsweredView {
        since: String::new(),
        seconds_ago: until,
        oldest_unread_ms: application.and_then(|it| it.oldest_unread_ms),
        answer: trigger.keda.answer.clone(),
    };
    let answers: Vec<_> = trigger.answers.iter().chain([&present]).collect();
    let line = |label, value: fn(&AnsweredView) -> Option<f64>| Line {
        label,
        points: answers
            .iter()
            .map(|it| (it.seconds_ago, value(it)))
            .collect(),
    };
    let chart = |title, lines, unit| Chart {
        title,
        lines,
        level: None,
        unit,
        until,
    };
    let whole: fn(f64) -> String = |value| format!("{value}");
    let of_lag = answers.iter().any(|it| decided(it).is_some());
    html! {
        @if of_lag {
            (chart("Replicas", vec![line("wished", replicas), line("running", |it| Some(decided(it)?.running.into()))], whole).draw())
            (Chart {
                level: trigger.lag_threshold_ms.map(|it| ("lagThreshold", it as f64)),
                ..chart("Age of the oldest unread record", vec![line("oldest", oldest)], |ms| time(ms as u64))
            }.draw())
            (chart("Shards per replica", vec![line("wished", |it| Some(decided(it)?.shards_per_replica.into()))], whole).draw())
        } @else {
            (chart("Replicas", vec![line("told", replicas)], whole).draw())
            (chart("Value", vec![line("value", value)], whole).draw())
        }
    }
}

fn decided(answered: &AnsweredView) -> Option<&DecisionView> {
    match &answered.answer {
        AnswerView::Answer { decision, .. } => decision.as_ref(),
        AnswerView::Error { .. } => None,
    }
}

fn value(answered: &AnsweredView) -> Option<f64> {
    match answered.answer {
        AnswerView::Answer { value, .. } => Some(value as f64),
        AnswerView::Error { .. } => None,
    }
}

fn replicas(answered: &AnsweredView) -> Option<f64> {
    match answered.answer {
        AnswerView::Answer { replicas, .. } => Some(replicas as f64),
        AnswerView::Error { .. } => None,
    }
}

/// The age of the oldest unread record, 0 where nothing is unread; `None` where lag was not
/// measured.
fn oldest(answered: &AnsweredView) -> Option<f64> {
    decided(answered)?;
    Some(answered.oldest_unread_ms.unwrap_or(0) as f64)
}

fn answers(answers: &[AnsweredView]) -> Markup {
    let older = answers.len().saturating_sub(MOST_ANSWERS);
    html! {
        h3 { "Answers of the last hour" }
        div.wide {
            table {
                tr { th { "since" } th.number { "value" } th.number { "replicas" } th { "active" } th { "why" } }
                @for answered in answers.iter().rev().take(MOST_ANSWERS) {
                    tr {
                        td.when { (time(answered.seconds_ago * 1_000)) " ago" }
                        @match &answered.answer {
                            AnswerView::Answer { value, replicas, active, reason, .. } => {
                                td.number { (value) } td.number { (replicas) } td { (yes(*active)) } td { (reason) }
                            }
                            AnswerView::Error { code, error } => {
                                td.number { "—" } td.number { "—" } td { span.bad { (code) } } td { (error) }
                            }
                        }
                    }
                }
            }
        }
        @if older > 0 { p.dim { "and " (older) " older ones: see the JSON" } }
    }
}
