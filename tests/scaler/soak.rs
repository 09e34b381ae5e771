//! A scaler under load for long: ScaledObjects that poll and that follow, AWS faults that come and
//! go, certificates that rotate, clients that break off, reloads. Every answer is right or an
//! honest error, and in the end everything is as it was in the beginning.
//!
//! `SOAK=900 OBJECTS=1000` is what `.ci/long soak` runs; then the memory may not grow, either.

mod clients;
mod scaler;
mod trouble;
mod world;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::{clients::Counted, scaler::Scaler, world::World};

/// Memory is looked at from here on: caches and pools have their size.
const WARM: Duration = Duration::from_secs(300);

/// So many ScaledObjects have one of each kind among them.
const KINDS: usize = 5;

/// Memory may grow by so much of itself in a minute.
const GROWTH: f64 = 0.01;

/// Not a test: the scaler's process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaler_process() {
    if let Some(config) = std::env::var_os(scaler::CONFIG) {
        scaler::run(config.as_ref()).await;
    }
}

fn number(name: &str, default: u64) -> u64 {
    let number = std::env::var(name).ok();
    number.map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_returns_to_where_it_began_and_no_answer_is_wrong() {
    let lasts = Duration::from_secs(number("SOAK", 8));
    let objects = number("OBJECTS", 150) as usize;
    let scaler = Arc::new(Scaler::start().await);
    // What the first call makes and leaves, is there in the beginning: the HTTP client's task that
    // looks after idle connections ends 90 s after the last one.
    let world = Arc::new(World::start(KINDS).await);
    clients::ask_each(&world, &scaler).await;
    drop(Arc::into_inner(world).expect("nobody else has it"));
    let before = scaler.at_rest().await;

    let world = Arc::new(World::start(objects).await);
    let began = Instant::now();
    let (counted, memory) = tokio::join!(
        load(&world, &scaler, lasts),
        memory(&scaler, WARM, began + lasts)
    );
    println!("{counted}");
    // The scaler keeps connections to AWS for the next question; AWS ends them.
    drop(Arc::into_inner(world).expect("nobody else has it"));
    let after = scaler.at_rest_as(before).await;

    let growth = growth(&memory);
    println!("before: {before:?}, after: {after:?}");
    if let Some(growth) = growth {
        let (first, last) = (memory[0].1, memory[memory.len() - 1].1);
        println!(
            "memory: {first:.1} to {last:.1} MiB, {:.2} % a minute",
            growth * 100.0
        );
        assert!(growth < GROWTH, "{memory:?}");
    }
    assert!(counted.wrong.is_empty(), "{counted}");
    assert!(counted.met_all(), "{counted}");
    let scaler = Arc::into_inner(scaler).expect("nobody else has it");
    scaler.stop().await;
}

/// All of it for a while; then AWS is well again and all clients are gone.
async fn load(world: &Arc<World>, scaler: &Arc<Scaler>, lasts: Duration) -> Counted {
    let stop = CancellationToken::new();
    let clients = clients::start(world, scaler, &stop);
    let trouble = trouble::start(world, scaler, &stop);
    sleep(lasts).await;
    stop.cancel();
    let mut counted = trouble.await.unwrap();
    world.heal();
    for client in clients {
        counted.add(client.await.unwrap());
    }
    counted
}

/// Resident memory by minute, from a time on until another.
async fn memory(scaler: &Scaler, after: Duration, until: Instant) -> Vec<(f64, f64)> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while Instant::now() < until {
        if began.elapsed() >= after {
            let minutes = began.elapsed().as_secs_f64() / 60.0;
            samples.push((minutes, scaler.process.rss_mib()));
        }
        sleep(Duration::from_secs(5)).await;
    }
    samples
}

/// What it grows by in a minute, as a share of its mean: the slope of a line through the samples.
/// `None`: too few.
fn growth(samples: &[(f64, f64)]) -> Option<f64> {
    if samples.len() < 60 {
        return None;
    }
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let together: f64 = samples.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    let apart: f64 = samples.iter().map(|it| (it.0 - x).powi(2)).sum();
    Some(together / apart / y)
}
