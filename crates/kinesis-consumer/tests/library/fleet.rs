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

mod lights;
mod network;
mod running;
mod units;

use std::{fmt, time::Duration};

use kinesis_consumer::{Pace, Placement};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use network::Network;
pub(crate) use running::Fleet;
pub(crate) use units::{half_units, java_bytes, kcl_2, total};

use units::Units;

const FAILOVER: Duration = Duration::from_secs(10);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A fleet that is measured.
#[derive(Clone, Copy, Debug)]
struct Trial {
    workers: usize,
    shards: usize,
    network: Network,
    placement: Placement,
    seed: u64,
    length: Length,
}

/// How much of a trial is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Length {
    /// What two minutes cost; then the warden dies, and the next one stops.
    Brief,
    /// What eight minutes cost; then another worker dies and stops, too.
    Whole,
}

#[expect(clippy::print_stdout, reason = "docs/cost.md has what it prints")]
impl Trial {
    /// How soon all hold as many leases after workers started.
    fn joins_in(self) -> Duration {
        seconds(if self.workers > 50 { 20 } else { 10 })
    }

    fn run(self) {
        fastrand::seed(self.seed);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        // Outside of the runtime, whose clock stands: this machine's.
        let began = Instant::now();
        runtime.block_on(self.measure());
        println!("{self}: simulated in {:.1?}", began.elapsed());
    }

    async fn measure(self) {
        let fleet = Fleet::new(self.shards, Pace::Balanced, seconds(60));
        let mut fleet = fleet.over(self.network);
        fleet.placement = self.placement;
        let few = (self.workers / 5).max(1);
        fleet.start();
        sleep(seconds(2)).await;
        (1..few).for_each(|_| fleet.start());
        fleet.until("even", Fleet::is_even).await;
        (0..4 * self.shards).for_each(|key| drop(fleet.kinesis.put(&key.to_string(), "record")));
        sleep(seconds(120)).await;

        let burst = self.burst(&mut fleet, few).await;
        let (read, written) = self.units(&fleet).await;
        let times = if self.workers > 1 {
            self.moves(&mut fleet).await
        } else {
            Times::default()
        };
        let dark = fleet.lights.longest_dark();
        println!("{self}: {times:.1?}, a shard without a worker for {dark:.1?} at the most");

        // A small table costs KCL less than it takes to see a death within the failover time.
        let (java_read, java_written) = kcl_2(self.workers, &fleet.table.leases());
        assert!(
            read <= java_read || (self.workers > 1 && self.shards < 64),
            "{read} RRU a minute"
        );
        assert!(written <= java_written, "{written} WRU a minute");
        assert!(dark <= FAILOVER + seconds(3), "dark for {dark:?}");
        if self.network == Network::Calm {
            let within = |times: &[Duration], most| times.iter().all(|time| *time <= most);
            assert!(
                within(&times.kills, FAILOVER + Duration::from_millis(1500)),
                "{times:?}"
            );
            assert!(within(&times.stops, seconds(3)), "{times:?}");
            assert!(within(&times.joins, self.joins_in()), "{times:?}");
            assert!(burst <= self.joins_in(), "even in {burst:?}");
        }
    }

    /// A burst of starts: how long until all hold as many leases.
    async fn burst(self, fleet: &mut Fleet, few: usize) -> Duration {
        let before = fleet.lights.starts();
        let kept = fleet.counts().values().sum::<usize>() * few / self.workers;
        let needed = self.shards - kept;
        for _ in few..self.workers {
            fleet.start();
            let pause = fastrand::u64(..2000) / self.workers as u64;
            sleep(Duration::from_millis(pause)).await;
        }
        let burst = fleet.until("even", Fleet::is_even).await;
        sleep(seconds(120)).await;
        let moved = fleet.lights.starts() - before;
        println!(
            "{self}: burst of {} even in {burst:.1?}, {moved} moves for {needed}",
            self.workers - few
        );
        assert!(
            self.workers == 1 || moved as f64 <= 1.2 * needed as f64,
            "{moved} moves for {needed}"
        );
        burst
    }

    /// Units read and written a minute while nothing moves.
    async fn units(self, fleet: &Fleet) -> (f64, f64) {
        fleet.units.lock().unwrap().clear();
        let minutes = match self.length {
            Length::Brief => 2,
            Length::Whole => 8,
        };
        sleep(seconds(60 * minutes)).await;
        let units = std::mem::take(&mut *fleet.units.lock().unwrap());
        let minutes = minutes as f64;
        let a_minute =
            |(operation, (read, written))| (operation, (read / minutes, written / minutes));
        let a_minute: Units = units.into_iter().map(a_minute).collect();
        let (read, written) = total(&a_minute);
        let (java_read, java_written) = kcl_2(self.workers, &fleet.table.leases());
        println!(
            "{self}: {read:.1} RRU, {written:.0} WRU a minute; KCL 2.x {java_read:.1}, \
             {java_written:.0}; {a_minute:.1?}"
        );
        (read, written)
    }

