//! Pages stay bounded, and nothing in them is more than text. As JSON, the same values have names
//! that tools can rely on.

use right_sizing::Step;
use serde_json::json;

use super::*;
use crate::{
    report::explain::{
        shards::{ApplicationView, LeaseView, ShardState, ShardView},
        view::{Keda, Line, SourceView},
    },
    trigger::understood::Pair,
};

const HOSTILE: &str = "\"><script>alert('1')</script><b x='";

/// Asked about lag, with so many shards, all of them as old as their number in s; every text is
/// `text`.
fn lagging(shards: u64, text: &str) -> Object {
    let shard = |n: u64| ShardView {
        id: format!("{text}shardId-{n:012}"),
        closed: false,
        parents: vec![text.to_owned()],
        state: ShardState::Unread,
        why: text.to_owned(),
        age_ms: Some(1_000 * n),
        lease: Some(LeaseView {
            owner: Some(text.to_owned()),
            live: true,
            checkpoint: text.to_owned(),
            busy: Some(0.5),
        }),
        asked: Some(text.to_owned()),
        stale: true,
        verdict_age_ms: Some(35_000),
        progress: Some(1.5),
        left_out: false,
    };
    let answer = AnswerView::Answer {
        value: 6,
        replicas: 3,
        active: true,
        reason: text.to_owned(),
        decision: Some(DecisionView {
            step: Step::Out,
            notes: vec![text.to_owned()],
            wished: 3,
            running: 2,
            shards_per_replica: 4,
            carry: None,
            checkpoint_interval_ms: 0,
            outage: None,
            orphans: 0,
            undecided: 0,
        }),
    };
    let answered = |minutes: u64| AnsweredView {
        since: text.to_owned(),
        seconds_ago: 60 * minutes,
        oldest_unread_ms: Some(70_000),
        answer: answer.clone(),
    };
    Object {
        namespace: text.to_owned(),
        name: text.to_owned(),
        at: "2026-01-02T03:04:05Z".to_owned(),
        triggers: vec![TriggerView {
            metadata: vec![
                Pair {
                    key: "streamName",
                    value: text.to_owned(),
                },
                Pair {
                    key: "lagThreshold",
                    value: "1m".to_owned(),
                },
            ],
            lag_threshold_ms: Some(60_000),
            asked_seconds_ago: 1,
            keda: Keda {
                metric_name: text.to_owned(),
                target: 2,
                answer: answer.clone(),
            },
            source: SourceView {
                last_good_seconds_ago: Some(3),
                failure: Some(text.to_owned()),
                open_shards: None,
                application: Some(ApplicationView {
                    read: "2026-01-02T03:04:02Z".to_owned(),
                    table: text.to_owned(),
                    malformed: vec![(text.to_owned(), text.to_owned())],
                    readable: shards as usize,
                    unread: Some(shards as usize),
                    undecided: Some(0),
                    oldest_unread_ms: Some(70_000),
                    failure: Some(text.to_owned()),
                    shards: (0..shards).map(shard).collect(),
                }),
            },
            answers: (0..60).rev().map(answered).collect(),
        }],
    }
}

fn all(objects: usize, text: &str) -> Index {
    let line = |n| Line {
        namespace: text.to_owned(),
        name: format!("{text}{n}"),
        triggers: vec![Short {
            stream: text.to_owned(),
            scale_on: "lag",
            asked_seconds_ago: 1,
            answer: Some(AnswerView::Error {
                code: text.to_owned(),
                error: text.to_owned(),
            }),
        }],
    };
    Index {
        at: "2026-01-02T03:04:05Z".to_owned(),
        scaled_objects: (0..objects).map(line).collect(),
        next: None,
    }
}

#[test]
fn whatever_a_text_holds_it_is_text() {
    for page in [object(&lagging(2, HOSTILE)), index(&all(2, HOSTILE))] {
        assert!(page.contains("&lt;script&gt;"), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("<b x="),
            "{page}"
        );
        // Out of an attribute's quotes neither.
        assert!(!page.contains("=\"\">"), "{page}");
    }
}

#[test]
fn a_name_that_no_path_can_have_is_no_link() {
    assert_eq!(link("shop", "..").as_deref(), None);
    assert_eq!(link("", "billing").as_deref(), None);
    assert_eq!(link("a/b", "c?d").as_deref(), Some("/explain/a%2Fb/c%3Fd"));
}

#[test]
fn every_shard_is_a_bar_up_to_a_hundred() {
    for (shards, bars, said) in [(3, 3, None), (5_000, 100, Some("and 4900 more"))] {
        let page = object(&lagging(shards, "billing"));
        assert_eq!(page.matches("<rect class=\"age ").count(), bars);
        assert_eq!(said.is_some(), page.contains("none worse than these"));
        assert!(page.contains(said.unwrap_or_default()));
        assert!(page.len() < 250_000, "{} bytes", page.len());
    }
}

