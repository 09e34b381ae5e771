//! A scaler, and what the sources before it share: STS, and whoever has the lease tables.

use std::time::Duration;

use embedded_kinesis::EmbeddedKinesis;
use serde_json::Value;
use tokio::time::Instant;

use super::mode;
use crate::support::*;

/// Between two fetches.
const REFRESH: Duration = Duration::from_millis(700);

/// How long the last good answer stands in, once it is to end.
const MAX_STALE: Duration = Duration::from_secs(2);

const AN_HOUR: Duration = Duration::from_secs(3600);

pub(super) struct World {
    pub(super) scaler: Process,
    /// With the streams that are read by roles.
    pub(super) sts: EmbeddedKinesis,
    pub(super) tables: Scripted,
    timeout: Duration,
}

/// Roles and loopback addresses are allowed. An answer stands in for an hour unless told otherwise.
fn config(timeout: Duration, max_stale: Duration) -> String {
    let (timeout, max_stale, refresh) = (
        timeout.as_millis(),
        max_stale.as_millis(),
        REFRESH.as_millis(),
    );
    format!(
        "aws: {{refresh: {refresh}ms, timeout: {timeout}ms, maxStale: {max_stale}ms, callsPerSecond: 1000}}\n\
         policy: [{{namespaces: ['*'], endpoints: ['http://127.0.0.1:*'], roles: ['*']}}]\n"
    )
}

impl World {
    /// `timeout`: of the scaler's calls.
    pub(super) async fn start(timeout: Duration) -> Self {
        let sts = EmbeddedKinesis::start(embedded_kinesis::Config::default());
        let sts = sts.await.unwrap();
        let begin = Instant::now();
        let tables = Scripted::start(move |operation, asked: &Value| match operation {
            "Scan" => {
                let beats = begin.elapsed().as_millis() / 200;
                Ok(mode::scan(asked["TableName"].as_str().unwrap(), beats))
            }
            _ => Err("ValidationException"),
        });
        let endpoint = sts.endpoint();
        let env = [
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_ENDPOINT_URL_STS", &endpoint),
        ];
        Self {
            scaler: Process::start(&config(timeout, AN_HOUR), &env).await,
            tables: tables.await,
            sts,
            timeout,
        }
    }

    /// From now on the last good answer stands in for a moment only. Returns when what was good
    /// before is too old.
    pub(super) async fn end_of_standing_in(&self) -> Instant {
        self.reload(MAX_STALE).await;
        Instant::now() + MAX_STALE
    }

    /// It stands in for an hour again.
    pub(super) async fn stand_in_again(&self) {
        self.reload(AN_HOUR).await;
    }

    async fn reload(&self, max_stale: Duration) {
        let reloads = || {
            let log = self.scaler.log();
            log.matches("the configuration was read again and is in force")
                .count()
        };
        let before = reloads();
        self.scaler.configure(&config(self.timeout, max_stale));
        self.scaler.signal(Signal::HUP);
        test_support::until("the reload", async || (reloads() > before).then_some(())).await;
    }
}
