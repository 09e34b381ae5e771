//! Reads the configuration file again when it changes, and at SIGHUP.
//!
//! Its text is compared, now and then: a ConfigMap's files are links that are swapped as a whole,
//! which no watch of one file sees.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::Flags;
use crate::{
    config::{Config, TlsConfig},
    server::{
        descriptors::{ran_out, ran_out_for},
        live::Reloads,
        tls,
    },
    telemetry::Filter,
};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);

/// Every configuration from `known` on, the file's text as it was before the start read it, or why
/// it is not one. The log level is changed here. `started`: TLS in force until the next start.
pub(super) fn watch(
    flags: Flags,
    known: Option<Text>,
    started: Option<TlsConfig>,
    filter: Filter,
) -> anyhow::Result<Reloads> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let (sender, reloads) = watch::channel(None);
    tokio::spawn(async move {
        let Some((path, mut known)) = flags.config.clone().zip(known) else {
            while hangup.recv().await.is_some() {
                warn!("SIGHUP: there is no configuration file to read again (flag --config)");
            }
            return;
        };
        // A text counts once it is there twice: a file may be seen while it is written.
        let mut last = known.clone();
        // It may be mended elsewhere: in the files that it names.
        let mut wrong = None;
        let (mut forced, mut told) = (false, false);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hangup.recv() => forced = true,
                _ = look.tick() => {}
            }
            // Without a file descriptor nothing is known of the file: it is looked at again.
            let Some(now) = seen(&path) else { continue };
            let settled = now == last;
            last.clone_from(&now);
            let is_known = now == known && wrong.is_none();
            if !forced && (!settled || is_known) {
                continue;
            }
            if forced && !std::mem::replace(&mut told, true) {
                info!("SIGHUP: the configuration is read again");
            }
            let config = match read(&flags, started.as_ref(), &filter).await {
                Err(error) if ran_out_for(&error) => continue,
                config => config.map_err(|error| format!("{error:#}")),
            };
            told = false;
            let is_new = std::mem::take(&mut forced) || now != known;
            known = now;
            let before = std::mem::replace(&mut wrong, config.as_ref().err().cloned());
            if !is_new && wrong == before {
                continue;
            }
            if sender.send(Some(config)).is_err() {
                return;
            }
        }
    });
    Ok(reloads)
}

async fn read(
    flags: &Flags,
    started: Option<&TlsConfig>,
    filter: &Filter,
) -> anyhow::Result<Config> {
    let config = flags.config().await?;
    // Another TLS waits for the next start, which must not end with an error.
    if let Some(tls) = config.tls.as_ref().filter(|tls| Some(*tls) != started) {
        tls::check(tls)?;
    }
    filter.set(flags.filter(&config)?);
    Ok(config)
}

/// The file's text, or why it cannot be read; `None`: nobody can tell now.
fn seen(path: &Path) -> Option<Text> {
    match fs::read_to_string(path) {
        Err(error) if ran_out(&error) => None,
        text => Some(text.map_err(|error| error.to_string())),
    }
}

/// The file's text, or why it cannot be read.
pub(super) type Text = Result<String, String>;

pub(super) fn text(path: &Path) -> Text {
    fs::read_to_string(path).map_err(|error| error.to_string())
}