    /// Workers are killed, stopped and started: the warden, and another one.
    async fn moves(self, fleet: &mut Fleet) -> Times {
        let rest = || sleep(Duration::from_millis(fastrand::u64(60_000..90_000)));
        let mut times = Times::default();
        let workers = match self.length {
            Length::Brief => &[true][..],
            Length::Whole => &[false, true],
        };
        for &is_warden in workers {
            times.kills.push(fleet.kill(is_warden).await);
            fleet.until("even", Fleet::is_even).await;
            rest().await;
            fleet.start();
            times.joins.push(fleet.until("even", Fleet::is_even).await);
            rest().await;
            times.stops.push(fleet.stop(is_warden).await);
            rest().await;
            fleet.until("even", Fleet::is_even).await;
            fleet.start();
            times.joins.push(fleet.until("even", Fleet::is_even).await);
            rest().await;
        }
        times
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workers,
            shards,
            network,
            placement,
            seed,
            length: _,
        } = self;
        write!(
            f,
            "{workers} x {shards}, {network:?}, by {placement}, seed {seed}"
        )
    }
}

#[derive(Debug, Default)]
struct Times {
    kills: Vec<Duration>,
    stops: Vec<Duration>,
    joins: Vec<Duration>,
}

/// Seeds of which some took long before it was looked on until all have as many.
#[rstest]
#[case::one(1, 16, 7)]
#[case::four(4, 64, 7)]
#[case::ten(10, 100, 7)]
#[case::fifty(50, 500, 0)]
#[case::fifty_again(50, 500, 5)]
fn costs_no_more_than_kcl_2_and_moves_in_time(
    #[case] workers: usize,
    #[case] shards: usize,
    #[case] seed: u64,
) {
    Trial {
        workers,
        shards,
        network: Network::Calm,
        placement: Placement::Number,
        seed,
        length: Length::Whole,
    }
    .run();
}

/// Where nobody has anything to do the number counts, as soon and at no more reads.
#[rstest]
#[case::four(4, 64)]
#[case::ten(10, 100)]
fn costs_as_much_and_moves_as_soon_by_load(#[case] workers: usize, #[case] shards: usize) {
    Trial {
        workers,
        shards,
        network: Network::Calm,
        placement: Placement::Load,
        seed: 7,
        length: Length::Whole,
    }
    .run();
}

/// Beyond it, nobody is held to a time until all have as many leases.
#[test]
fn a_network_in_trouble_leaves_no_shard_in_the_dark() {
    Trial {
        workers: 50,
        shards: 500,
        network: Network::Troubled,
        placement: Placement::Number,
        seed: 7,
        length: Length::Whole,
    }
    .run();
}

/// As large as the largest known. `.ci/long sizes` makes the whole of it, by more seeds.
#[rstest]
#[case::over_a_calm_network(Network::Calm, 0)]
#[case::over_a_network_in_trouble(Network::Troubled, 1)]
fn two_hundred_workers_share_a_thousand_shards(#[case] network: Network, #[case] seed: u64) {
    Trial {
        workers: 200,
        shards: 1_000,
        network,
        placement: Placement::Number,
        seed,
        length: Length::Brief,
    }
    .run();
}

/// Another size, such as `FLEET=200x1000`, by so many `SEEDS` from `SEED` on; over a
/// calm network, or with `NETWORK=troubled` or `NETWORK=both`; perhaps with
/// `PLACEMENT=load`.
#[test]
fn a_fleet_of_the_size_that_is_asked_for() {
    let asked =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let size = asked("FLEET", "2x8");
    let (workers, shards) = size
        .split_once('x')
        .expect("workers x shards, such as 200x1000");
    let (workers, shards) = (number(workers), number(shards));
    let networks = match asked("NETWORK", "calm").as_str() {
        "both" => vec![Network::Calm, Network::Troubled],
        "calm" => vec![Network::Calm],
        "troubled" => vec![Network::Troubled],
        other => panic!("NETWORK={other}: want calm, troubled or both"),
    };
    let placement = asked("PLACEMENT", "number");
    let placement = placement.parse().expect("number or load");
    let first = number(&asked("SEED", "0")) as u64;
    for seed in first..first + number(&asked("SEEDS", "1")).min(100) as u64 {
        for network in &networks {
            Trial {
                workers,
                shards,
                network: *network,
                placement,
                seed,
                length: Length::Whole,
            }
            .run();
        }
    }
}