#[test]
fn a_shard_past_the_threshold_is_late() {
    // Ages of 0 to 69 s, and a threshold of 60 s.
    let page = object(&lagging(70, "billing"));
    assert_eq!(page.matches("<rect class=\"age late\"").count(), 9);
    assert_eq!(page.matches("<rect class=\"age unread\"").count(), 61);
}

#[test]
fn of_lag_three_charts_are_drawn_and_thirty_answers_told() {
    let page = object(&lagging(1, "billing"));
    for title in [
        "Replicas",
        "Age of the oldest unread record",
        "Shards per replica",
    ] {
        let chart = format!("role=\"img\" aria-label=\"{title}\"");
        assert!(page.contains(&chart), "{title} is missing in {page}");
    }
    assert!(page.contains("running 2") && page.contains("wished 3"));
    assert!(page.contains("and 30 older ones"), "{page}");
}

#[test]
fn the_page_of_all_leads_to_the_next() {
    let more = |next: Option<&str>| {
        let page = index(&Index {
            next: next.map(str::to_owned),
            ..all(2, "billing")
        });
        page.contains("<a href=\"?namespace=shop&amp;name=billing\">more</a>")
    };
    assert!(more(Some("namespace=shop&name=billing")));
    assert!(!more(None));
}

#[test]
fn tools_find_everything_by_name() {
    let answer = json!({
        "value": 6, "replicas": 3, "active": true, "reason": "late",
        "decision": {
            "step": "out", "notes": ["late"], "wished": 3, "running": 2, "shardsPerReplica": 4, "carry": null, "checkpointIntervalMs": 0, "orphans": 0, "undecided": 0,
        },
    });
    let with = |mut more: serde_json::Value| {
        let fields = answer.as_object().cloned().unwrap_or_default();
        more.as_object_mut().unwrap().extend(fields);
        more
    };
    let mut object = serde_json::to_value(lagging(1, "late")).unwrap();
    let answers = object["triggers"][0]["answers"].take();
    assert_eq!(answers.as_array().unwrap().len(), 60);
    assert_eq!(
        answers[59],
        with(json!({"since": "late", "secondsAgo": 0, "oldestUnreadMs": 70_000}))
    );
    let shard = json!({
        "id": "lateshardId-000000000000", "closed": false, "parents": ["late"], "state": "unread", "why": "late", "ageMs": 0,
        "lease": {"owner": "late", "live": true, "checkpoint": "late", "busy": 0.5},
        "asked": "late", "stale": true, "verdictAgeMs": 35_000, "progress": 1.5, "leftOut": false,
    });
    let source = json!({
        "lastGoodSecondsAgo": 3, "failure": "late",
        "application": {
            "read": "2026-01-02T03:04:02Z", "table": "late", "malformed": [["late", "late"]], "readable": 1, "unread": 1, "undecided": 0,
            "oldestUnreadMs": 70_000, "failure": "late", "shards": [shard],
        },
    });
    let expected = json!({
        "namespace": "late", "name": "late", "at": "2026-01-02T03:04:05Z",
        "triggers": [{
            "metadata": [{"key": "streamName", "value": "late"}, {"key": "lagThreshold", "value": "1m"}],
            "askedSecondsAgo": 1,
            "keda": with(json!({"metricName": "late", "target": 2})),
            "source": source,
            "answers": null,
        }],
    });
    assert_eq!(object, expected);
    let index = serde_json::to_value(all(1, "late")).unwrap();
    let line = json!({"stream": "late", "scaleOn": "lag", "askedSecondsAgo": 1, "code": "late", "error": "late"});
    assert_eq!(index["scaledObjects"][0]["triggers"][0], line);
}

#[test]
fn a_chart_ends_with_what_holds_now_and_not_with_the_journals_last() {
    let mut lagging = lagging(1, "billing");
    let application = lagging.triggers[0].source.application.as_mut();
    application.unwrap().oldest_unread_ms = Some(3_000);
    assert!(object(&lagging).contains("oldest 3.0 s"));
}

#[test]
fn a_failure_is_told_once() {
    let mut lagging = lagging(1, "billing");
    let trigger = &mut lagging.triggers[0];
    let failed = "AccessDeniedException";
    trigger.source.failure = Some(failed.to_owned());
    let stale = object(&lagging);
    assert!(stale.contains("The last question failed"), "{stale}");
    lagging.triggers[0].keda.answer = AnswerView::Error {
        code: "PERMISSION_DENIED".to_owned(),
        error: failed.to_owned(),
    };
    let page = object(&lagging);
    assert!(page.contains("No answer: PERMISSION_DENIED"), "{page}");
    assert_eq!(page.matches(failed).count(), 1, "{page}");
}
