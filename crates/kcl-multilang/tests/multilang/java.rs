//! Beside KCL's own MultiLangDaemon. `tests/interop/multilang` fetches its jars and says where they
//! are; without them these tests are skipped.

#![allow(
    clippy::print_stdout,
    reason = "the table of figures is what it is for"
)]

use std::{collections::BTreeSet, env, time::Duration};

use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use test_support::{Process, Program, Signal, skip::skip};
use tokio::time::{Instant, sleep};

use crate::{
    clients::{Client, child, command, python},
    story::kill,
    support::{Note, STREAM, World},
};

const CLASS: &str = "software.amazon.kinesis.multilang.MultiLangDaemon";
/// A JVM on a busy machine, and minutes of KCL 3's own start.
const PATIENCE: Duration = Duration::from_secs(300);
/// What both are measured with.
const RECORDS: usize = 200_000;

/// The Java daemon in the place of ours.
fn java(world: &World, ours: &Program, test: &str) -> Option<Program> {
    let Some(jars) = env::var_os("MULTILANG_JARS") else {
        skip(
            test,
            "no MULTILANG_JARS: see tests/interop/multilang",
            false,
        );
        return None;
    };
    let file = world.path("app.properties");
    let jvm = Program::new("java").args(["-cp".as_ref(), jars.as_os_str(), CLASS.as_ref()]);
    let jvm = jvm.args(["--properties-file".as_ref(), file.as_os_str()]);
    // With the environment of ours, whose path and arguments a JVM would not take.
    Some(ours.environment_of(jvm))
}

