//! What this worker knows of a KCL 3 leader.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    decide::kcl3::{LeaderWatch, Regime, Signs},
    edge::lease_table::Kcl3State,
};

/// What this worker knows of a KCL 3 leader.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    known: Mutex<Known>,
    /// Asks for a look at the table now.
    pub(super) look: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) state: Kcl3State,
    watch: LeaderWatch,
    pub(super) regime: Regime,
    /// KCL 3 was seen among the leases.
    saw_kcl3: bool,
    /// When this worker reported itself last.
    pub(super) reported: Option<Instant>,
}

impl Leadership {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the table says.
    pub(crate) fn learn(&self, state: Kcl3State) {
        let known = &mut *self.known();
        known.watch.observe(&state, Instant::now());
        known.state = state;
    }

    /// The worker that has the leader's lock.
    pub(crate) fn leader(&self) -> Option<String> {
        self.known().watch.leader().map(str::to_owned)
    }

    /// Who rules, as the leases' signs have it from now on; and whether that is another leader, or
    /// none any more.
    pub(crate) fn judge(&self, signs: &Signs, failover: Duration, now: Instant) -> (Regime, bool) {
        let known = &mut *self.known();
        let regime = known.watch.regime(&known.state, signs, failover, now);
        let is_new = regime.leader() != known.regime.leader();
        known.regime.clone_from(&regime);
        (regime, is_new)
    }

    /// KCL 3 was seen among the leases: if that is news, there is more to know.
    pub(crate) fn saw_kcl3(&self) {
        let known = &mut *self.known();
        let is_news = !std::mem::replace(&mut known.saw_kcl3, true);
        if is_news && known.state.client_version.is_none() {
            self.look.notify_one();
        }
    }

    /// Whether a KCL 3 leader rules.
    pub(crate) fn is_led(&self) -> bool {
        matches!(self.known().regime, Regime::Led { .. })
    }
}
