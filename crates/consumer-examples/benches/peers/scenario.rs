//! What is measured. Each figure comes from the lines that real worker processes print, or from
//! `/proc`.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    candidate::{Candidate, Worker},
    mixed,
    services::Services,
    sizes,
};

/// Longer than the slowest peer takes for anything (three minutes).
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
const DRAINED: usize = 500_000;
/// Shards of one process.
const MANY: i32 = 500;
/// Rounds of a record for each shard, a second apart, and those before them that do not count.
const ROUNDS: usize = 60;
const WARM_UP: usize = 5;
pub(crate) const SHARDS: usize = 4;

pub(crate) type Figures = Vec<(String, String)>;

/// Runs every scenario, or the one named `only`.
pub(crate) async fn run_all(
    services: &Services,
    candidate: &Candidate,
    only: Option<&str>,
) -> Result<Figures> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut figures = Vec::new();
    if wanted("drain") {
        figures.extend(drain(services, candidate).await.context("drain")?);
    }
    let larger = sizes::run(services, candidate, only).await;
    figures.extend(larger.context("sizes")?);
    if candidate.is_bare() {
        return Ok(figures);
    }
    if wanted("idle") {
        figures.extend(idle(services, candidate).await.context("idle")?);
    }
    if wanted("move") {
        figures.extend(moves(services, candidate).await.context("move")?);
    }
    if wanted("restart") {
        figures.extend(restart(services, candidate).await.context("restart")?);
    }
    if wanted("latency") {
        figures.extend(latency(services, candidate).await.context("latency")?);
    }
    if only == Some("many-shards") {
        let figures_of_it = many_shards(services, candidate).await;
        figures.extend(figures_of_it.context("many shards")?);
    }
    if only == Some("led") {
        figures.extend(led(services, candidate).await.context("led")?);
    }
    if only == Some("mixed") {
        figures.extend(mixed::run(services, candidate).await.context("mixed")?);
    }
    Ok(figures)
}

/// Start with no lease table, drain a full stream, then idle for a minute.
async fn drain(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let stream = name(candidate, "drain");
    services.create_stream(&stream).await?;
    services.put(&stream, DRAINED).await?;
    let mut worker = candidate.start(&services.environment(&stream, &stream, "one"))?;
    let (first, last, cpu_before) = timeout(PATIENCE, async {
        let mut seen = 0;
        let mut first = None;
        let mut cpu_before = 0.0;
        loop {
            let line = worker.line().await?;
            if let Some((_, count)) = records(&line.text) {
                if first.is_none() {
                    first = Some(line.at);
                    cpu_before = worker.cpu_seconds()?;
                }
                seen += count;
                if seen >= DRAINED {
                    return anyhow::Ok((first.context("no first record")?, line.at, cpu_before));
                }
            }
        }
    })
    .await??;
    let seconds = (last - first).as_secs_f64();
    let (_, peak) = worker.memory()?;
    let cpu = worker.cpu_seconds()?;
    let mut figures = vec![
        (
            "start → first record, no lease table".to_owned(),
            format!("{:.2} s", (first - worker.exec).as_secs_f64()),
        ),
        (
            format!("drain {DRAINED} records of 32 bytes, {SHARDS} shards"),
            format!("{:.0}/s", DRAINED as f64 / seconds),
        ),
        (
            "CPU-seconds for that drain".to_owned(),
            format!(
                "{:.2} ({:.2} before the first record)",
                cpu - cpu_before,
                cpu_before
            ),
        ),
        ("peak RSS in it".to_owned(), format!("{peak:.0} MB")),
    ];
    if !candidate.is_bare() {
        services.take_dynamodb_calls();
        sleep(Duration::from_secs(60)).await;
        let calls = services.take_dynamodb_calls();
        let (now, _) = worker.memory()?;
        figures.push((
            "idle RSS, after the drain".to_owned(),
            format!("{now:.0} MB"),
        ));
        figures.push((
            "idle, 4 shards, one worker: DynamoDB calls a minute".to_owned(),
            format!("{} {calls:?}", calls.values().sum::<u64>()),
        ));
    }
    worker.kill().await?;
    Ok(figures)
}

