//! What a fleet reads and writes of its lease table, and how soon its leases move: whole workers
//! over a table in memory, on a paused clock.
//!
//! Units are DynamoDB's, from the sizes that the rows have there: half a unit for each begun 4 KB
//! of a scan, and of each item of a BatchGetItem, also one that is not there; one for each begun
//! 4 KB of a consistent read; one for each begun KB written.
//!
//! KCL 2.x: each worker scans each 20.05 s (`2 × (failover + 25 ms)`) and renews each lease each
//! 3.308 s (`failover / 3 - 25 ms`). Its rows lack our attributes. What it needs for its audits and
//! elections is not counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{
    Config, Error, Pace, Worker, each_batch,
    lease::Lease,
    test_util::{Fault, MemoryKinesis, MemoryTable, TableCall},
};
use rstest::rstest;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// The stream was resharded once, so that each shard has a parent.
const POSITION: kinesis_consumer::InitialPosition = kinesis_consumer::InitialPosition::Latest;
const STEP: Duration = Duration::from_millis(50);
/// For how long is counted.
const MINUTES: u64 = 8;
const FAILOVER: Duration = Duration::from_secs(10);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

// === sizes ===

/// An item's number: a byte for each two digits, and one more.
fn number(number: u64) -> usize {
    number.to_string().len().div_ceil(2) + 1
}

/// The row as KCL 2.x has it: names and values.
pub(crate) fn java_bytes(lease: &Lease) -> usize {
    let text = |name: &str, bytes: usize| name.len() + bytes;
    let owner = lease.owner.as_ref();
    let parents: usize = lease.parents.iter().map(|id| id.as_str().len() + 1).sum();
    text("leaseKey", lease.key.to_string().len())
        + owner.map_or(0, |owner| text("leaseOwner", owner.len()))
        + text("leaseCounter", number(lease.counter))
        // A sequence number's digits, as Kinesis writes them.
        + text("checkpoint", 56)
        + text("checkpointSubSequenceNumber", 2)
        + text("ownerSwitchesSinceCheckpoint", 2)
        + text("parentShardId", 3 + parents)
        + text("startingHashKey", 39)
        + text("endingHashKey", 39)
}

/// The row as ours.
fn bytes(lease: &Lease) -> usize {
    let text = |name: &str, value: Option<usize>| value.map_or(0, |bytes| name.len() + bytes);
    let news: usize = lease.news.iter().map(|key| key.to_string().len() + 1).sum();
    java_bytes(lease)
        + text("nativeCounter", lease.native_counter.map(number))
        + text(
            "nativeProcess",
            lease.native_process.as_ref().map(String::len),
        )
        + text("nativeClock", lease.native_clock.map(number))
        + text(
            "nativeStream",
            lease.stream_identity.as_ref().map(String::len),
        )
        + text("failover", lease.failover_millis.map(|_| 3))
        + text("handoverTo", lease.handover_to.as_ref().map(String::len))
        + text("handoverHas", lease.handover_has.map(number))
        + text("news", (news > 0).then_some(3 + news))
        + text("busy", lease.busy_permille.map(|_| 3))
}

pub(crate) fn half_units(bytes: usize) -> f64 {
    bytes.div_ceil(4096).max(1) as f64 / 2.0
}

/// What KCL 2.x reads and writes of such a table a minute.
pub(crate) fn kcl_2(workers: usize, leases: &[Lease]) -> (f64, f64) {
    let scan = half_units(leases.iter().map(java_bytes).sum());
    let scans = workers as f64 * 60.0 / 20.05;
    (scans * scan, leases.len() as f64 * 60.0 / 3.308)
}

/// Units read and written, by operation.
pub(crate) type Units = BTreeMap<&'static str, (f64, f64)>;

fn count(units: &mut Units, call: &TableCall<'_>, table: &MemoryTable) {
    let (read, written) = units.entry(call.operation).or_default();
    match call.operation {
        "ensure_exists" => {}
        "scan" => *read += half_units(table.leases().iter().map(bytes).sum()),
        "look" => *read += call.leases as f64 / 2.0,
        "read" => *read += 1.0,
        // Two items, half a unit each.
        "kcl3_state" => *read += 1.0,
        _ => *written += 1.0,
    }
}

pub(crate) fn total(units: &Units) -> (f64, f64) {
    let add = |sum: (f64, f64), of: &(f64, f64)| (sum.0 + of.0, sum.1 + of.1);
    units.values().fold((0.0, 0.0), add)
}

// === the fleet ===

pub(crate) struct Running {
    name: String,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Error>>,
}

