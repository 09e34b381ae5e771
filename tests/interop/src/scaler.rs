//! The scaler's verdicts beside those of a walk over the stream.

use std::{collections::BTreeMap, io::Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use test_support::aws;
use tokio::{
    process::Command,
    time::{Duration, Instant, sleep, timeout},
};

use crate::{
    PATIENCE,
    checkpoint::Checkpoint,
    leases::{LeaseTable, Leases},
    process::binary,
    serve::{Answers, Scaler},
    services::Services,
    stream::{Shard, Stream},
};

/// Configuration: emulators are no endpoints of AWS.
pub(crate) const POLICY: &str =
    "policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]\n";

/// Each shard, and the scaler's word for what the application has to do with it.
type Verdicts = BTreeMap<String, &'static str>;

/// The words of verdicts under which a worker has something to do, so that KEDA scales from zero.
const ACTIVE: [&str; 2] = ["unread", "drained"];

/// Asks `check` until neither stream nor lease table moved meanwhile, and compares; then waits
/// until the scaler that runs says the same.
pub(crate) async fn verify(
    services: &Services,
    stream: &Stream,
    table: &LeaseTable,
    scaler: &mut Scaler,
) -> Result<()> {
    let begin = Instant::now();
    loop {
        let before = (walk(stream, &table.now()).await?, table.now());
        let report = check(services, &stream.name).await?;
        // The table is watched with a delay of some milliseconds.
        sleep(Duration::from_millis(200)).await;
        let after = (walk(stream, &table.now()).await?, table.now());
        if before == after {
            let agreed = async {
                let answers = compare(&report, &after.0)?;
                scaler.until(answers).await
            };
            return agreed
                .await
                .with_context(|| format!("leases: {:#?}\ncheck's report: {report:#}", after.1));
        }
        ensure!(begin.elapsed() < PATIENCE, "the leases never stand still");
    }
}

/// Returns what KEDA should be told.
fn compare(report: &Value, walked: &Verdicts) -> Result<Answers> {
    let application = &report["application"];
    let shards = application["shards"].as_array().context("shards")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told: BTreeMap<_, _> = shards
        .iter()
        .map(|shard| (text(&shard["id"]), text(&shard["state"])))
        .collect();
    let walked_text: BTreeMap<_, _> = walked
        .iter()
        .map(|(id, state)| (id.clone(), (*state).to_owned()))
        .collect();
    ensure!(
        told == walked_text,
        "the scaler says {told:?}, a walk over the stream {walked:?}"
    );
    let count = |of: &[&str]| walked.values().filter(|it| of.contains(it)).count();
    let readable = count(&["unread", "drained", "caughtUp"]);
    ensure!(
        application["readable"] == readable,
        "{readable} are readable: {application:#}"
    );
    let unread = count(&["unread"]);
    ensure!(
        application["unread"] == unread,
        "{unread} are unread: {application:#}"
    );
    let active = count(&ACTIVE) > 0;
    ensure!(
        report["told"]["active"] == active,
        "active should be {active}: {:#}",
        report["told"]
    );
    Ok(Answers {
        readable: readable as f64,
        active,
    })
}

/// What the stream and the leases say, by KCL's rules and nothing of ours.
async fn walk(stream: &Stream, leases: &Leases) -> Result<Verdicts> {
    let shards = stream.shards().await?;
    let mut verdicts = Verdicts::new();
    for shard in shards.values() {
        let checkpoint = match leases.get(&shard.id) {
            Some(lease) => lease.checkpoint.clone(),
            None if !has_a_lease_below(&shards, leases, &shard.id) => {
                Checkpoint::parse("TRIM_HORIZON", 0)?
            }
            None => {
                verdicts.insert(shard.id.clone(), "notWanted");
                continue;
            }
        };
        let verdict = if checkpoint.is_shard_end() {
            "finished"
        } else if shard.parents.iter().any(|it| holds_up(&shards, leases, it)) {
            "waits"
        } else {
            let places = stream.walk(&shard.id).await?;
            match places.last() {
                Some(last) if *last > checkpoint => "unread",
                _ if shard.closed => "drained",
                _ => "caughtUp",
            }
        };
        verdicts.insert(shard.id.clone(), verdict);
    }
    Ok(verdicts)
}

/// Is a lease there of what came of the shard? Then its own was deleted.
fn has_a_lease_below(shards: &BTreeMap<String, Shard>, leases: &Leases, id: &str) -> bool {
    let mut children = shards.values().filter(|it| it.parents.contains(id));
    children.any(|it| leases.contains_key(&it.id) || has_a_lease_below(shards, leases, &it.id))
}

/// Is a parent, of those that the stream still knows, not at its end?
fn holds_up(shards: &BTreeMap<String, Shard>, leases: &Leases, parent: &str) -> bool {
    match (shards.get(parent), leases.get(parent)) {
        (None, _) => false,
        (_, Some(lease)) => !lease.checkpoint.is_shard_end(),
        (_, None) => !has_a_lease_below(shards, leases, parent),
    }
}

/// A trigger about the application.
pub(crate) fn metadata(
    services: &Services,
    stream: &str,
    scale_on: &'static str,
) -> [(&'static str, String); 7] {
    [
        ("streamName", stream.to_owned()),
        ("applicationName", stream.to_owned()),
        ("awsRegion", aws::REGION.to_owned()),
        ("scaleOn", scale_on.to_owned()),
        ("shardCount", "1".to_owned()),
        ("awsEndpoint", services.kinesis_endpoint()),
        ("leaseTableEndpoint", services.dynamodb_endpoint.clone()),
    ]
}

/// What `check` finds out about a trigger on lag.
async fn check(services: &Services, stream: &str) -> Result<Value> {
    let mut config = tempfile::NamedTempFile::new()?;
    config.write_all(POLICY.as_bytes())?;
    let mut command = Command::new(binary("keda-kinesis-scaler")?);
    command
        .args(["check", "-o", "json", "--config"])
        .arg(config.path());
    for (key, value) in metadata(services, stream, "lag") {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let asked = command.env_clear().envs(services.environment());
    let asked = asked.kill_on_drop(true).output();
    let output = timeout(PATIENCE, asked).await.context("check hangs")??;
    if !output.status.success() {
        bail!("check: {}", String::from_utf8_lossy(&output.stderr));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    Ok(report["triggers"][0].clone())
}
