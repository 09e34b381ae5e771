//! Larger: more shards, larger records, backlogs, more workers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result};
use kinesis_consumer::test_util::LeaseTable as _;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    candidate::{Candidate, Worker},
    scenario::{Figures, PATIENCE, name, records, since},
    services::Services,
};

/// Of each of these, all records are read once.
const DRAINS: [Drain; 3] = [
    Drain {
        scenario: "drain-64",
        shards: 64,
        records: 8_000,
        bytes: 32,
    },
    Drain {
        scenario: "drain-10kb",
        shards: 4,
        records: 1_600,
        bytes: 10_240,
    },
    Drain {
        scenario: "backlog",
        shards: 32,
        records: 1_024,
        bytes: 10_240,
    },
];

/// Shards that the workers of `calls` share, and how many workers that are.
const SHARED: i32 = 64;
const WORKERS: [usize; 3] = [1, 4, 16];
/// Leases that are not even by then are not made even: KCL 2.x moves one at a time.
const SETTLING: Duration = Duration::from_secs(180);
/// Who starts beside others looks around for a while.
const SETTLED: Duration = Duration::from_secs(60);

struct Drain {
    scenario: &'static str,
    shards: i32,
    /// Of each shard.
    records: usize,
    bytes: usize,
}

/// Runs the scenario of that name, if it is one of these.
pub(crate) async fn run(
    services: &Services,
    candidate: &Candidate,
    only: Option<&str>,
) -> Result<Figures> {
    let mut figures = Vec::new();
    for it in DRAINS.iter().filter(|it| only == Some(it.scenario)) {
        figures.extend(drain(services, candidate, it).await?);
    }
    if only == Some("calls") && !candidate.is_bare() {
        for workers in WORKERS {
            figures.push(calls(services, candidate, workers).await?);
        }
    }
    Ok(figures)
}

/// A full stream, read by a worker that finds no leases.
async fn drain(services: &Services, candidate: &Candidate, it: &Drain) -> Result<Figures> {
    let stream = name(candidate, it.scenario);
    services.create_stream_of(&stream, it.shards).await?;
    services
        .put_evenly(&stream, it.shards, it.records, it.bytes)
        .await?;
    let mut worker = candidate.start(&services.environment(&stream, &stream, "one"))?;
    let all = it.records * usize::try_from(it.shards)?;
    let (first, last, cpu_before) = timeout(PATIENCE, until_read(&mut worker, all)).await??;
    let (_, peak) = worker.memory()?;
    let cpu = worker.cpu_seconds()? - cpu_before;
    let until_first = (first - worker.exec).as_secs_f64();
    worker.kill().await?;
    let seconds = (last - first).as_secs_f64();
    let mib = (all * it.bytes) as f64 / f64::from(1 << 20);
    let what = format!(
        "{} shards × {} records of {} B",
        it.shards, it.records, it.bytes
    );
    let figures = [
        ("first record after", format!("{until_first:.2} s")),
        (
            "drained in",
            format!(
                "{seconds:.1} s: {:.0}/s, {:.1} MiB/s",
                all as f64 / seconds,
                mib / seconds
            ),
        ),
        ("CPU-seconds for that", format!("{cpu:.2}")),
        ("peak RSS in it", format!("{peak:.0} MB")),
    ];
    let figures = figures.map(|(row, figure)| (format!("{what}: {row}"), figure));
    Ok(figures.into())
}

/// When the first of so many records was told, and the last, and the CPU-seconds up to the first.
async fn until_read(worker: &mut Worker, all: usize) -> Result<(Instant, Instant, f64)> {
    let (mut seen, mut began) = (0, None);
    loop {
        let line = worker.line().await?;
        let Some((_, count)) = records(&line.text) else {
            continue;
        };
        if began.is_none() {
            began = Some((line.at, worker.cpu_seconds()?));
        }
        seen += count;
        if seen >= all {
            let (first, cpu) = began.context("no first record")?;
            return Ok((first, line.at, cpu));
        }
    }
}

/// Workers that share a stream and have nothing to do: what they ask DynamoDB in a minute.
async fn calls(
    services: &Services,
    candidate: &Candidate,
    workers: usize,
) -> Result<(String, String)> {
    let stream = name(candidate, "calls");
    services.create_stream_of(&stream, SHARED).await?;
    let mut running = Vec::new();
    for number in 0..workers {
        let environment = services.environment(&stream, &stream, &format!("worker-{number:02}"));
        running.push(candidate.start(&environment)?);
    }
    let began = Instant::now();
    let mut held = BTreeMap::new();
    while !is_even(&held, workers) && began.elapsed() < PATIENCE + SETTLING {
        sleep(Duration::from_secs(1)).await;
        held = leases_by_owner(services, &stream).await;
    }
    let evened = since(began);
    sleep(SETTLED).await;
    services.take_dynamodb();
    sleep(Duration::from_secs(60)).await;
    let tallies = services.take_dynamodb();
    let held = leases_by_owner(services, &stream).await;
    for worker in running {
        worker.kill().await?;
    }
    let calls: u64 = tallies.values().map(|tally| tally.calls).sum();
    let read: f64 = tallies.values().map(|tally| tally.read_units).sum();
    let written: f64 = tallies.values().map(|tally| tally.write_units).sum();
    let by_operation = tallies
        .iter()
        .map(|(operation, tally)| (operation, tally.calls));
    let by_operation: BTreeMap<_, _> = by_operation.collect();
    let counts: BTreeSet<_> = held.values().collect();
    Ok((
        format!("{SHARED} shards, idle, {workers} workers: DynamoDB calls a minute"),
        format!(
            "{calls} ({read:.0} RRU, {written:.0} WRU; even after {evened}, leases each {counts:?}) \
             {by_operation:?}"
        ),
    ))
}

async fn leases_by_owner(services: &Services, application: &str) -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    // The table may not be there yet.
    if let Ok(scan) = services.lease_table(application).scan().await {
        for owner in scan.leases.into_iter().filter_map(|lease| lease.owner) {
            *held.entry(owner).or_default() += 1;
        }
    }
    held
}

fn is_even(held: &BTreeMap<String, usize>, workers: usize) -> bool {
    let all = held.values().sum::<usize>() == SHARED.unsigned_abs() as usize;
    let (least, most) = (held.values().min(), held.values().max());
    all && held.len() == workers
        && least
            .zip(most)
            .is_some_and(|(least, most)| most - least <= 1)
}