/// A worker that never had anything to do.
async fn idle(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let stream = name(candidate, "idle");
    services.create_stream(&stream).await?;
    let mut worker = candidate.start(&services.environment(&stream, &stream, "one"))?;
    for _ in 0..SHARDS {
        timeout(PATIENCE, worker.wait_for("started ")).await??;
    }
    sleep(Duration::from_secs(10)).await;
    let (now, _) = worker.memory()?;
    worker.kill().await?;
    Ok(vec![(
        "idle RSS, before any record".to_owned(),
        format!("{now:.0} MB"),
    )])
}

/// A second worker joins; one is killed; one is stopped. Records trickle all the time.
async fn moves(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let stream = name(candidate, "move");
    services.create_stream(&stream).await?;
    let trickle = trickle(services, &stream);
    let mut figures = Vec::new();

    let mut one = candidate.start(&services.environment(&stream, &stream, "one"))?;
    until_reads(&mut one, SHARDS).await?;
    let mut two = candidate.start(&services.environment(&stream, &stream, "two"))?;
    until_reads(&mut two, SHARDS / 2).await?;
    figures.push((
        "a second worker joins → 2 + 2 shards".to_owned(),
        since(two.exec),
    ));

    services.take_dynamodb_calls();
    sleep(Duration::from_secs(60)).await;
    let calls = services.take_dynamodb_calls();
    figures.push((
        "two workers: DynamoDB calls a minute".to_owned(),
        format!("{} {calls:?}", calls.values().sum::<u64>()),
    ));

    let killed = Instant::now();
    two.kill().await?;
    until_reads(&mut one, SHARDS).await?;
    figures.push((
        "kill -9 of one of two → its shards go on".to_owned(),
        since(killed),
    ));

    let mut three = candidate.start(&services.environment(&stream, &stream, "three"))?;
    until_reads(&mut three, SHARDS / 2).await?;
    let stopped = Instant::now();
    three.signal("TERM")?;
    until_reads(&mut one, SHARDS).await?;
    figures.push((
        "SIGTERM → the other worker goes on".to_owned(),
        since(stopped),
    ));
    three.kill().await?;
    one.kill().await?;
    trickle.abort();
    Ok(figures)
}

/// A worker is killed; another of another name starts on its leases.
async fn restart(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let stream = name(candidate, "restart");
    services.create_stream(&stream).await?;
    let trickle = trickle(services, &stream);
    let mut one = candidate.start(&services.environment(&stream, &stream, "one"))?;
    until_reads(&mut one, SHARDS).await?;
    one.kill().await?;
    let mut two = candidate.start(&services.environment(&stream, &stream, "two"))?;
    until_reads(&mut two, SHARDS).await?;
    let figure = since(two.exec);
    two.kill().await?;
    trickle.abort();
    Ok(vec![(
        "start on leases of a killed worker: all 4 shards".to_owned(),
        figure,
    )])
}

/// A record a second and shard; how long each takes from its put to the processor.
async fn latency(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let stream = name(candidate, "latency");
    services.create_stream(&stream).await?;
    let mut worker = candidate.start(&services.environment(&stream, &stream, "one"))?;
    let mut took = Vec::new();
    for round in 0..ROUNDS + WARM_UP {
        let second = Instant::now() + Duration::from_secs(1);
        let put = services.put_to_each_shard(&stream, SHARDS).await?;
        let mut missing = put.clone();
        timeout(PATIENCE, async {
            while !missing.is_empty() {
                let line = worker.wait_for("records ").await?;
                if let Some((shard, _)) = records(&line.text)
                    && let Some(put) = missing.remove(shard)
                    && round >= WARM_UP
                {
                    took.push((line.at - put).as_secs_f64());
                }
            }
            anyhow::Ok(())
        })
        .await??;
        sleep_until(second).await;
    }
    worker.kill().await?;
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    let figure = format!("{:.0} ms / {:.0} ms", at(0.5) * 1000.0, at(0.99) * 1000.0);
    let what = "put → processor, a record a second and shard: p50 / p99";
    Ok(vec![(what.to_owned(), figure)])
}

