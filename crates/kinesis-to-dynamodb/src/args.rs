//! The process: settings, logs, signals, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Settings, log};

/// Runs the consumer until SIGTERM or SIGINT. Code 0: ended in order; 1: an error, told on standard error; 2: wrong settings.
pub fn run() -> ExitCode {
    let settings = Settings::parse();
    if let Err(error) = log::start(&settings) {
        return failed(&error);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("no runtime")),
    };
    let result = runtime.block_on(until_signalled(settings));
    // Name look-ups under way are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

async fn until_signalled(settings: Settings) -> anyhow::Result<()> {
    // Kubernetes sends SIGTERM, a terminal SIGINT.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let consumer = crate::run(settings, stop.clone().cancelled_owned());
    tokio::pin!(consumer);
    loop {
        tokio::select! {
            result = &mut consumer => return Ok(result?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.is_cancelled() {
            anyhow::bail!(
                "ended at once by a second signal: leases are free after the failover time"
            );
        }
        stop.cancel();
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // The texts of our own errors hold their causes.
    let text = match error.downcast_ref::<crate::Error>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    };
    for line in text.lines() {
        tracing::error!("{line}");
    }
    ExitCode::FAILURE
}
