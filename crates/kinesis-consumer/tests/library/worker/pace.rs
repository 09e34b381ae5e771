//! Workers of different paces, with each other and beside KCL 2.x.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kinesis_consumer::{
    Config, Event, Pace,
    test_util::{Fault, MemoryTable},
};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use super::{
    kcl2::kcl2,
    kcl3::java,
    world::{Running, Told, What, World, checkpointing, config, seconds, shard},
};

/// A process of its own, whose calls take up to 200 ms.
fn start(world: &World, worker: &str, pace: Pace) -> Running {
    let mut config = config(worker);
    config.pace = pace;
    start_with(world, config)
}

fn start_with(world: &World, config: Config) -> Running {
    let table = world.table().with_faults(|_| {
        let way = Duration::from_millis(fastrand::u64(0..100));
        Fault {
            before: way,
            after: way,
            ..Fault::default()
        }
    });
    world.start_on(config, table, checkpointing())
}

fn held(table: &MemoryTable) -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    let leases = table.leases().into_iter();
    let taken = leases.filter(|lease| lease.native_process.is_some());
    for owner in taken.filter_map(|lease| lease.owner) {
        *held.entry(owner).or_default() += 1;
    }
    held
}

async fn until_held(world: &World, want: &[(&str, usize)]) -> Duration {
    let began = Instant::now();
    let want = want
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    let want: BTreeMap<_, _> = want.collect();
    while held(world.table()) != want {
        assert!(began.elapsed() < seconds(300), "{:?}", held(world.table()));
        sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

fn lost(world: &World) -> Vec<Told> {
    let mut told = world.told();
    told.retain(|told| matches!(told.what, What::Event(Event::LeaseLost { .. })));
    told
}

/// The longest time within that long in which no write moved a lease of `owner`.
async fn longest_stand(table: &MemoryTable, owner: &str, watched: Duration) -> Duration {
    let (mut seen, mut longest) = (BTreeMap::new(), Duration::ZERO);
    let began = Instant::now();
    while began.elapsed() < watched {
        let now = Instant::now();
        for lease in table.leases() {
            if lease.owner.as_deref() != Some(owner) {
                seen.remove(&lease.key);
                continue;
            }
            let (counter, since) = seen.entry(lease.key).or_insert((lease.counter, now));
            if *counter != lease.counter {
                (*counter, *since) = (lease.counter, now);
            }
            longest = longest.max(now - *since);
        }
        sleep(Duration::from_millis(20)).await;
    }
    longest
}

/// Each lease says how long its holder may be silent, and all heed that: nobody takes the lease of
/// a worker that lives, and whoever dies is missed after its own time.
#[rstest]
#[case::thrifty("thrifty", 25)]
#[case::balanced("balanced", 10)]
#[case::fast("fast", 5)]
#[tokio::test(start_paused = true)]
async fn workers_of_all_paces_share_an_application(#[case] dies: &str, #[case] after: u64) {
    for seed in 0..8 {
        fastrand::seed(seed);
        let world = World::new(12);
        let mut running = BTreeMap::new();
        for pace in Pace::ALL {
            running.insert(pace.to_string(), start(&world, &pace.to_string(), pace));
            sleep(seconds(fastrand::u64(0..20))).await;
        }
        let all = [("thrifty", 4), ("balanced", 4), ("fast", 4)];
        until_held(&world, &all).await;
        sleep(seconds(600)).await;
        until_held(&world, &all).await;
        assert!(lost(&world).is_empty(), "{:#?}", lost(&world));
        running.remove(dies).unwrap().kill().await;
        let killed = Instant::now();
        while held(world.table()).contains_key(dies) {
            sleep(Duration::from_millis(20)).await;
        }
        let took = killed.elapsed();
        // Its last renewal was 35 % of the time ago at the most.
        let soonest = seconds(after).mul_f64(0.6);
        let want = soonest..seconds(after) + Duration::from_millis(2500);
        assert!(want.contains(&took), "{seed}: {took:?}");
        let left = all.iter().filter(|(name, _)| *name != dies);
        let left: Vec<_> = left.map(|(name, _)| (*name, 6)).collect();
        until_held(&world, &left).await;
        assert!(lost(&world).is_empty(), "{:#?}", lost(&world));
    }
}

/// Almost all that a worker costs.
#[rstest]
#[case::thrifty(Pace::Thrifty, 8750)]
#[case::balanced(Pace::Balanced, 3500)]
#[case::fast(Pace::Fast, 1750)]
#[tokio::test(start_paused = true)]
async fn the_pace_says_how_often_leases_are_written(#[case] pace: Pace, #[case] millis: u64) {
    let world = World::new(4);
    let mut config = config("a");
    config.pace = pace;
    let _worker = world.start(config, checkpointing());
    sleep(seconds(60)).await;
    let renewals = || world.table().calls().get("renew").copied().unwrap_or(0);
    let before = renewals();
    sleep(seconds(700)).await;
    assert_eq!(renewals() - before, 4 * 700_000 / millis);
}

/// KCL, and a worker of an earlier version, look for a write within 10 s: each is there in time,
/// also before anybody knows of them.
#[tokio::test(start_paused = true)]
async fn a_thrifty_worker_writes_as_often_as_kcl_expects() {
    let world = World::new(6);
    let _worker = start(&world, "a", Pace::Thrifty);
    until_held(&world, &[("a", 6)]).await;
    let longest = longest_stand(world.table(), "a", seconds(600)).await;
    assert!((seconds(8)..seconds(10)).contains(&longest), "{longest:?}");
}

/// It does not heed what leases say, so they are renewed as it expects while it holds some.
#[tokio::test(start_paused = true)]
async fn beside_kcl_2_a_thrifty_worker_keeps_its_pace() {
    let world = World::new(8);
    let _worker = start(&world, "a", Pace::Thrifty);
    until_held(&world, &[("a", 8)]).await;
    sleep(seconds(60)).await;
    let java = kcl2(world.table(), "java");
    let of_java = || {
        let leases = world.table().leases().into_iter();
        leases
            .filter(|lease| lease.owner.as_deref() == Some("java"))
            .count()
    };
    let began = Instant::now();
    while of_java() < 4 {
        assert!(began.elapsed() < seconds(300), "{} of 8", of_java());
        sleep(seconds(1)).await;
    }
    sleep(seconds(30)).await;
    let longest = longest_stand(world.table(), "a", seconds(300)).await;
    assert!(longest < seconds(4), "{longest:?}");
    let stolen = lost(&world).len();
    assert_eq!((of_java(), stolen), (4, 4), "none was taken for free");

    java.abort();
    until_held(&world, &[("a", 8)]).await;
    sleep(seconds(30)).await;
    let longest = longest_stand(world.table(), "a", seconds(300)).await;
    assert!(
        longest > seconds(8),
        "{longest:?}: nobody is left who does not heed"
    );
}

/// What is set wins, and is what the lease says.
#[tokio::test(start_paused = true)]
async fn a_failover_time_that_is_set_is_what_leases_say() {
    let world = World::new(1);
    let mut config = config("a");
    config.failover_time = Some(seconds(20));
    config.pace = Pace::Fast;
    let _worker = start_with(&world, config);
    until_held(&world, &[("a", 1)]).await;
    let lease = world.table().lease(shard(0)).unwrap();
    assert_eq!(lease.failover_millis, Some(20_000));
    let longest = longest_stand(world.table(), "a", seconds(60)).await;
    assert!((seconds(6)..seconds(8)).contains(&longest), "{longest:?}");
}

/// A lease says for how long its holder may be silent: until then it is no sign of a dead leader.
#[tokio::test(start_paused = true)]
async fn a_leader_without_leases_lives_while_a_thrifty_worker_may_be_silent() {
    let world = World::new(1);
    let mut thrifty = config("thrifty");
    thrifty.pace = Pace::Thrifty;
    let calls = AtomicU64::new(0);
    let table = world.table().with_faults(move |call| match call.operation {
        // Each second one is late, by as much as a call may take.
        "renew" if calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => Fault {
            before: seconds(5),
            ..Fault::default()
        },
        _ => Fault::default(),
    });
    let _holder = world.start_on(thrifty, table, checkpointing());
    sleep(seconds(5)).await;
    // It has no lease, and hears of the leader almost a minute before the other one does.
    let _spare = world.start(config("a"), checkpointing());
    sleep(seconds(57)).await;
    let _java = java(world.table());
    sleep(seconds(300)).await;
    assert_eq!(held(world.table()), BTreeMap::from([("thrifty".into(), 1)]));
    let count = |what: fn(&Event) -> bool| {
        let is_it = |told: &&Told| matches!(&told.what, What::Event(event) if what(event));
        world.told().iter().filter(is_it).count()
    };
    assert_eq!(count(|event| matches!(event, Event::Unled)), 0);
    assert_eq!(count(|event| matches!(event, Event::Led { .. })), 2);
}
