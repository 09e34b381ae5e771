//! Simulation: the whole library over an in-memory lease table and stream, on a paused clock,
//! driven by a seed.
//!
//! Up to 8 workers and 64 shards; splits, merges, aggregates, also ones that belong to two shards,
//! expiring iterators, records that the stream forgets, checkpointed or unread; streams made anew,
//! tables that another application uses; kill -9, SIGTERM, SIGSTOP for longer than the failover
//! time, clocks that are wrong; lost answers, throttling, slow calls; processors that are slow,
//! fail, panic, or work on when their lease is lost; polling and enhanced fan-out, also side by
//! side, with subscriptions that are cut, silent or slow. `ledger` and `processor` judge while it
//! runs, `scenario` judges what is left. A failing seed prints how to replay it; `SEEDS` sets how
//! many are run, `TRACE=1` prints what happens.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

mod ledger;
mod node;
mod processor;
mod scenario;
mod subscription;

const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn promises_hold() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SEEDS").unwrap_or(1000)),
    };
    let next = AtomicU64::new(first);
    let events = Mutex::new(BTreeMap::<_, u64>::new());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    let report = scenario::run(seed);
                    for (name, times) in report.events {
                        *events.lock().unwrap().entry(name).or_default() += times;
                    }
                    if !report.broken.is_empty() {
                        let broken = report.broken.join("\n  ");
                        let replay = format!("SEED={seed} cargo test -p kinesis-consumer --test library promises_hold");
                        failures.lock().unwrap().push(format!("seed {seed}: replay with\n  {replay}\n  {broken}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let events = events.into_inner().unwrap();
    println!("{count} seeds: {events:?}");
    if count >= 100 {
        // What never happens is not tested.
        let wanted = [
            "AggregateRejected",
            "CheckpointExpired",
            "ConsumerRegistered",
            "FellBackToPolling",
            "GivenBack",
            "HandedOver",
            "LeaseDeleted",
            "LeaseLost",
            "LeaseReleased",
            "ProcessorFailed",
            "Retrying",
            "ShardEndWaits",
            "ShardEnded",
            "Subscribed",
            "Throttled",
            "TooLate",
            "Unreadable",
        ];
        assert!(
            wanted.iter().all(|name| events.contains_key(name)),
            "{events:?}"
        );
    }
}

#[test]
fn a_seed_replays() {
    for seed in 0..5 {
        assert_eq!(scenario::run(seed), scenario::run(seed), "seed {seed}");
    }
}
