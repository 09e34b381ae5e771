//! What is known of a source, and what may be answered from it. Pure, but for the clock.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Pace;
use crate::{
    error::{Error, SourceError},
    metrics::WatcherCounts,
    source::snapshot::Snapshot,
    trigger::Source,
};

/// What a watcher knows.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last good answer.
    pub(super) last_good: Option<LastGood>,
    /// How the questions since then failed.
    pub(super) failure: Option<Failure>,
}

/// A good answer.
#[derive(Clone, Debug)]
pub(super) struct LastGood {
    pub(super) snapshot: Snapshot,
    /// When AWS gave it.
    pub(super) at: Instant,
}

/// Failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The last.
    pub(super) error: Arc<SourceError>,
    pub(super) in_a_row: u32,
    /// How many of the last were permanent.
    pub(super) permanent_in_a_row: u32,
}

impl State {
    /// What an RPC is told; `None`: nothing is known yet. `lag`: of what is unread, too.
    pub(super) fn verdict(
        &self,
        source: &Source,
        lag: bool,
        pace: &Pace,
    ) -> Option<Result<Snapshot, Error>> {
        if let Some(snapshot) = self.standing(pace) {
            let lacks_lag =
                lag && matches!(&snapshot, Snapshot::Application(it) if it.lag.is_none());
            return (!lacks_lag).then_some(Ok(snapshot));
        }
        if let Some(failure) = &self.failure {
            return Some(Err(Error::Source(Arc::clone(&failure.error))));
        }
        let age = self.last_good.as_ref()?.at.elapsed();
        Some(Err(too_old(source, age)))
    }

    /// The last good answer, where it may stand in.
    pub fn standing(&self, pace: &Pace) -> Option<Snapshot> {
        let good = self.last_good.as_ref()?;
        let gone = self.failure.as_ref().is_some_and(Failure::is_certain);
        let stands = match self.failure {
            Some(_) => pace.max_stale,
            // At least until the next answer is due.
            None => pace.max_stale.max(pace.refresh.mul_f64(1.5)),
        };
        (good.at.elapsed() <= stands && !gone).then(|| good.snapshot.clone())
    }

    /// The last failure, where the last question failed.
    pub fn failure(&self) -> Option<&Arc<SourceError>> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// When AWS last gave a good answer.
    pub fn last_good(&self) -> Option<Instant> {
        self.last_good.as_ref().map(|good| good.at)
    }

    pub(super) fn count(&self, pace: &Pace, counts: &mut WatcherCounts) {
        let standing = self.standing(pace).is_some();
        match (&self.last_good, &self.failure) {
            (Some(good), failure) if standing => {
                counts.oldest = counts.oldest.max(good.at.elapsed());
                if failure.is_none() {
                    counts.fresh += 1;
                } else {
                    counts.stale += 1;
                }
            }
            (None, None) => counts.pending += 1,
            _ => counts.failing += 1,
        }
    }
}

impl Failure {
    /// After `before`, or after a good answer, `error`.
    pub(super) fn after(before: Option<&Self>, error: SourceError) -> Self {
        let in_a_row = before.map_or(0, |before| before.in_a_row);
        let permanent = before.map_or(0, |before| before.permanent_in_a_row);
        Self {
            permanent_in_a_row: if error.kind.is_permanent() {
                permanent + 1
            } else {
                0
            },
            in_a_row: in_a_row.saturating_add(1),
            error: Arc::new(error),
        }
    }

    /// A deleted stream, or a denial: seen twice, it is believed at once.
    fn is_certain(&self) -> bool {
        self.permanent_in_a_row >= 2
    }
}

/// There is no answer yet.
pub(super) fn not_yet(source: &Source) -> Error {
    let Source { stream, region, .. } = source;
    Error::NotYet(format!(
        "AWS is being asked about stream {stream} in {region}, with no answer yet: ask again. If this stays, see the scaler's aws_calls metric, aws.callsPerSecond and aws.timeout"
    ))
}

fn too_old(source: &Source, age: Duration) -> Error {
    let Source { stream, region, .. } = source;
    let age = age.as_secs();
    if let Some(table) = &source.lease_table {
        return Error::NotYet(format!(
            "the last answer about stream {stream} in {region} and lease table {} is {age} s old and the next look has not ended yet: see the scaler's aws_call_duration metric, and raise aws.maxStale where AWS is slow for long",
            table.name
        ));
    }
    Error::NotYet(format!(
        "the last answer about stream {stream} in {region} is {age} s old and the next question to AWS waits for its turn: raise aws.callsPerSecond or aws.maxStale, or allow kinesis:ListShards"
    ))
}
