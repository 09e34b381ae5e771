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
use crate::{config::Config, server::live::Reloads, telemetry::Filter};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);

/// Every configuration from now on, or why it is not one. The log level is changed here.
pub(super) fn watch(flags: Flags, filter: Filter) -> anyhow::Result<Reloads> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let (sender, reloads) = watch::channel(None);
    tokio::spawn(async move {
        let Some(path) = flags.config.clone() else {
            while hangup.recv().await.is_some() {
                warn!("SIGHUP: there is no configuration file to read again (flag --config)");
            }
            return;
        };
        // A text counts once it is there twice: a file may be seen while it is written.
        let mut known = text(&path);
        let mut last = known.clone();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                _ = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let now = text(&path);
            let settled = now == last;
            last.clone_from(&now);
            if !forced && (!settled || now == known) {
                continue;
            }
            known = now;
            if forced {
                info!("SIGHUP: the configuration is read again");
            }
            let config = read(&flags, &filter).await;
            if sender.send(Some(config)).is_err() {
                return;
            }
        }
    });
    Ok(reloads)
}

async fn read(flags: &Flags, filter: &Filter) -> Result<Config, String> {
    let config = flags.config().await;
    let config = config.and_then(|config| {
        filter.set(flags.filter(&config)?);
        Ok(config)
    });
    config.map_err(|error| format!("{error:#}"))
}

/// The file's text, or why it cannot be read.
fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| error.to_string())
}
