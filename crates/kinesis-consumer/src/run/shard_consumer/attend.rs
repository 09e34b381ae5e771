//! Calls of user code, which may panic or never return, and what a shard consumer listens to
//! meanwhile.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;
use tokio::{sync::watch, time::sleep_until};

use super::{Leave, Stop};
use crate::{
    face::{
        checkpointer::Checkpointer,
        processor::{AnyProcessor, Lasting, ProcessorError, Unusable},
    },
    run::held_lease::HeldLease,
};

/// How user code failed.
#[derive(Debug, Default)]
pub(super) struct UserError {
    pub(super) text: String,
    /// Its processor panicked, so that it may be in any state, or says so itself.
    pub(super) unusable: bool,
    /// Waiting does not mend it.
    pub(super) lasting: bool,
}

/// Runs user code: a panic is an error, too.
pub(super) async fn attend<T>(
    work: impl Future<Output = Result<T, ProcessorError>> + Send,
) -> Result<T, UserError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result.map_err(|error| UserError {
            text: error.to_string(),
            unusable: error.is::<Unusable>(),
            lasting: error.is::<Lasting>(),
        }),
        Err(panic) => Err(UserError {
            text: format!("panicked: {}", panic_text(&*panic)),
            unusable: true,
            lasting: false,
        }),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Lets the processor idle. Resolves where that fails.
pub(super) async fn idle(
    processor: Option<&mut Box<dyn AnyProcessor>>,
    to: &Checkpointer,
) -> UserError {
    if let Some(processor) = processor
        && let Err(error) = attend(processor.idle(to)).await
    {
        return error;
    }
    std::future::pending().await
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
        }
        // Else nobody knows of this task any more: the lease was lost, and is held anew.
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