pub(crate) struct Fleet {
    pub(crate) kinesis: MemoryKinesis,
    pub(crate) table: MemoryTable,
    pub(crate) units: Arc<Mutex<Units>>,
    running: Vec<Running>,
    born: usize,
    pace: Pace,
    /// The time between reads of a shard while records come.
    reads: Duration,
}

impl Fleet {
    pub(crate) fn new(shards: usize, pace: Pace, reads: Duration) -> Self {
        let kinesis = MemoryKinesis::new(shards / 2);
        for shard in kinesis.shards() {
            kinesis.split(&shard.id);
        }
        Self {
            kinesis,
            table: MemoryTable::new(),
            units: Arc::default(),
            running: Vec::new(),
            born: 0,
            pace,
            reads,
        }
    }

    pub(crate) fn start(&mut self) {
        self.born += 1;
        let name = format!(
            "orders-consumer-7c9f8d6b5-{:05x}",
            self.born * 7919 % 0xfffff
        );
        let mut config = Config::new("orders", "orders-consumer", name.clone());
        config.initial_position = POSITION;
        config.idle_between_reads = Some(seconds(60));
        config.tip_read_interval = Some(self.reads);
        config.pace = self.pace;
        let (units, table) = (Arc::clone(&self.units), self.table.clone());
        let view = self.table.with_faults(move |call| {
            count(&mut units.lock().unwrap(), call, &table);
            let way = Duration::from_micros(fastrand::u64(1_000..8_000));
            Fault {
                before: way,
                after: way,
                ..Fault::default()
            }
        });
        let processor = each_batch(|_, _| async { Ok(()) });
        let worker = Worker::over(config, self.kinesis.clone(), view, processor);
        let (stop, stopped) = oneshot::channel::<()>();
        let run = worker.on_event(|_| {}).run(async move {
            let _ = stopped.await;
        });
        let run = tokio::spawn(run);
        self.running.push(Running { name, stop, run });
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        let names = self.running.iter().map(|running| running.name.clone());
        let mut counts: BTreeMap<_, _> = names.map(|name| (name, 0)).collect();
        for lease in self.table.leases() {
            if let (Some(owner), Some(_)) = (&lease.owner, &lease.native_process)
                && let Some(count) = counts.get_mut(owner)
            {
                *count += 1;
            }
        }
        counts
    }

    /// Every lease has a worker that lives.
    fn goes_on(&self) -> bool {
        self.counts().values().sum::<usize>() == self.table.leases().len()
    }

    pub(crate) fn is_even(&self) -> bool {
        let counts = self.counts();
        let (least, most) = (counts.values().min(), counts.values().max());
        self.goes_on() && most.unwrap_or(&0) <= &(least.unwrap_or(&0) + 1)
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            let took = began.elapsed();
            assert!(
                took < seconds(300),
                "not {what} in {took:?}: {:?}",
                self.counts()
            );
            sleep(STEP).await;
        }
        began.elapsed()
    }

    /// The worker that holds the first lease, or another one.
    fn pick(&self, is_warden: bool) -> usize {
        let first = self
            .table
            .leases()
            .into_iter()
            .find_map(|lease| lease.owner);
        let is_it = |running: &Running| Some(&running.name) == first.as_ref();
        let mut indices = 0..self.running.len();
        let picked = indices.find(|index| is_it(&self.running[*index]) == is_warden);
        picked.unwrap()
    }

    async fn kill(&mut self, is_warden: bool) -> Duration {
        let killed = self.running.swap_remove(self.pick(is_warden));
        killed.run.abort();
        let _ = killed.run.await;
        self.until("at work", Self::goes_on).await
    }

    async fn stop(&mut self, is_warden: bool) -> Duration {
        let stopped = self.running.swap_remove(self.pick(is_warden));
        let began = Instant::now();
        stopped.stop.send(()).unwrap();
        let ended = tokio::spawn(stopped.run);
        self.until("at work", Self::goes_on).await;
        let took = began.elapsed();
        ended.await.unwrap().unwrap().unwrap();
        took
    }

    fn calls(&self, operation: &str) -> u64 {
        self.table.calls().get(operation).copied().unwrap_or(0)
    }
}

/// The slowest of several.
#[derive(Debug, Default)]
struct Times {
    kills: Vec<f64>,
    stops: Vec<f64>,
    joins: Vec<f64>,
}

