//! Looks after a KCL 3 leader, and tells it of this worker.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    decide::kcl3::Regime,
    edge::lease_table::TableError,
    face::event::Event,
    run::context::{Context, backoff, pause},
};

/// The time between reads of `Migration3.0`, as KCL's own.
const CALM: Duration = Duration::from_secs(60);
/// The time between reads of the lock while a leader lives, or may come.
const ATTENTIVE: Duration = Duration::from_secs(5);
/// The time between reports. KCL believes one for twice as long.
const REPORT: Duration = Duration::from_secs(30);
/// A report that stays is believed for a minute, and no longer.
const RETIRE_TRIES: u32 = 5;

/// Looks after the leader for ever, and reports this worker to it.
pub(crate) async fn follow(context: Arc<Context>) {
    let leadership = &context.leadership;
    loop {
        let read = context.table.kcl3_state().await;
        let is_read = read.is_ok();
        match read {
            Ok(state) => {
                context.succeeded("kcl3_state");
                let before = leadership.leader();
                leadership.learn(state);
                if leadership.leader() != before {
                    context.rescan.notify_one();
                }
            }
            // As far as is known, things are as they were.
            Err(error) => context.table_failed(None, "kcl3_state", &error),
        }
        let (wants_reports, regime, reported) = {
            let known = leadership.known();
            let wants_reports = known.state.wants_reports();
            (wants_reports, known.regime.clone(), known.reported)
        };
        let mut is_told = true;
        if !wants_reports {
            // A worker of KCL 2.x trips over it.
            retire(&context).await;
        } else if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            is_told = report(&context).await;
        }
        let wait = match regime {
            _ if !is_read || !is_told => ATTENTIVE,
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

/// A report that fails stops nobody: the leader gives this worker nothing meanwhile. Whether it is
/// there.
async fn report(context: &Context) -> bool {
    // The leader compares it with its own clock, so AWS's is the better one.
    let Some(now) = context.streams.now() else {
        return false;
    };
    let worker = &context.config.worker_id;
    match context.table.report_worker(worker, now).await {
        Ok(()) => {
            context.leadership.known().reported = Some(Instant::now());
            true
        }
        Err(error) => {
            tell(context, "report_worker", &error);
            false
        }
    }
}

/// Who stops, or is not asked for any more, is not to be given leases.
pub(crate) async fn retire(context: &Context) {
    if context.leadership.known().reported.take().is_none() {
        return;
    }
    let worker = &context.config.worker_id;
    let mut failures = backoff(Duration::from_millis(200), Duration::from_secs(1));
    for _ in 0..RETIRE_TRIES {
        match context.table.retire_worker(worker).await {
            Ok(()) => return,
            Err(error) => tell(context, "retire_worker", &error),
        }
        pause(&mut failures).await;
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
