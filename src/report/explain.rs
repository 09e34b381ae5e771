//! `/explain`: for every ScaledObject that asked lately, what was asked, what AWS said, and why KEDA is told what it is told.
//!
//! [`index`] and [`object`] gather values, [`page`] draws them for a browser, and as JSON they are for tools.

mod chart;
mod html;
pub mod page;
pub mod shards;
pub mod view;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

pub(crate) use self::html::{shortened, time};
use self::view::{SourceView, TriggerView};
pub use self::{
    html::CONTENT_SECURITY_POLICY,
    view::{Index, Object},
};
use crate::{
    decision::answer::answer,
    error::Error,
    report::journal::{Asker, Entry, Journal},
    source::snapshot::Snapshot,
    watch::Watchers,
};

/// The moment of which things are shown.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall time.
    pub time: Timestamp,
    /// The same by the monotonic clock.
    pub at: Instant,
}

impl Now {
    /// Whole seconds since then.
    pub fn seconds_since(&self, at: Instant) -> u64 {
        self.at.saturating_duration_since(at).as_secs()
    }
}

/// One line for every ScaledObject that asked lately.
pub fn index(journal: &Journal) -> Index {
    Index::new(&now(), &journal.latest())
}

/// All about one ScaledObject; `None`: it did not ask lately.
pub fn object(journal: &Journal, watchers: &Watchers, asker: &Asker) -> Option<Object> {
    let now = now();
    let entries = journal.entries_of(asker);
    let mut triggers: Vec<_> = entries
        .iter()
        .map(|entry| trigger(&now, watchers, entry))
        .collect();
    // One whose metadata were changed since is remembered below the one that is asked for now.
    triggers.sort_by_key(|trigger| trigger.asked_seconds_ago);
    (!triggers.is_empty()).then(|| Object {
        namespace: asker.namespace.clone(),
        name: asker.name.clone(),
        at: format!("{:.0}", now.time),
        triggers,
    })
}

fn trigger(now: &Now, watchers: &Watchers, entry: &Entry) -> TriggerView {
    let Entry { trigger, .. } = entry;
    let pace = watchers.pace();
    let state = watchers.known(&trigger.source).unwrap_or_default();
    let snapshot = state.standing(pace);
    let answer = match (&snapshot, state.failure()) {
        (Some(snapshot), _) => Some(answer(trigger, snapshot, pace.max_stale)),
        (None, Some(error)) => Some(Err(Error::Source(Arc::clone(error)))),
        (None, None) => None,
    };
    let last = || entry.answers.back().map(|last| last.answer.clone());
    let answer = answer
        .or_else(last)
        .unwrap_or_else(|| Err(Error::NotYet("AWS has not been asked yet".to_owned())));
    let source = SourceView {
        last_good_seconds_ago: state.last_good().map(|at| now.seconds_since(at)),
        failure: state.failure().map(ToString::to_string),
        ..SourceView::from_snapshot(now, snapshot.as_ref(), answer.as_ref().ok())
    };
    TriggerView::new(now, entry, &answer, source)
}

/// By both clocks.
pub fn now() -> Now {
    Now {
        time: Timestamp::now(),
        at: Instant::now(),
    }
}

impl SourceView {
    /// What a look at the source found.
    pub fn from_snapshot(
        now: &Now,
        snapshot: Option<&Snapshot>,
        answer: Option<&crate::decision::answer::Answer>,
    ) -> Self {
        match snapshot {
            None => Self::default(),
            Some(Snapshot::OpenShards(count)) => Self {
                open_shards: Some(*count),
                ..Self::default()
            },
            Some(Snapshot::Application(application)) => {
                let decision = answer.and_then(|answer| answer.decision.as_deref());
                Self {
                    application: Some(shards::application(application, decision, now)),
                    ..Self::default()
                }
            }
        }
    }
}