#[expect(clippy::print_stdout, reason = "docs/cost.md has what it prints")]
async fn measure(workers: usize, shards: usize, joins_in: u64) {
    let mut fleet = Fleet::new(shards, Pace::Balanced, seconds(60));
    let few = (workers / 5).max(1);
    fleet.start();
    sleep(seconds(2)).await;
    (1..few).for_each(|_| fleet.start());
    fleet.until("even", Fleet::is_even).await;
    (0..4 * shards).for_each(|key| drop(fleet.kinesis.put(&key.to_string(), "record")));
    sleep(seconds(120)).await;

    // A burst of starts.
    let before = fleet.calls("hand_over");
    let needed = shards - fleet.counts().values().sum::<usize>() * few / workers;
    for _ in few..workers {
        fleet.start();
        sleep(Duration::from_millis(
            fastrand::u64(..2000) / workers as u64,
        ))
        .await;
    }
    let burst = fleet.until("even", Fleet::is_even).await;
    sleep(seconds(120)).await;
    let moved = fleet.calls("hand_over") - before;

    fleet.units.lock().unwrap().clear();
    sleep(seconds(60 * MINUTES)).await;
    let units = std::mem::take(&mut *fleet.units.lock().unwrap());
    let minutes = MINUTES as f64;
    let a_minute: Units = units
        .iter()
        .map(|(operation, (read, written))| (*operation, (read / minutes, written / minutes)))
        .collect();
    let (read, written) = total(&a_minute);
    let (java_read, java_written) = kcl_2(workers, &fleet.table.leases());
    println!(
        "{workers} x {shards}: {read:.1} RRU, {written:.0} WRU a minute; KCL 2.x {java_read:.1}, \
         {java_written:.0}; burst of {} even in {burst:?}, {moved} hand-overs for {needed}; \
         {a_minute:.1?}",
        workers - few
    );

    let mut times = Times::default();
    if workers > 1 {
        for is_warden in [false, true] {
            times.kills.push(fleet.kill(is_warden).await.as_secs_f64());
            fleet.until("even", Fleet::is_even).await;
            sleep(Duration::from_millis(fastrand::u64(60_000..90_000))).await;
            fleet.start();
            times
                .joins
                .push(fleet.until("even", Fleet::is_even).await.as_secs_f64());
            sleep(Duration::from_millis(fastrand::u64(60_000..90_000))).await;
            times.stops.push(fleet.stop(is_warden).await.as_secs_f64());
            sleep(Duration::from_millis(fastrand::u64(60_000..90_000))).await;
            fleet.until("even", Fleet::is_even).await;
            fleet.start();
            times
                .joins
                .push(fleet.until("even", Fleet::is_even).await.as_secs_f64());
            sleep(Duration::from_millis(fastrand::u64(60_000..90_000))).await;
        }
    }
    println!("{workers} x {shards}: {times:.1?}");

    // A small table costs KCL less than it takes to see a death within the failover time.
    assert!(
        read <= java_read || (workers > 1 && shards < 64),
        "{read} RRU a minute"
    );
    assert!(written <= java_written, "{written} WRU a minute");
    if workers > 1 {
        assert!(
            moved as f64 <= 1.2 * needed as f64,
            "{moved} hand-overs for {needed}"
        );
        assert!(burst <= seconds(joins_in), "even in {burst:?}");
    }
    let within = |times: &[f64], most: f64| times.iter().all(|time| *time <= most);
    assert!(
        within(&times.kills, FAILOVER.as_secs_f64() + 1.5),
        "{times:?}"
    );
    assert!(within(&times.stops, 3.0), "{times:?}");
    assert!(within(&times.joins, joins_in as f64), "{times:?}");
}

fn simulate(workers: usize, shards: usize, joins_in: u64, seed: u64) {
    fastrand::seed(seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(measure(workers, shards, joins_in));
}

#[rstest]
#[case::one(1, 16)]
#[case::four(4, 64)]
#[case::ten(10, 100)]
#[case::fifty(50, 500)]
fn costs_no_more_than_kcl_2_and_moves_in_time(#[case] workers: usize, #[case] shards: usize) {
    simulate(workers, shards, 10, 7);
}

/// Another size, such as `FLEET=200x1000`, by so many `SEEDS`.
#[test]
fn a_fleet_of_the_size_that_is_asked_for() {
    let size = std::env::var("FLEET").unwrap_or_else(|_| "2x8".to_owned());
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (workers, shards) = size
        .split_once('x')
        .expect("workers x shards, such as 200x1000");
    let (workers, shards) = (number(workers), number(shards));
    let seeds = std::env::var("SEEDS").map_or(1, |seeds| number(&seeds).min(100));
    for seed in 0..seeds as u64 {
        simulate(workers, shards, if workers > 50 { 20 } else { 10 }, seed);
    }
}
