//! What a watcher knows of its source, and what may be answered from it. Pure, but for the clock.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::Pace;
use crate::{
    decision::memories::Decisions,
    error::SourceError,
    metrics::WatcherCounts,
    source::{
        failure::Failure,
        snapshot::{ApplicationSnapshot, StreamSnapshot},
    },
};

/// What a watcher has to know of a snapshot.
pub trait Snapshot: Clone + fmt::Debug + Send + Sync + 'static {
    /// The facts.
    fn facts(&self) -> Facts<'_>;
}

/// What a watcher has to know of a snapshot.
#[derive(Debug)]
pub struct Facts<'a> {
    /// When AWS said it.
    pub at: Instant,
    /// Which number the log follows.
    pub what: &'static str,
    /// The number.
    pub count: i64,
    /// The work, of an application.
    pub application: Option<&'a ApplicationSnapshot>,
}

impl Snapshot for StreamSnapshot {
    fn facts(&self) -> Facts<'_> {
        Facts {
            at: self.at,
            what: "open shards",
            count: self.open_shards,
            application: None,
        }
    }
}

impl Snapshot for Arc<ApplicationSnapshot> {
    fn facts(&self) -> Facts<'_> {
        Facts {
            at: self.at,
            what: "readable shards",
            count: self.readable_count(),
            application: Some(self),
        }
    }
}

/// What a watcher knows.
#[derive(Clone, Debug)]
pub struct State<S> {
    /// The last good answer.
    pub(super) last_good: Option<S>,
    /// How the fetches since then failed.
    pub(super) failure: Option<Failure>,
    /// Of an application: what was decided of the last good answer that showed enough for it.
    pub(super) decisions: Decisions,
    /// Is it fetched at its own pace, or only when somebody asks?
    pub(super) pace: Fetching,
}

/// When a source is fetched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Fetching {
    /// At every refresh.
    #[default]
    Steadily,
    /// When somebody asks: nobody did since the last time, and no worker runs.
    OnDemand,
    /// Somebody asked: answers wait for what comes.
    Now,
}

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            last_good: None,
            failure: None,
            decisions: Decisions::default(),
            pace: Fetching::default(),
        }
    }
}

impl<S: Snapshot> State<S> {
    /// The last good answer, where it may stand in.
    pub fn standing(&self, pace: &Pace) -> Option<&S> {
        let stands = match &self.failure {
            Some(failure) if failure.is_certain() => return None,
            Some(_) => pace.max_stale,
            // At least until the next answer is due.
            None => pace.max_stale.max(pace.refresh.mul_f64(1.5)),
        };
        let last_good = self.last_good.as_ref();
        last_good.filter(|snapshot| snapshot.facts().at.elapsed() <= stands)
    }

    /// What is shown of it between two questions: where it is fetched on demand, the last answer,
    /// which is right until the next one.
    pub(super) fn shown(&self, pace: &Pace) -> Option<&S> {
        match &self.failure {
            None if self.pace != Fetching::Steadily => self.last_good.as_ref(),
            _ => self.standing(pace),
        }
    }

    /// The last failure, where the last fetch failed.
    pub fn failure(&self) -> Option<&Arc<SourceError>> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// When AWS last gave a good answer.
    pub fn last_good(&self) -> Option<Instant> {
        Some(self.last_good.as_ref()?.facts().at)
    }

    /// What was decided of the last good answer, by settings.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Somebody asks. Says whether that calls for a fetch: nothing else would bring one.
    pub(super) fn ask(&mut self, pace: &Pace) -> bool {
        let is_old = |at: Instant| at.elapsed() >= pace.refresh.mul_f64(0.9);
        let calls = self.pace == Fetching::OnDemand && self.last_good().is_none_or(is_old);
        if calls {
            self.pace = Fetching::Now;
        }
        calls
    }

    pub(super) fn count(&self, pace: &Pace, counts: &mut WatcherCounts) {
        match (self.shown(pace), &self.failure) {
            (Some(snapshot), failure) => {
                let Facts {
                    at, application, ..
                } = snapshot.facts();
                if self.pace == Fetching::Steadily {
                    counts.oldest = counts.oldest.max(at.elapsed());
                }
                match (probes_fail(application), failure) {
                    (Some(Probing::Blind), _) => counts.failing += 1,
                    (None, None) => counts.fresh += 1,
                    _ => counts.stale += 1,
                }
            }
            (None, None) if self.last_good.is_none() => counts.pending += 1,
            (None, _) => counts.failing += 1,
        }
    }
}

/// How far probes that fail leave an application in the dark.
enum Probing {
    /// Of some shards nothing new is known.
    Partly,
    /// Of no shard is anything known.
    Blind,
}

/// Denied and broken probes, throttled ones aside: shards and leases may be read all the same.
fn probes_fail(application: Option<&ApplicationSnapshot>) -> Option<Probing> {
    let application = application?;
    let lag = application.lag.as_ref()?;
    lag.failure.as_ref()?;
    Some(match lag.undecided < application.readable().count() {
        true => Probing::Partly,
        false => Probing::Blind,
    })
}
