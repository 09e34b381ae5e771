//! Leases dealt by load: the neighbours of a hot shard go, all comes to rest, and beside workers
//! that count all count.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kinesis_consumer::{Config, Placement, lease::Lease};
use rstest::rstest;
use tokio::{sync::Semaphore, time::sleep};

use super::world::{Answer, Running, World, config, shard};

/// What a record costs: a core does a hundred a second.
const WORK: Duration = Duration::from_millis(10);

/// A processor on one core of its own, for which a record is so much work.
fn on_a_core(work: Duration) -> Answer {
    let core = Arc::new(Semaphore::new(1));
    Arc::new(move |_, ordinals, checkpointer| {
        let core = Arc::clone(&core);
        Box::pin(async move {
            for _ in ordinals {
                let _core = core.acquire().await?;
                sleep(work).await;
            }
            Ok(checkpointer.checkpoint().await?)
        })
    })
}

fn by(placement: Placement, worker: &str) -> Config {
    let mut config = config(worker);
    config.placement = placement;
    config.parallelism = 1;
    config
}

fn start(world: &World, placement: Placement, worker: &str) -> Running {
    world.start(by(placement, worker), on_a_core(WORK))
}

/// So many seconds with these records a second to each shard.
async fn load(world: &World, seconds: u64, records: &[usize]) {
    for _ in 0..seconds {
        for (index, records) in records.iter().enumerate() {
            world.put(index, *records);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn held(world: &World) -> BTreeMap<String, Vec<Lease>> {
    let mut held = BTreeMap::<String, Vec<Lease>>::new();
    for lease in world.table().leases() {
        let owner = lease.owner.clone().unwrap_or_default();
        held.entry(owner).or_default().push(lease);
    }
    held
}

/// How many leases each worker holds, fewest first.
fn counts(world: &World) -> Vec<usize> {
    let mut counts: Vec<_> = held(world).values().map(Vec::len).collect();
    counts.sort_unstable();
    counts
}

fn handed_over(world: &World) -> u64 {
    let calls = world.table().calls();
    calls.get("hand_over").copied().unwrap_or(0)
}

fn scans_of(world: &World) -> u64 {
    let calls = world.table().calls();
    calls.get("scan").copied().unwrap_or(0)
}

const HOT: [usize; 6] = [70, 10, 10, 10, 10, 10];

#[tokio::test(start_paused = true)]
async fn a_hot_shards_neighbours_go_and_then_nothing_moves() {
    let world = World::new(HOT.len());
    let _a = start(&world, Placement::Load, "a");
    load(&world, 20, &[2; 6]).await;
    let _b = start(&world, Placement::Load, "b");
    load(&world, 60, &[2; 6]).await;
    assert_eq!(counts(&world), [3, 3], "nobody has much to do: by number");
    load(&world, 180, &HOT).await;
    assert_eq!(counts(&world), [1, 5], "{:?}", held(&world));
    let with_hot = held(&world);
    let with_hot = with_hot.values().find(|leases| leases.len() == 1);
    let key = with_hot.map(|leases| leases[0].key.clone());
    assert_eq!(key, Some(shard(0).into()), "{:?}", held(&world));
    let (before, scans) = (handed_over(&world), scans_of(&world));
    load(&world, 900, &HOT).await;
    assert_eq!(handed_over(&world), before, "it has come to rest");
    // The warden's, each 40 s, and the other's, each two minutes: who has one lease only, and all
    // of its time taken, looks for no other.
    let scans = scans_of(&world) - scans;
    assert!(scans <= 900 / 40 + 900 / 95 + 2, "{scans} scans");
    // The load of each is what its leases say.
    for (worker, leases) in held(&world) {
        let shares = leases.iter().filter_map(|lease| lease.share_permille);
        let load = shares.map(f64::from).sum::<f64>() / 1000.0;
        let want = if leases.len() == 1 { 0.7 } else { 0.5 };
        assert!((load - want).abs() < 0.1, "{worker}: {load}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_gets_its_part_of_the_load_and_who_leaves_leaves_it_to_the_least_busy() {
    let world = World::new(HOT.len());
    let _a = start(&world, Placement::Load, "a");
    let _b = start(&world, Placement::Load, "b");
    load(&world, 240, &HOT).await;
    assert_eq!(counts(&world), [1, 5]);
    let joined = start(&world, Placement::Load, "c");
    load(&world, 30, &HOT).await;
    // Of the five that go with each other, some, and the hot one stays alone.
    assert!(
        matches!(counts(&world)[..], [1, 2, 3]),
        "{:?}",
        held(&world)
    );
    joined.stop().await.expect("ended");
    load(&world, 120, &HOT).await;
    assert_eq!(counts(&world), [1, 5], "{:?}", held(&world));
}

#[tokio::test(start_paused = true)]
async fn by_default_the_number_counts_and_nothing_is_written_for_the_load() {
    let world = World::new(HOT.len());
    let _a = start(&world, Placement::Number, "a");
    let _b = start(&world, Placement::Number, "b");
    load(&world, 240, &HOT).await;
    assert_eq!(counts(&world), [3, 3]);
    for lease in world.table().leases() {
        assert_eq!((lease.share_permille, lease.throughput), (None, None));
    }
}

/// Whatever the loads are: the leases come to rest, none goes to and fro, and hand-overs lose and
/// repeat nothing.
#[rstest]
#[tokio::test(start_paused = true)]
async fn it_comes_to_rest_and_costs_no_record(
    #[values(1, 2, 3, 4, 5)] seed: u64,
    #[values(Noise::None, Noise::AFifth)] noise: Noise,
) {
    fastrand::seed(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (workers, shards) = (rng.usize(2..=4), rng.usize(6..=12));
    let world = World::new(shards);
    // Three fifths of each worker's time, some shards with far more than others.
    let weights: Vec<_> = (0..shards).map(|_| 20_f64.powf(rng.f64())).collect();
    let scale = 12.0 * workers as f64 / weights.iter().sum::<f64>();
    let mut running = Vec::new();
    for worker in 0..workers {
        let config = by(Placement::Load, &format!("w{worker}"));
        running.push(world.start(config, on_a_core(5 * WORK)));
        sleep(Duration::from_secs(rng.u64(0..20))).await;
    }
    let (mut put, mut due) = (vec![0; shards], vec![0.0; shards]);
    let mut last: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let (mut moves, mut hasty) = (Vec::new(), Vec::new());
    for second in 0..1800 {
        for shard in 0..shards {
            let noise = match noise {
                Noise::None => 1.0,
                Noise::AFifth => 0.8 + 0.4 * rng.f64(),
            };
            due[shard] += weights[shard] * scale * noise;
            let records = due[shard] as usize;
            due[shard] -= records as f64;
            put[shard] += records as u64;
            world.put(shard, records);
        }
        sleep(Duration::from_secs(1)).await;
        for lease in world.table().leases() {
            let (key, owner) = (lease.key.to_string(), lease.owner.unwrap_or_default());
            let before = last.get(&key).cloned();
            if let Some((holder, moved)) = before.filter(|(holder, _)| *holder != owner) {
                moves.push(second);
                // After the joins, and their own moves.
                if second > 180 && moved > 100 && second - moved < 290 {
                    hasty.push(format!("{second}: {key} from {holder} to {owner}"));
                }
                last.insert(key, (owner, second));
            } else {
                last.entry(key).or_insert((owner, second));
            }
        }
    }
    assert!(hasty.is_empty(), "{hasty:?}");
    // What is measured swings, also under a steady load: that may move one in ten minutes.
    let late = moves.iter().filter(|second| **second >= 1200).count();
    assert!(late <= 1, "{moves:?}");
    // As near to the mean as the lightest lease allows, or with one lease that nobody can help.
    let cost = |lease: &Lease| {
        let key = (0..shards).find(|index| lease.key == shard(*index).into());
        weights[key.unwrap()] * scale * 50.0
    };
    for (worker, leases) in held(&world) {
        let load: f64 = leases.iter().map(cost).sum();
        let least = leases.iter().map(cost).fold(f64::MAX, f64::min);
        let most = 600.0 + f64::max(150.0, 1.5 * least) + 80.0;
        assert!(
            load <= most || leases.len() == 1,
            "{worker}: {load}, not {most}"
        );
    }
    for worker in running {
        worker.stop().await.expect("ended");
    }
    for (shard, put) in put.into_iter().enumerate() {
        let delivered = world.delivered(shard);
        let want: Vec<_> = (0..delivered.len() as u64).collect();
        assert_eq!(delivered, want, "{shard}: in order, each once");
        // What came while all went is left.
        assert!(delivered.len() as u64 + 200 > put, "{shard}: {put}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Noise {
    None,
    AFifth,
}

/// One that deals by number, be it of an earlier version or Java's, would ask back or steal back
/// what went by load.
#[tokio::test(start_paused = true)]
async fn while_one_counts_all_count() {
    let world = World::new(HOT.len());
    let _a = start(&world, Placement::Load, "a");
    load(&world, 20, &HOT).await;
    let _b = start(&world, Placement::Number, "b");
    load(&world, 400, &HOT).await;
    assert_eq!(counts(&world), [3, 3]);
    assert_eq!(handed_over(&world), 3);
}

/// Of an earlier version: it joins a fleet that deals by load.
#[tokio::test(start_paused = true)]
async fn who_counts_and_joins_makes_all_count_until_it_goes() {
    let world = World::new(HOT.len());
    let _a = start(&world, Placement::Load, "a");
    let _b = start(&world, Placement::Load, "b");
    load(&world, 240, &HOT).await;
    assert_eq!(counts(&world), [1, 5]);
    let old = start(&world, Placement::Number, "old");
    load(&world, 120, &HOT).await;
    assert_eq!(counts(&world), [2, 2, 2], "{:?}", held(&world));
    let before = handed_over(&world);
    load(&world, 600, &HOT).await;
    assert_eq!(handed_over(&world), before, "all count");
    old.stop().await.expect("ended");
    load(&world, 300, &HOT).await;
    assert_eq!(counts(&world), [1, 5], "{:?}", held(&world));
}

#[tokio::test(start_paused = true)]
async fn beside_java_all_count() {
    let world = World::new(HOT.len());
    let _a = start(&world, Placement::Load, "a");
    load(&world, 20, &HOT).await;
    let _b = start(&world, Placement::Load, "b");
    load(&world, 90, &[1; 6]).await;
    assert_eq!(counts(&world), [3, 3], "{:?}", held(&world));
    // A Java worker steals one lease, and renews it.
    let table = world.table().clone();
    let (before, stolen) = (handed_over(&world), shard(5));
    for second in 0..400 {
        table.edit(stolen.clone(), |lease| {
            lease.owner = Some("java".to_owned());
            lease.counter += u64::from(second % 3 == 0);
        });
        load(&world, 1, &HOT).await;
    }
    let counts = counts(&world);
    assert!(
        counts.iter().all(|count| (1..=3).contains(count)),
        "{:?}",
        held(&world)
    );
    assert_eq!(handed_over(&world), before, "{counts:?}");
}
