//! What this worker knows of a KCL 3 leader, and what the leader is told of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    decide::kcl3::{LeaderWatch, Regime, Signs},
    edge::lease_table::{Kcl3State, TableError},
    face::event::Event,
    run::context::Context,
};

/// The time between reads of `Migration3.0`, as KCL's own.
const CALM: Duration = Duration::from_secs(60);
/// The time between reads of the lock while a leader lives, or may come.
const ATTENTIVE: Duration = Duration::from_secs(5);
/// The time between reports. KCL believes one for twice as long.
const REPORT: Duration = Duration::from_secs(30);

/// What this worker knows of a KCL 3 leader.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    known: Mutex<Known>,
    /// Asks for a look at the table now.
    look: Notify,
}

#[derive(Debug, Default)]
struct Known {
    state: Kcl3State,
    watch: LeaderWatch,
    regime: Regime,
    /// There are items of KCL 3's among the leases.
    saw_items: bool,
    /// When this worker reported itself last.
    reported: Option<Instant>,
}

impl Leadership {
    fn known(&self) -> MutexGuard<'_, Known> {
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

    /// Items of KCL 3's were seen among the leases: if they are news, there is more to know.
    pub(crate) fn saw_items(&self) {
        let known = &mut *self.known();
        let is_news = !std::mem::replace(&mut known.saw_items, true);
        if is_news && known.state.client_version.is_none() {
            self.look.notify_one();
        }
    }

    /// Whether a KCL 3 leader rules.
    pub(crate) fn is_led(&self) -> bool {
        matches!(self.known().regime, Regime::Led { .. })
    }
}

/// Looks after the leader for ever, and reports this worker to it.
pub(crate) async fn follow(context: Arc<Context>) {
    let leadership = &context.leadership;
    loop {
        let read = context.table.kcl3_state().await;
        let (wants_reports, regime) = match read {
            Ok(state) => {
                context.succeeded("kcl3_state");
                let before = leadership.leader();
                leadership.learn(state);
                if leadership.leader() != before {
                    context.rescan.notify_one();
                }
                let known = leadership.known();
                (known.state.wants_reports(), known.regime.clone())
            }
            Err(error) => {
                context.table_failed(None, "kcl3_state", &error);
                sleep(ATTENTIVE).await;
                continue;
            }
        };
        let reported = leadership.known().reported;
        if wants_reports && reported.is_none_or(|at| at.elapsed() >= REPORT) {
            report(&context).await;
        }
        let wait = match regime {
            Regime::Led { .. } | Regime::Leaderless => ATTENTIVE,
            Regime::Taking if wants_reports => REPORT,
            Regime::Taking => CALM,
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = leadership.look.notified() => {}
        }
    }
}

/// A report that fails stops nobody: the leader gives this worker nothing meanwhile.
async fn report(context: &Context) {
    // The leader compares it with its own clock, so AWS's is the better one.
    let Some(now) = context.streams.now() else {
        return;
    };
    let worker = &context.config.worker_id;
    match context.table.report_worker(worker, now).await {
        Ok(()) => context.leadership.known().reported = Some(Instant::now()),
        Err(error) => tell(context, "report_worker", &error),
    }
}

/// Who stops is not to be given leases any more.
pub(crate) async fn retire(context: &Context) {
    if context.leadership.known().reported.take().is_none() {
        return;
    }
    let worker = &context.config.worker_id;
    if let Err(error) = context.table.retire_worker(worker).await {
        tell(context, "retire_worker", &error);
    }
}

fn tell(context: &Context, operation: &'static str, error: &TableError) {
    let throttled = matches!(error, TableError::Throttled(_));
    context.reports.failed(None, operation, throttled, error);
}

/// Tells of a new regime.
pub(crate) fn announce(context: &Context, regime: &Regime) {
    context.report(match regime {
        Regime::Led { leader } => Event::Led {
            leader: leader.clone(),
        },
        Regime::Leaderless | Regime::Taking => Event::Unled,
    });
}
