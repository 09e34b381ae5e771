//! Calls of user code, which may panic or never return, and what a shard consumer listens to
//! meanwhile.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;
use tokio::{sync::watch, time::sleep_until};

use super::{Leave, Stop};
use crate::{face::processor::ProcessorError, run::held_lease::HeldLease};

/// Runs user code: a panic is an error like any other.
pub(super) async fn attend<T>(
    work: impl Future<Output = Result<T, ProcessorError>> + Send,
) -> Result<T, String> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Runs `work` up to the shutdown deadline. `None`: it was not done by then.
pub(super) async fn bounded<T>(
    stop: &mut watch::Receiver<Option<Stop>>,
    work: impl Future<Output = T> + Send,
) -> Option<T> {
    let deadline = async {
        let stop = stop
            .wait_for(|stop| matches!(stop, Some(Stop::Shutdown(_))))
            .await;
        if let Some(Stop::Shutdown(deadline)) = stop.ok().and_then(|stop| stop.clone()) {
            sleep_until(deadline).await;
        } else {
            // The coordinator is gone, and this task with it.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = deadline => None,
    }
}

/// Waits for a reason to leave the shard.
pub(super) async fn leaving(lease: &HeldLease, stop: &mut watch::Receiver<Option<Stop>>) -> Leave {
    let stopped = async {
        stop.wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|stop| stop.clone())
    };
    tokio::select! {
        biased;
        () = lease.ended() => Leave::Lost,
        stop = stopped => stop.map_or(Leave::Lost, Leave::Stopped),
    }
}
