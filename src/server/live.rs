//! What a reload of the configuration changes while the scaler serves: policy, who may see
//! `/explain`, per-shard metrics, and the pace of the watchers. All else needs a restart, and says
//! so.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    config::{AwsConfig, Config, Explain},
    metrics::Metrics,
    trigger::policy::Policy,
    watch::{Pace, Watchers},
};

/// The configuration as it was last read: `None` before the first reload, else the new one, or why
/// there is none.
pub type Reloads = watch::Receiver<Option<Result<Config, String>>>;

/// The settings in force that a reload changes.
#[derive(Clone, Debug)]
pub struct Live {
    /// Who may ask for what.
    pub policy: Policy,
    /// Who may see `/explain`.
    pub explain: Explain,
    /// Shows the age of each shard's oldest unread record in `/metrics`, too.
    pub per_shard: bool,
}

impl From<&Config> for Live {
    fn from(config: &Config) -> Self {
        Self {
            policy: Policy::new(config.policy.clone(), config.policy_default),
            explain: config.explain,
            per_shard: config.per_shard_metrics,
        }
    }
}

/// Puts every reload in force, for as long as there may be some. `started`: what does not change.
pub(super) async fn follow(
    mut reloads: Reloads,
    started: Config,
    live: watch::Sender<Arc<Live>>,
    watchers: Arc<Watchers>,
    metrics: Arc<Metrics>,
) {
    while reloads.changed().await.is_ok() {
        let reload = reloads.borrow_and_update().clone();
        let config = match reload {
            None => continue,
            Some(Ok(config)) => config,
            Some(Err(error)) => {
                metrics.reloaded(false);
                warn!("the configuration stays as it was: {error}");
                continue;
            }
        };
        watchers.set_pace(repaced(watchers.pace(), &config.aws));
        live.send_replace(Arc::new(Live::from(&config)));
        metrics.reloaded(true);
        let policy_rules = config.policy.len();
        info!(
            policy_rules,
            "the configuration was read again and is in force"
        );
        let restart = needs_restart(&started, &config);
        if !restart.is_empty() {
            let keys = restart.join(", ");
            warn!("these changes need a restart, until then the old ones hold: {keys}");
        }
    }
}

fn repaced(pace: Pace, aws: &AwsConfig) -> Pace {
    let new = Pace::from(aws);
    Pace {
        refresh: new.refresh,
        second_look: new.second_look,
        idle_refresh: new.idle_refresh,
        max_stale: new.max_stale,
        ..pace
    }
}

/// The keys that differ and are read at the start only. A new key has to take its side here.
fn needs_restart(started: &Config, new: &Config) -> Vec<&'static str> {
    let Config {
        listen,
        admin,
        aws:
            AwsConfig {
                region,
                refresh: _,
                max_stale: _,
                timeout,
                calls_per_second,
            },
        tls,
        policy: _,
        policy_default: _,
        explain: _,
        limits,
        per_shard_metrics: _,
        log_level: _,
        grace,
    } = started;
    let keys = [
        ("listen", *listen != new.listen),
        ("admin", *admin != new.admin),
        ("aws.region", *region != new.aws.region),
        ("aws.timeout", *timeout != new.aws.timeout),
        (
            "aws.callsPerSecond",
            *calls_per_second != new.aws.calls_per_second,
        ),
        ("tls", *tls != new.tls),
        ("limits", *limits != new.limits),
        ("grace", *grace != new.grace),
    ];
    let changed = keys.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(key, _)| key).collect()
}
