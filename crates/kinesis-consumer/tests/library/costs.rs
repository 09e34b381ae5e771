//! What a lease table costs a month: whole fleets of each pace over a table in memory, on a paused
//! clock, beside KCL 2.x and 3.x by formula.
//!
//! Active is a record each few seconds and shard, all acknowledged. Ours acknowledges by the
//! renewals that it writes anyway. KCL writes each checkpoint: one a minute as its sample does, or
//! one for each batch at its default of a read each 1.5 s.
//!
//! `SIZES="1x16 4x64 10x100 50x500"` before the test takes other fleets, workers × leases.

use std::time::Duration;

use kinesis_consumer::{Pace, lease::Lease};
use tokio::time::{sleep, timeout};

use crate::fleet::{Fleet, half_units, java_bytes, kcl_2, total};

/// Dollars for a million units, on demand in us-east-1.
const READ: f64 = 0.125;
const WRITE: f64 = 0.625;
const MINUTES_A_MONTH: f64 = 30.0 * 24.0 * 60.0;
/// KCL's time between reads, and less than that between renewals: each of those carries something.
const READS: Duration = Duration::from_millis(1500);
/// For how long is counted.
const MINUTES: u64 = 4;

fn dollars((read, written): (f64, f64)) -> f64 {
    (read * READ + written * WRITE) * MINUTES_A_MONTH / 1e6
}

/// What KCL 3.x reads and writes a minute: renewals as 2.x; each worker asks the index for its
/// leases each 9.975 s, half a unit for each begun 4 KB of keys, and reports itself each 30 s; the
/// leader scans each 20 s and audits each two minutes, and moves its lock each 30 s, which each of
/// the others reads as often.
fn kcl_3(workers: usize, leases: &[Lease]) -> (f64, f64) {
    let rows = leases.iter().map(java_bytes).sum::<usize>();
    // A report has a name and a few lists of ten figures.
    let scan = half_units(rows + workers * 500);
    let of_one = leases.len().div_ceil(workers) * 100;
    let workers = workers as f64;
    let read = 3.5 * scan + workers * half_units(of_one) * 60.0 / 9.975 + (workers - 1.0) * 2.0;
    let (_, renewed) = kcl_2(1, leases);
    (read, renewed + workers * 2.0 + 2.0)
}

/// Read and written a minute, idle and active.
async fn measure(workers: usize, shards: usize, pace: Pace) -> [(f64, f64); 2] {
    let mut fleet = Fleet::new(shards, pace, READS);
    for _ in 0..workers {
        fleet.start();
        sleep(Duration::from_secs(10) / u32::try_from(workers).unwrap()).await;
    }
    fleet.until("even", Fleet::is_even).await;
    sleep(Duration::from_secs(180)).await;
    let minutes = MINUTES as f64;
    let counted = || {
        let units = std::mem::take(&mut *fleet.units.lock().unwrap());
        let (read, written) = total(&units);
        (read / minutes, written / minutes)
    };
    let time = Duration::from_secs(60 * MINUTES);
    counted();
    sleep(time).await;
    let idle = counted();
    let producing = async {
        loop {
            // Four for each shard, as they are spread by their digests.
            for key in 0..4 * shards {
                fleet.kinesis.put(&key.to_string(), "record");
            }
            sleep(READS).await;
        }
    };
    // The first ones find the shards at rest.
    tokio::pin!(producing);
    let _ = timeout(Duration::from_secs(60), &mut producing).await;
    counted();
    let _ = timeout(time / 2, &mut producing).await;
    let (read, written) = counted();
    [idle, (read * 2.0, written * 2.0)]
}

#[test]
fn dollars_a_month() {
    println!("| workers × leases | | idle | active | read a minute, idle | written |");
    println!("|---|---|---|---|---|---|");
    let sizes = std::env::var("SIZES").unwrap_or_else(|_| "1x16 4x64".to_owned());
    for size in sizes.split_whitespace() {
        let (workers, shards) = size
            .split_once('x')
            .expect("workers x leases, such as 4x64");
        let number = |text: &str| text.parse().expect("a number");
        print_size(number(workers), number(shards));
    }
}

#[expect(clippy::print_stdout, reason = "docs/cost.md has what it prints")]
fn print_size(workers: usize, shards: usize) {
    let leases: Vec<_> = {
        let fleet = Fleet::new(shards, Pace::Balanced, READS);
        let shards = fleet.kinesis.shards().into_iter();
        let open = shards.filter(|shard| !shard.closed);
        open.map(|shard| {
            let mut lease = Lease::new(shard.id, kinesis_consumer::Checkpoint::Latest);
            lease.owner = Some("orders-consumer-7c9f8d6b5-00000".to_owned());
            lease.parents = shard.parents;
            // Of a lease that has been renewed for some days.
            lease.counter = 100_000;
            lease
        })
        .collect()
    };
    let [each_minute, each_batch] = [1.0, 40.0].map(|count| leases.len() as f64 * count);
    for (name, (read, written)) in [
        ("KCL 2.x", kcl_2(workers, &leases)),
        ("KCL 3.x", kcl_3(workers, &leases)),
    ] {
        let active = |more| dollars((read, written + more));
        println!(
            "| {workers} × {shards} | {name} | {:.2} | {:.2} to {:.2} | {read:.0} | {written:.0} |",
            active(0.0),
            active(each_minute),
            active(each_batch)
        );
    }
    let of_paces = Pace::ALL.map(|pace| {
        fastrand::seed(7);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let [idle, active] = runtime.block_on(measure(workers, shards, pace));
        println!(
            "| {workers} × {shards} | {pace} | {:.2} | {:.2} | {:.1} | {:.0} |",
            dollars(idle),
            dollars(active),
            idle.0,
            idle.1
        );
        [idle, active].map(dollars)
    });
    let java = dollars(kcl_2(workers, &leases));
    let [thrifty, balanced, fast] = of_paces;
    for [idle, active] in of_paces {
        // Windows that hold one renewal more or less of each lease.
        assert!(active <= 1.1 * idle, "checkpoints come with renewals");
    }
    assert!(thrifty[0] <= 0.45 * balanced[0], "{thrifty:?} {balanced:?}");
    assert!(balanced[0] <= java, "{balanced:?} {java}");
    assert!(fast[0] <= 2.1 * balanced[0], "{fast:?} {balanced:?}");
}