/// One process with many shards and nothing to do, for a minute.
async fn many_shards(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let stream = name(candidate, "many");
    services.create_stream_of(&stream, MANY).await?;
    let mut worker = candidate.start(&services.environment(&stream, &stream, "one"))?;
    let (connections, counting) = worker.count_connections()?;
    timeout(PATIENCE, async {
        for _ in 0..MANY {
            worker.wait_for("started ").await?;
        }
        anyhow::Ok(())
    })
    .await??;
    let started = since(worker.exec);
    // Until all have come to rest: the shards of a new stream begin with a page each.
    sleep(Duration::from_secs(60)).await;
    let at_start = connections.swap(0, Ordering::Relaxed);
    services.take_dynamodb_calls();
    let (before, began) = (worker.cpu_seconds()?, Instant::now());
    sleep(Duration::from_secs(60)).await;
    let cpu = (worker.cpu_seconds()? - before) / began.elapsed().as_secs_f64();
    let calls = services.take_dynamodb_calls();
    let (now, _) = worker.memory()?;
    counting.abort();
    worker.kill().await?;
    let figures = [
        ("until all are read", started),
        ("CPU", format!("{:.1} % of a core", cpu * 100.0)),
        (
            "connections at most, in the first minute and then",
            format!("{at_start}, {}", connections.load(Ordering::Relaxed)),
        ),
        ("RSS", format!("{now:.0} MB")),
        (
            "DynamoDB calls a minute",
            format!("{} {calls:?}", calls.values().sum::<u64>()),
        ),
    ];
    let figures = figures.map(|(what, figure)| (format!("{MANY} shards, idle: {what}"), figure));
    Ok(figures.into())
}

/// The candidate joins a fleet that KCL 3.5.1 leads, and is killed.
async fn led(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let java = Candidate::prepare("kcl3")?;
    let stream = name(candidate, "led");
    services.create_stream(&stream).await?;
    let trickle = trickle(services, &stream);
    let mut one = java.start(&services.environment(&stream, &stream, "one"))?;
    until_reads(&mut one, SHARDS).await?;
    let mut two = candidate.start(&services.environment(&stream, &stream, "two"))?;
    let moved = timeout(PATIENCE, one.wait_for("lost ")).await??;
    until_reads(&mut two, 1).await?;
    let pause = format!("{:.1} s", moved.at.elapsed().as_secs_f64());
    let joined = since(two.exec);
    until_reads(&mut two, SHARDS / 2).await?;
    let shared = since(two.exec);
    one.kill().await?;
    two.kill().await?;
    trickle.abort();
    let figures = [
        (
            "joins a fleet that KCL 3.5.1 leads: its first shard",
            joined,
        ),
        ("the same: 2 + 2 shards", shared),
        (
            "pause of that shard: Java stops → its first record here",
            pause,
        ),
    ];
    Ok(figures
        .map(|(what, figure)| (what.to_owned(), figure))
        .into())
}

/// A few records a second to every shard.
pub(crate) fn trickle(services: &Services, stream: &str) -> tokio::task::JoinHandle<()> {
    let (kinesis, stream) = (services.kinesis.clone(), stream.to_owned());
    tokio::spawn(async move {
        loop {
            for _ in 0..4 * SHARDS {
                let put = kinesis
                    .put_record()
                    .stream_name(&stream)
                    .partition_key(format!("{:016x}", fastrand::u64(..)))
                    .data(aws_sdk_kinesis::primitives::Blob::new([7_u8; 32]));
                if let Err(error) = put.send().await {
                    eprintln!("put: {error:?}");
                }
            }
            sleep(Duration::from_millis(250)).await;
        }
    })
}

/// Waits until records of so many shards were told, from now on.
pub(crate) async fn until_reads(worker: &mut Worker, shards: usize) -> Result<()> {
    timeout(PATIENCE, async {
        let from = Instant::now();
        let mut seen = BTreeSet::new();
        while seen.len() < shards {
            let line = worker.wait_for("records ").await?;
            if line.at >= from
                && let Some((shard, _)) = records(&line.text)
            {
                seen.insert(shard.to_owned());
            }
        }
        Ok(())
    })
    .await?
}

/// `records SHARD COUNT`.
pub(crate) fn records(line: &str) -> Option<(&str, usize)> {
    let (shard, count) = line.strip_prefix("records ")?.split_once(' ')?;
    Some((shard, count.parse().ok()?))
}

pub(crate) fn since(start: Instant) -> String {
    format!("{:.1} s", start.elapsed().as_secs_f64())
}

pub(crate) fn name(candidate: &Candidate, scenario: &str) -> String {
    format!("{}-{scenario}-{:08x}", candidate.name, fastrand::u32(..))
}
