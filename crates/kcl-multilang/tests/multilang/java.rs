//! Beside KCL's own MultiLangDaemon. `tests/interop/multilang` fetches its jars and says where they
//! are; without them these tests are skipped.

#![allow(
    clippy::print_stdout,
    reason = "the table of figures is what it is for"
)]

use std::{collections::BTreeSet, env, time::Duration};

use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use test_support::{Item, Process, Program, Signal, skip::skip, text};
use tokio::time::{Instant, sleep};

use crate::{
    clients::{Client, child, command, python},
    story::{by_child, kill},
    support::{Note, STREAM, World},
};

const CLASS: &str = "software.amazon.kinesis.multilang.MultiLangDaemon";
/// A JVM on a busy machine, and minutes of KCL 3's own start.
const PATIENCE: Duration = Duration::from_secs(600);
/// What every KCL 3 has: PHASE1 came with 3.5.
const LIKE_2: &str = "clientVersionConfig = CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X";
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

/// Waits until this holds of the ledger, while these daemons run.
async fn within<T>(
    what: &str,
    world: &World,
    daemons: &mut [&mut Process],
    holds: impl Fn(&[Note]) -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = holds(&world.ledger()) {
            return found;
        }
        let ended = daemons.iter_mut().any(|it| it.has_ended().is_some());
        if ended || begin.elapsed() > PATIENCE {
            let logs: Vec<_> = daemons.iter().map(|it| it.log()).collect();
            panic!("waited in vain for {what}:\n{}", logs.join("\n\n"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn processed(world: &World, daemons: &mut [&mut Process], from: usize, to: usize) {
    world.put((from..to).map(|it| format!("r{it}"))).await;
    let what = format!("records {from} to {to}");
    within(&what, world, daemons, |notes| {
        let texts: BTreeSet<_> = notes.iter().filter_map(|note| note.text("data")).collect();
        let all = (from..to).all(|it| texts.contains(format!("r{it}").as_str()));
        all.then_some(())
    })
    .await;
}

/// How often each of these records was processed, where that is not once.
fn again(world: &World, range: std::ops::Range<usize>) -> Vec<(usize, usize)> {
    let notes = world.ledger();
    let times = |record: usize| {
        let text = format!("r{record}");
        let same = |note: &&Note| note.text("data") == Some(&text);
        notes.iter().filter(same).count()
    };
    range
        .map(|it| (it, times(it)))
        .filter(|(_, times)| *times != 1)
        .collect()
}

/// SIGTERM, and its end, whatever its code.
async fn ended(mut process: Process) -> Duration {
    let begin = Instant::now();
    process.signal(Signal::TERM);
    process.ended().await;
    begin.elapsed()
}

fn keys(worker: &str) -> [String; 5] {
    [
        format!("workerId = {worker}"),
        "retrievalMode = POLLING".to_owned(),
        "metricsLevel = NONE".to_owned(),
        "shutdownGraceMillis = 10000".to_owned(),
        LIKE_2.to_owned(),
    ]
}

/// Ours and Java's over one properties file. `None`: Java or the client cannot be had.
async fn both(world: &World, test: &str) -> Option<(Program, Program)> {
    let keys = keys("w");
    let keys = keys.each_ref().map(String::as_str);
    let ours = world.daemon(Client::Kclpy, test, &keys).await?;
    let java = java(world, &ours, test)?;
    Some((ours, java))
}

#[tokio::test]
async fn the_java_daemon_takes_over_and_gives_back() {
    let world = World::new(2).await;
    let Some((ours, java)) = both(&world, "the_java_daemon_takes_over").await else {
        return;
    };
    let mut first = ours.start();
    processed(&world, &mut [&mut first], 0, 100).await;
    ended(first).await;
    let mut second = java.start();
    processed(&world, &mut [&mut second], 100, 200).await;
    ended(second).await;
    let mut third = ours.start();
    processed(&world, &mut [&mut third], 200, 300).await;
    third.stop().await;
    // Each checkpointed everything, so the next one read on exactly there.
    assert_eq!(again(&world, 0..300), []);
}

/// From Java to ours and back, by one registered consumer.
#[tokio::test]
async fn both_fan_out_by_the_same_consumer() {
    let world = World::new(2).await;
    let keys = keys("w").map(|key| key.replace("POLLING", "FANOUT"));
    let keys = keys.each_ref().map(String::as_str);
    let test = "both fan out";
    let Some(ours) = world.daemon(Client::Kclpy, test, &keys).await else {
        return;
    };
    let Some(java) = java(&world, &ours, test) else {
        return;
    };
    for (turn, program) in [&java, &ours, &java].into_iter().enumerate() {
        let mut daemon = program.start();
        processed(&world, &mut [&mut daemon], turn * 100, turn * 100 + 100).await;
        ended(daemon).await;
    }
    assert_eq!(again(&world, 0..300), []);
    let count = |operation| world.embedded.count(operation);
    assert_eq!(count("RegisterStreamConsumer"), 1);
    assert!(count("SubscribeToShard") >= 6, "two shards, three times");
    let by_java =
        |call: &embedded_kinesis::Call| call.operation == "SubscribeToShard" && call.http2;
    assert!(world.embedded.calls().iter().any(by_java));
}

/// A rollout from Java to ours, and half of it back: both at work on one lease table.
#[tokio::test]
async fn both_share_the_shards_beside_each_other() {
    let world = World::new(4).await;
    let Some((_, java)) = both(&world, "beside the Java daemon").await else {
        return;
    };
    let mut theirs = java.start();
    processed(&world, &mut [&mut theirs], 0, 100).await;
    // The Java daemon has read the file.
    let keys = keys("x");
    let keys = keys.each_ref().map(String::as_str);
    let ours = world.daemon(Client::Kclpy, "beside the Java daemon", &keys);
    let mut ours = ours.await.unwrap().start();
    shared(&world, &mut [&mut theirs, &mut ours]).await;
    processed(&world, &mut [&mut theirs, &mut ours], 100, 300).await;
    ended(theirs).await;
    processed(&world, &mut [&mut ours], 300, 400).await;
    ours.stop().await;
    let notes = world.ledger();
    for (child, positions) in by_child(&notes) {
        assert!(positions.is_sorted(), "{child:?} got records out of order");
    }
}

/// Waits until each of both has two of the four leases.
async fn shared(world: &World, daemons: &mut [&mut Process]) {
    let begin = Instant::now();
    loop {
        let leases = world.leases().await;
        let of = |worker: &str| {
            let owner = |lease: &&Item| {
                lease.contains_key("leaseOwner") && text(lease, "leaseOwner") == worker
            };
            leases.iter().filter(owner).count()
        };
        if (of("w"), of("x")) == (2, 2) {
            return;
        }
        let ended = daemons.iter_mut().any(|it| it.has_ended().is_some());
        if ended || begin.elapsed() > PATIENCE {
            let logs: Vec<_> = daemons.iter().map(|it| it.log()).collect();
            panic!("they do not share: {leases:?}\n{}", logs.join("\n\n"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Prints a table of both daemons, in one run: nothing is asserted. The stream keeps AWS's quotas,
/// on threads of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
        let world = World::limited(4).await;
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
    let some = |name: &str| (0..40).map(|it| format!("{name}{it}")).collect::<Vec<_>>();
    // Some for each of the four shards.
    world.put(some("r")).await;
    let begin = Instant::now();
    let mut daemon = program.start();
    within("a first batch", world, &mut [&mut daemon], |notes| {
        (batches(notes) > 0).then_some(())
    })
    .await;
    let start = begin.elapsed().as_secs_f64();
    within("all shards", world, &mut [&mut daemon], |notes| {
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
    world.put(some("s")).await;
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
        within("another batch", world, &mut [&mut daemon], |notes| {
            (batches(&notes[seen..]) > 0).then_some(())
        })
        .await;
    }
    sleep(Duration::from_secs(3)).await;
    let stop = ended(daemon).await.as_secs_f64();

    world.put(some("t")).await;
    let (seen, begin) = (world.ledger().len(), Instant::now());
    let mut daemon = program.start();
    within(
        "a batch after the restart",
        world,
        &mut [&mut daemon],
        |notes| (batches(&notes[seen..]) > 0).then_some(()),
    )
    .await;
    let restart = begin.elapsed().as_secs_f64();
    within("all of them", world, &mut [&mut daemon], |notes| {
        (count(&notes[seen..]) >= 40.0).then_some(())
    })
    .await;
    ended(daemon).await;

    let seen = world.ledger().len();
    fill(world).await;
    let mut daemon = program.start();
    within("the drain", world, &mut [&mut daemon], |notes| {
        (count(&notes[seen..]) >= RECORDS as f64).then_some(())
    })
    .await;
    let (cpu, peak) = (daemon.cpu_seconds(), daemon.most_rss_mib());
    let notes = world.ledger();
    let batches: Vec<_> = notes[seen..]
        .iter()
        .filter(|note| note.number("records") > 0.0)
        .collect();
    let time = |name| batches.iter().map(move |note| note.number(name));
    let first = time("begin").fold(f64::MAX, f64::min);
    let last = time("at").fold(0.0, f64::max);
    let children: f64 = batches
        .iter()
        .map(|note| note.number("at") - note.number("begin"))
        .sum();
    ended(daemon).await;
    let rate = RECORDS as f64 / (last - first);
    let most = batches
        .iter()
        .map(|note| note.number("records"))
        .fold(0.0, f64::max);
    println!(
        "{} batches of {most} records at most, {children:.1} s in children, {:.1} s from first to last",
        batches.len(),
        last - first,
    );
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
