//! What real processes read and write of their lease table while nothing moves, as the proxy before
//! DynamoDB counts it, beside KCL 2.x's formula; and how soon leases move, which is printed.
//!
//! KCL 2.x: each worker scans each 20.05 s and renews each lease each 3.308 s, over rows without
//! our attributes. What it needs for its audits and elections is not counted.
//!
//! The gate runs one worker for a minute. `.ci/long fleets` runs more of them, for two minutes: as
//! a scan comes each 40 s, one minute has one of them or two.

use std::{collections::BTreeMap, env, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use test_support::Tally;
use tokio::time::{Instant, sleep};

use crate::support::{APPLICATION, Consumer, Item, World, text};

const MINUTE: Duration = Duration::from_secs(60);
/// What the processes of these tests have for `FAILOVER_TIME`: the default.
const FAILOVER: Duration = Duration::from_secs(10);
/// Leases that did not move after so long will not.
const PATIENCE: Duration = Duration::from_secs(120);

/// A fleet of processes, as its lease table shows it.
struct Fleet {
    world: World,
    consumers: BTreeMap<String, Consumer>,
    born: usize,
}

impl Fleet {
    async fn new(workers: usize, shards: i32) -> Self {
        let world = World::tutorial(shards).await;
        let mut fleet = Self {
            world,
            consumers: BTreeMap::new(),
            born: 0,
        };
        (0..workers).for_each(|_| fleet.start());
        // Their table is there by then.
        fleet.world.dynamodb.wait_for_calls("Scan", 1).await;
        fleet
    }

    fn start(&mut self) {
        self.born += 1;
        let name = format!("kinesis-to-dynamodb-7c9f8d6b5-{:05}", self.born);
        let setup = self.world.consumer(&name).with("FAILOVER_TIME", "10s");
        let consumer = setup.with("LOG_LEVEL", "warn").start();
        self.consumers.insert(name, consumer);
    }

    /// How many leases each process works on. `None`: nobody works on some.
    async fn counts(&self) -> Option<Vec<usize>> {
        let leases = self.world.items(APPLICATION).await;
        let mut counts = BTreeMap::from_iter(self.consumers.keys().map(|name| (name.clone(), 0)));
        for lease in leases {
            // It is not taken yet.
            lease.get("nativeProcess")?;
            *counts.get_mut(&text(&lease, "leaseOwner"))? += 1;
        }
        Some(counts.into_values().collect())
    }

    async fn until(&self, what: &str, is_so: impl Fn(&[usize]) -> bool) {
        let began = Instant::now();
        loop {
            let counts = self.counts().await;
            if counts.as_deref().is_some_and(&is_so) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {counts:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_all_are_worked_on(&self) {
        self.until("all shards", |_| true).await;
    }

    async fn until_even(&self) {
        let is_even = |counts: &[usize]| {
            let (least, most) = (counts.iter().min(), counts.iter().max());
            least
                .zip(most)
                .is_some_and(|(least, most)| *least > 0 && most - least <= 1)
        };
        self.until("as many leases for each", is_even).await;
    }

    /// What so many minutes come to, each: read, written; and by operation, together.
    async fn count(&self, minutes: u32) -> (f64, f64, Vec<(String, Tally)>) {
        self.world.dynamodb.clear_tallies();
        sleep(minutes * MINUTE).await;
        let tallies = self.world.dynamodb.tallies_on(APPLICATION);
        let read: f64 = tallies.iter().map(|(_, tally)| tally.read_units).sum();
        let written: f64 = tallies.iter().map(|(_, tally)| tally.write_units).sum();
        let minutes = f64::from(minutes);
        (read / minutes, written / minutes, tallies)
    }

    fn take_one(&mut self) -> Consumer {
        self.consumers.pop_first().unwrap().1
    }
}

/// By DynamoDB's rules, of the attributes that KCL 2.x has.
fn java_bytes(lease: &Item) -> usize {
    let is_ours = |name: &str| {
        let ours = [
            "native",
            "handover",
            "latestSince",
            "news",
            "busy",
            "failover",
        ];
        ours.iter().any(|prefix| name.starts_with(prefix))
    };
    let java = lease.iter().filter(|(name, _)| !is_ours(name));
    java.map(|(name, value)| name.len() + bytes(value)).sum()
}

fn bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number.len().div_ceil(2) + 1,
        AttributeValue::Ss(texts) => 3 + texts.iter().map(|text| text.len() + 1).sum::<usize>(),
        other => panic!("no attribute of a lease: {other:?}"),
    }
}

/// What KCL 2.x reads and writes of such a table a minute.
fn kcl_2(workers: usize, leases: &[Item]) -> (f64, f64) {
    let table: usize = leases.iter().map(java_bytes).sum();
    let scan = table.div_ceil(4096).max(1) as f64 / 2.0;
    let scans = workers as f64 * 60.0 / 20.05;
    (scans * scan, leases.len() as f64 * 60.0 / 3.308)
}

async fn measure(workers: usize, shards: i32, minutes: u32) {
    let mut fleet = Fleet::new(workers, shards).await;
    fleet.until_even().await;
    let record = |key: i32| (format!("user-{key}"), "{}".to_owned());
    fleet.world.put_all((0..4 * shards).map(record)).await;
    // Whoever started looks around for a while, longer beside others.
    sleep(if workers > 1 { MINUTE } else { MINUTE / 12 }).await;
    fleet.until_even().await;
    let (read, written, tallies) = fleet.count(minutes).await;
    let leases = fleet.world.items(APPLICATION).await;
    let (java_read, java_written) = kcl_2(workers, &leases);
    println!(
        "{workers} × {shards}, a minute: {read:.1} RRU, {written:.0} WRU; KCL 2.x {java_read:.1}, \
         {java_written:.0}; of {minutes} minutes:"
    );
    for (operation, tally) in tallies {
        let (calls, read, written) = (tally.calls, tally.read_units, tally.write_units);
        println!("  {operation}: {calls} calls, {read:.1} RRU, {written:.0} WRU");
    }
    if workers > 1 {
        moves(&mut fleet, &format!("{workers} × {shards}")).await;
    }
    for (_, consumer) in fleet.consumers {
        consumer.stop().await;
    }
    // What a small table costs KCL is less than a death that is seen within the failover time.
    assert!(
        read <= java_read || (workers > 1 && shards < 64),
        "{read} RRU, KCL 2.x {java_read}"
    );
    assert!(
        written <= java_written,
        "{written} WRU, KCL 2.x {java_written}"
    );
    let (ours, java) = (dollars(read, written), dollars(java_read, java_written));
    assert!(
        ours <= java,
        "${ours} for a million minutes, KCL 2.x ${java}"
    );
}

/// Of so many units a minute, on demand in us-east-1, for a million minutes.
fn dollars(read: f64, written: f64) -> f64 {
    read * 0.125 + written * 0.625
}

async fn moves(fleet: &mut Fleet, fleet_size: &str) {
    let told = |what: &str, took: Duration, most: Duration| {
        let verdict = if took <= most {
            "within"
        } else {
            "LONGER THAN"
        };
        println!("{fleet_size}: {what}: {took:.1?}, {verdict} {most:?}");
    };
    let killed = fleet.take_one();
    let began = Instant::now();
    killed.kill().await;
    fleet.until_all_are_worked_on().await;
    let most = FAILOVER + Duration::from_millis(1_500);
    told("kill -9 → all go on", began.elapsed(), most);
    fleet.until_even().await;

    let began = Instant::now();
    fleet.start();
    fleet.until_even().await;
    told("a start → even", began.elapsed(), Duration::from_secs(10));

    let mut stopped = fleet.take_one();
    let began = Instant::now();
    stopped.terminate();
    fleet.until_all_are_worked_on().await;
    told(
        "SIGTERM → all go on",
        began.elapsed(),
        Duration::from_secs(3),
    );
    assert_eq!(stopped.ended().await, 0);
}

/// `FLEETS=1x16,4x64` takes others, and `MINUTES` counts for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_cost_no_more_than_kcl_2() {
    let fleets = env::var("FLEETS").unwrap_or_else(|_| "1x16".to_owned());
    let minutes = env::var("MINUTES").map_or(1, |minutes| minutes.parse().expect("a number"));
    for fleet in fleets.split(',') {
        let size = fleet.split_once('x');
        let size =
            size.and_then(|(workers, shards)| Some((workers.parse().ok()?, shards.parse().ok()?)));
        let (workers, shards) = size.expect("workers x shards, such as 4x64");
        measure(workers, shards, minutes).await;
    }
}
