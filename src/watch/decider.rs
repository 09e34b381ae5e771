//! Decides, with a memory for each distinct settings that are asked with, and publishes.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
};

use right_sizing::{Decision, Observation, Settings, Step};
use tokio::sync::watch;
use tracing::info;

use super::{
    LivePace,
    demand::Demand,
    lock,
    state::{Snapshot, State},
    table::Watched,
};
use crate::{
    decision::{
        memories::{Decisions, Memories},
        observe,
        record::Recorder,
    },
    error::SourceErrorKind,
    telemetry::SeldomBy,
    trigger::{LeaseTable, StreamSource, tenant::Tenant},
};

/// A failure as the log tells it, once a minute.
pub(super) type Failed = (Tenant, SourceErrorKind);

/// What a watcher knows and remembers, beside its fetcher: it decides also while that fetches.
pub(super) struct Decider<W: Watched> {
    pub(super) source: W,
    /// Whose fault it is where the source fails by its author's.
    pub(super) tenant: Tenant,
    pub(super) told: Arc<SeldomBy<Failed>>,
    pub(super) demand: Arc<Demand>,
    pub(super) memories: Memories,
    pub(super) recorder: Option<Arc<Recorder>>,
    pub(super) pace: LivePace,
    pub(super) state: Arc<Mutex<State<W::Snapshot>>>,
    /// Says that the state changed.
    pub(super) changes: watch::Sender<()>,
}

impl<W: Watched> Decider<W> {
    /// Waits for `end`; meanwhile decides for those who ask with new settings.
    pub(super) async fn meanwhile<T>(&mut self, end: impl Future<Output = T>) -> T {
        let demand = Arc::clone(&self.demand);
        let mut end = pin!(end);
        loop {
            tokio::select! {
                biased;
                ended = &mut end => return ended,
                () = demand.settings.notified() => self.decide_for_new(),
            }
        }
    }

    fn decide_for_new(&mut self) {
        let known = lock(&self.state).clone();
        if let Some(snapshot) = &known.last_good {
            let decisions = self.decide(snapshot, &known.decisions, false);
            lock(&self.state).decisions = decisions;
        }
    }

    /// Decides with all settings that are asked with; those in `before` only if `anew`.
    pub(super) fn decide(
        &mut self,
        snapshot: &W::Snapshot,
        before: &Decisions,
        anew: bool,
    ) -> Decisions {
        let application = snapshot.facts().application;
        let observation = match application.and_then(|it| observe(it, self.pace.get().max_stale)) {
            Some(Ok(observation)) => observation,
            Some(Err(unknown)) => return before.while_unknown(unknown),
            None => return before.clone(),
        };
        let all = self.demand.settings();
        self.memories.keep(&all);
        all.into_iter()
            .map(|settings| {
                let known = before.get(&settings);
                let decision = match known {
                    Some(known) if !anew => Arc::clone(known),
                    _ => self.decide_with(settings, &observation, known),
                };
                (settings, decision)
            })
            .collect()
    }

    fn decide_with(
        &mut self,
        settings: Settings,
        observation: &Observation,
        before: Option<&Arc<Decision>>,
    ) -> Arc<Decision> {
        if let (Some(recorder), (stream, Some(table))) = (&self.recorder, self.source.names()) {
            recorder.record(stream, table, settings, observation);
        }
        let decision = self.memories.decide(settings, observation);
        let is_news = |before: &Arc<Decision>| {
            (before.replicas, before.active) != (decision.replicas, decision.active)
        };
        if before.is_none_or(is_news) {
            self.log(&decision);
        }
        decision
    }

    fn log(&self, decision: &Decision) {
        let (StreamSource { stream, region, .. }, table) = self.source.names();
        let table = table.map(LeaseTable::as_asked);
        let Decision {
            replicas,
            active,
            reason,
            running,
            step,
            ..
        } = decision;
        let tried = matches!(step, Step::In | Step::Back);
        info!(%stream, region, table, replicas, active, running, tried, "{reason}");
    }
}