async fn within<T>(what: &str, world: &World, holds: impl Fn(&[Note]) -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = holds(&world.ledger()) {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn processed(world: &World, daemon: &Process, from: usize, to: usize) {
    world.put((from..to).map(|it| format!("r{it}"))).await;
    let all = within("all records", world, |notes| {
        let texts: BTreeSet<_> = notes.iter().filter_map(|note| note.text("data")).collect();
        let all = (from..to).all(|it| texts.contains(format!("r{it}").as_str()));
        all.then_some(())
    });
    if tokio::time::timeout(PATIENCE * 9 / 10, all).await.is_err() {
        panic!("not all of records {from} to {to}:\n{}", daemon.log());
    }
}

/// SIGTERM, and its end, whatever its code.
async fn ended(mut process: Process) -> Duration {
    let begin = Instant::now();
    process.signal(Signal::TERM);
    process.ended().await;
    begin.elapsed()
}

#[tokio::test]
async fn the_java_daemon_takes_over_and_gives_back() {
    let world = World::new(2).await;
    let keys = [
        "workerId = w",
        "retrievalMode = POLLING",
        "metricsLevel = NONE",
        "shutdownGraceMillis = 10000",
        "clientVersionConfig = CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1",
    ];
    let test = "the_java_daemon_takes_over";
    let Some(ours) = world.daemon(Client::Kclpy, test, &keys).await else {
        return;
    };
    let Some(java) = java(&world, &ours, test) else {
        return;
    };
    let first = ours.start();
    processed(&world, &first, 0, 100).await;
    ended(first).await;
    let second = java.start();
    processed(&world, &second, 100, 200).await;
    ended(second).await;
    let third = ours.start();
    processed(&world, &third, 200, 300).await;
    third.stop().await;
    let notes = world.ledger();
    let times = |text: &str| {
        notes
            .iter()
            .filter(|note| note.text("data") == Some(text))
            .count()
    };
    // Ours checkpointed everything, so Java reads on exactly there.
    let again: Vec<_> = (0..100)
        .filter(|it| times(&format!("r{it}")) != 1)
        .collect();
    assert!(again.is_empty(), "processed again: {again:?}");
}

/// Prints a table of both daemons, in one run: nothing is asserted.
#[tokio::test]
async fn figures() {
    if env::var_os("MULTILANG_FIGURES").is_none() {
        skip(
            "figures",
            "no MULTILANG_FIGURES: see tests/interop/multilang",
            false,
        );
        return;
    }
    println!(
        "| | start, no table | restart | drain, records/s | CPU s | RSS idle, peak MiB | SIGTERM → exit | child killed → goes on |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for name in ["kcl-multilang", "MultiLangDaemon"] {
        let world = World::new(4).await;
        let keys = [
            "workerId = w",
            "retrievalMode = POLLING",
            "metricsLevel = NONE",
            "shutdownGraceMillis = 10000",
            "failoverTimeMillis = 10000",
        ];
        let executable = format!("{} {}", python().await.unwrap(), child("counting.py"));
        let Some(runs) = command(Client::Plain, name).await else {
            return;
        };
        drop(runs);
        world.properties(&executable, &keys);
        let file = world.path("app.properties");
        let ours = match env::var_os("KCL_MULTILANG") {
            Some(path) => world.binary_at(&path),
            None => world.binary(),
        };
        let ours = ours.args([&file]);
        let program = match name {
            "kcl-multilang" => Some(ours),
            _ => java(&world, &ours, name),
        };
        let Some(program) = program else { return };
        println!("| {name} | {} |", measure(&world, &program).await);
    }
}

async fn measure(world: &World, program: &Program) -> String {
    let batches = |notes: &[Note]| {
        notes
            .iter()
            .filter(|note| note.number("records") > 0.0)
            .count()
    };
    // Some for each of the four shards.
    world.put((0..40).map(|it| format!("r{it}"))).await;
    let begin = Instant::now();
    let daemon = program.start();
    within("a first batch", world, |notes| {
        (batches(notes) > 0).then_some(())
    })
    .await;
    let start = begin.elapsed().as_secs_f64();
    within("all shards", world, |notes| {
        (batches(notes) >= 4).then_some(())
    })
    .await;
    sleep(Duration::from_secs(5)).await;
    let idle = daemon.rss_mib();

    // A child.
    let victim = world
        .ledger()
        .iter()
        .rfind(|note| note.event() == "processRecords")
        .cloned()
        .unwrap();
    let (seen, begin) = (world.ledger().len(), Instant::now());
    kill(victim.pid());
    world.put((0..40).map(|it| format!("s{it}"))).await;
    let mut daemon = daemon;
    let goes_on = loop {
        let again = world.ledger()[seen..]
            .iter()
            .any(|note| note.is("processRecords", victim.shard()));
        if again {
            break format!("{:.1} s", begin.elapsed().as_secs_f64());
        }
        if daemon.has_ended().is_some() {
            break "the daemon exits".to_owned();
        }
        sleep(Duration::from_millis(20)).await;
    };
    if daemon.has_ended().is_some() {
        daemon = program.start();
        let seen = world.ledger().len();
        within("another batch", world, |notes| {
            (batches(&notes[seen..]) > 0).then_some(())
        })
        .await;
    }
    sleep(Duration::from_secs(3)).await;
    let stop = ended(daemon).await.as_secs_f64();

    world.put((0..40).map(|it| format!("t{it}"))).await;
    let (seen, begin) = (world.ledger().len(), Instant::now());
    let daemon = program.start();
    within("a batch after the restart", world, |notes| {
        (batches(&notes[seen..]) > 0).then_some(())
    })
    .await;
    let restart = begin.elapsed().as_secs_f64();
    within("all of them", world, |notes| {
        (count(&notes[seen..]) >= 40.0).then_some(())
    })
    .await;
    ended(daemon).await;

    let seen = world.ledger().len();
    fill(world).await;
    let daemon = program.start();
    within("the drain", world, |notes| {
        (count(&notes[seen..]) >= RECORDS as f64).then_some(())
    })
    .await;
    let (cpu, peak) = (daemon.cpu_seconds(), daemon.most_rss_mib());
    let notes = world.ledger();
    let batches: Vec<_> = notes[seen..]
        .iter()
        .filter(|note| note.number("records") > 0.0)
        .collect();
    let first = batches
        .iter()
        .map(|note| note.number("begin"))
        .fold(f64::MAX, f64::min);
    let last = batches
        .iter()
        .map(|note| note.number("at"))
        .fold(0.0, f64::max);
    ended(daemon).await;
    let rate = RECORDS as f64 / (last - first);
    format!(
        "{start:.1} s | {restart:.1} s | {rate:.0} | {cpu:.1} | {idle:.0}, {peak:.0} | {stop:.1} s | {goes_on}"
    )
}

fn count(notes: &[Note]) -> f64 {
    notes.iter().map(|note| note.number("records")).sum()
}

/// Puts the records to drain, of 100 bytes.
async fn fill(world: &World) {
    let data = Blob::new(vec![b'x'; 100]);
    for request in 0..RECORDS / 500 {
        let mut left: Vec<_> = (0..500)
            .map(|it| {
                let entry =
                    PutRecordsRequestEntry::builder().partition_key(format!("{request}-{it}"));
                entry.data(data.clone()).build().unwrap()
            })
            .collect();
        while !left.is_empty() {
            let put = world.kinesis.put_records().stream_name(STREAM);
            let answer = put.set_records(Some(left.clone())).send().await.unwrap();
            let results = answer.records.into_iter();
            left = left
                .into_iter()
                .zip(results)
                .filter(|(_, result)| result.error_code.is_some())
                .map(|(entry, _)| entry)
                .collect();
        }
    }
}
