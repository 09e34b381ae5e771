//! `/explain`: for every ScaledObject that asked lately, what it asked, what AWS said, and why KEDA
//! gets the answer that it gets.
//!
//! [`index`] and [`object`] gather values, [`page`] draws them for a browser, and as JSON they are
//! for tools. Both only read: no watcher starts, and nothing is decided that is remembered.

mod chart;
mod html;
pub mod page;
pub mod shards;
#[cfg(test)]
mod tests;
pub mod view;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use self::view::{SourceView, TriggerView};
pub use self::{
    html::CONTENT_SECURITY_POLICY,
    view::{Index, Object},
};
use crate::{
    decision::answer::{Answer, Question, answer_application, answer_open_shards},
    error::Error,
    report::journal::{Asker, Entry, Journal},
    trigger::{ScaleOn, Trigger},
    watch::{Snapshot, State, Watchers},
};

/// The moment that a page or a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall time.
    pub time: Timestamp,
    /// The same by the monotonic clock.
    pub at: Instant,
}

impl Now {
    /// That moment in wall time.
    pub fn time_of(&self, at: Instant) -> Timestamp {
        let ago = self.at.saturating_duration_since(at);
        self.time.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    /// Whole seconds since then.
    pub fn seconds_since(&self, at: Instant) -> u64 {
        self.at.saturating_duration_since(at).as_secs()
    }
}

/// The most ScaledObjects in one answer: a page that takes long to draw is for nobody.
const MOST_LINES: usize = 1_000;

/// One line for every ScaledObject that asked lately, after one.
pub fn index(journal: &Journal, after: Option<&Asker>) -> Index {
    let (page, has_more) = journal.latest(after, MOST_LINES);
    Index::new(&now(), &page, has_more)
}

/// All about one ScaledObject; `None`: it did not ask lately.
pub fn object(journal: &Journal, watchers: &Watchers, asker: &Asker) -> Option<Object> {
    let now = now();
    let entries = journal.entries_of(asker);
    let mut triggers: Vec<_> = entries
        .iter()
        .map(|entry| trigger(&now, watchers, entry))
        .collect();
    // The journal still has triggers whose metadata were changed since: they stand below the
    // current one.
    triggers.sort_by_key(|trigger| trigger.asked_seconds_ago);
    (!triggers.is_empty()).then(|| Object {
        namespace: asker.namespace.clone(),
        name: asker.name.clone(),
        at: format!("{:.0}", now.time),
        triggers,
    })
}

fn trigger(now: &Now, watchers: &Watchers, entry: &Entry) -> TriggerView {
    let pace = &watchers.pace();
    let Trigger {
        stream,
        scale_on,
        shard_count,
    } = &entry.trigger;
    let (answer, source) = match scale_on {
        ScaleOn::OpenShards { activation } => {
            let state = watchers.known(stream).unwrap_or_default();
            let snapshot = state.shown(pace);
            let answer = snapshot.map(|seen| Ok(answer_open_shards(seen, *activation)));
            let source = SourceView {
                open_shards: snapshot.map(|seen| seen.open_shards),
                ..SourceView::new(now, &state)
            };
            (answer.or_else(|| failed(&state)), source)
        }
        ScaleOn::Application(work) => {
            let state = watchers.known(&work.application(stream));
            let state = state.unwrap_or_default();
            let question = Question {
                stream,
                work,
                shard_count: *shard_count,
                max_stale: pace.max_stale,
            };
            let seen = state.shown(pace).map(|snapshot| {
                let answer = answer_application(&question, snapshot, state.decisions());
                let application = shards::application(snapshot, &answer, now);
                (answer, application)
            });
            let (answer, application) = seen.unzip();
            let source = SourceView {
                application,
                ..SourceView::new(now, &state)
            };
            (answer.or_else(|| failed(&state)), source)
        }
    };
    let last = || entry.answers.back().map(|last| last.answer.clone());
    let answer = answer
        .or_else(last)
        .unwrap_or_else(|| Err(Error::NotYet("AWS has not been asked yet".to_owned())));
    TriggerView::new(now, entry, &answer, source)
}

fn failed<S: Snapshot>(state: &State<S>) -> Option<Result<Answer, Error>> {
    let error = state.failure()?;
    Some(Err(Error::Source(Arc::clone(error))))
}

impl SourceView {
    fn new<S: Snapshot>(now: &Now, state: &State<S>) -> Self {
        Self {
            last_good_seconds_ago: state.last_good().map(|at| now.seconds_since(at)),
            failure: state.failure().map(ToString::to_string),
            ..Self::default()
        }
    }
}

/// The present moment, by both clocks.
pub fn now() -> Now {
    Now {
        time: Timestamp::now(),
        at: Instant::now(),
    }
}
