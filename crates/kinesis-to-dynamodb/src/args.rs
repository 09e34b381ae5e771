//! The process: settings, logs, signals, exit code.

use std::process::ExitCode;

use clap::{Arg, CommandFactory as _, FromArgMatches as _, builder::Resettable, error::ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Settings, log};

/// Runs the consumer until SIGTERM or SIGINT. Code 0: ended in order; 1: an error, told on standard
/// error; 2: a setting that is wrong by itself.
pub fn run() -> ExitCode {
    let settings = read().unwrap_or_else(|error| named(error).exit());
    if let Err(error) = settings.check_reads() {
        // As of any other setting that is missing, or one too many.
        let kind = ErrorKind::ArgumentConflict;
        let text = format!("{error} (--stream-name, --streams)");
        Settings::command().error(kind, text).exit();
    }
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

fn read() -> Result<Settings, clap::Error> {
    let mut command = Settings::command().mut_args(without_empty);
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Settings::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// An empty variable is an unset one, as manifests have it.
fn without_empty(arg: Arg) -> Arg {
    let value = arg.get_env().and_then(std::env::var_os);
    let is_empty =
        |value: std::ffi::OsString| value.to_str().is_some_and(|it| it.trim().is_empty());
    match value.is_some_and(is_empty) {
        true => arg.env(Resettable::Reset),
        false => arg,
    }
}

/// The error, with the variables that are not UTF-8, which clap leaves unnamed.
fn named(error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidUtf8 {
        return error;
    }
    let mut command = Settings::command();
    let variables = command.get_arguments().filter_map(|it| it.get_env());
    let wrong = variables
        .filter(|name| std::env::var_os(name).is_some_and(|value| value.to_str().is_none()));
    let lines = wrong.map(|name| format!("{}: want text in UTF-8", name.to_string_lossy()));
    match lines.collect::<Vec<_>>().join("\n") {
        lines if lines.is_empty() => error,
        lines => command.error(ErrorKind::InvalidUtf8, lines),
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
