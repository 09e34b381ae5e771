//! Beside workers of KCL 3, whose leader says which worker holds which lease.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::{
    Checkpoint, Event,
    lease::Lease,
    test_util::{Kcl3State, LeaderLock, MemoryTable, Scan},
};
use tokio::{task::JoinHandle, time::sleep};

use super::world::{Answer, Told, What, World, checkpointing, config, seconds, shard};

fn held(world: &World, worker: &str) -> usize {
    let leases = world.table().leases();
    let held = leases.iter().filter(|lease| lease.holder() == Some(worker));
    held.count()
}

fn lost(told: &Told) -> bool {
    matches!(told.what, What::Event(Event::LeaseLost { .. }))
}

fn led(told: &Told) -> bool {
    matches!(told.what, What::Event(Event::Led { .. }))
}

fn unled(told: &Told) -> bool {
    matches!(told.what, What::Event(Event::Unled))
}

fn started(told: &Told) -> bool {
    matches!(told.what, What::Event(Event::ShardStarted { .. }))
}

async fn until_held(world: &World, worker: &str, count: usize) -> Duration {
    let began = world.now();
    while held(world, worker) != count {
        let leases = world.table().leases();
        assert!(world.now() - began < seconds(600), "{leases:#?}");
        sleep(Duration::from_millis(10)).await;
    }
    world.now() - began
}

fn state(version: &str, lock: Option<u32>) -> Kcl3State {
    Kcl3State {
        client_version: Some(version.into()),
        denied: None,
        leader: lock.map(|number| LeaderLock {
            owner: "java".into(),
            version: format!("version {number}"),
            lease_millis: 120_000,
        }),
    }
}

fn lock(number: u32) -> Kcl3State {
    state("CLIENT_VERSION_3X", Some(number))
}

/// A lease as a worker of KCL 3 that holds it leaves it.
fn javas(index: usize) -> Lease {
    Lease {
        owner: Some("java".into()),
        counter: 7,
        ..Lease::new(shard(index), Checkpoint::TrimHorizon)
    }
}

/// A worker of KCL 3 that leads, until dropped: it renews its leases and moves its lock.
pub(super) struct Java(JoinHandle<()>);

impl Drop for Java {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn java(table: &MemoryTable) -> Java {
    let table = table.clone();
    table.set_kcl3_state(lock(0));
    Java(tokio::spawn(async move {
        for beat in 1.. {
            sleep(seconds(3)).await;
            let leases = table.leases();
            let held = |lease: &&Lease| lease.holder() == Some("java");
            for lease in leases.iter().filter(held) {
                table.edit(lease.key.clone(), |lease| lease.counter += 1);
            }
            if beat % 10 == 0 {
                table.set_kcl3_state(lock(beat));
            }
        }
    }))
}

/// The leader gives a lease that nobody needs to stop for.
fn assign(world: &World, index: usize, to: &str) {
    let assigned = world.table().edit(shard(index), |lease| {
        lease.owner = Some(to.into());
        lease.checkpoint_owner = None;
        lease.counter += 1;
    });
    assert!(assigned);
}

/// The leader begins to move a lease that `from` holds.
fn begin_move(world: &World, index: usize, to: &str) {
    let begun = world.table().edit(shard(index), |lease| {
        lease.checkpoint_owner = lease.owner.replace(to.into());
    });
    assert!(begun);
}

#[tokio::test(start_paused = true)]
async fn a_leaders_worker_holds_what_it_is_given_and_nothing_else() {
    let world = World::new(3);
    world.table().put(javas(0));
    for index in [1, 2] {
        world
            .table()
            .put(Lease::new(shard(index), Checkpoint::TrimHorizon));
    }
    let _java = java(world.table());
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(200)).await;
    assert_eq!(held(&world, "a"), 0, "nobody gave it anything");
    let told = world.told();
    assert_eq!(told.iter().filter(|told| led(told)).count(), 1);
    assert!(world.table().reports().contains_key("a"), "it can be given");

    assign(&world, 1, "a");
    let given = world.now();
    let took = world.until("started", started).await - given;
    assert!(took < seconds(4), "{took:?}");
    sleep(seconds(100)).await;
    assert_eq!((held(&world, "a"), held(&world, "java")), (1, 1));
    let lease = world.table().lease(shard(1)).unwrap();
    assert!(lease.throughput.is_some(), "what the leader balances by");

    worker.stop().await.unwrap();
    assert_eq!(held(&world, "a"), 0);
    assert!(world.table().reports().is_empty(), "it is given no more");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_leader_moves_is_handed_over_at_a_checkpoint() {
    let world = World::new(1);
    let _java = java(world.table());
    world.table().put(Lease {
        owner: Some("a".into()),
        ..javas(0)
    });
    let worker = world.start(config("a"), checkpointing());
    world.put(0, 3);
    let delivered = |told: &Told| matches!(told.what, What::Delivered(..));
    world.until("delivered", delivered).await;
    begin_move(&world, 0, "java");
    assert_eq!(held(&world, "a"), 1, "until it gives it up");
    let took = until_held(&world, "java", 1).await;
    assert!(took < seconds(4), "within a renewal, not {took:?}");
    let lease = world.table().lease(shard(0)).unwrap();
    assert_eq!(lease.checkpoint_owner, None);
    let asked = |told: &Told| matches!(told.what, What::Called("shutdown_requested", _));
    assert_eq!(world.told().iter().filter(|told| asked(told)).count(), 1);
    assert!(!world.told().iter().any(lost), "it is a hand-over");
    assert!(matches!(lease.checkpoint, Checkpoint::At(_)));

    // And back. While Java has not stopped, it is Java's.
    begin_move(&world, 0, "a");
    sleep(seconds(20)).await;
    assert_eq!(held(&world, "java"), 1);
    assign(&world, 0, "a");
    world.put(0, 1);
    let both =
        |told: &Told| matches!(&told.what, What::Delivered(_, records) if records.len() == 1);
    world.until("delivered by us again", both).await;
    assert_eq!(world.delivered(0).len(), 4, "each once");
    worker.stop().await.unwrap();
}

/// Java's leader waits for 30 s and the failover time, then gives the lease away by force.
#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_in_a_move_leaves_the_lease_to_the_next_one() {
    let world = World::new(1);
    let _java = java(world.table());
    world.table().put(Lease {
        owner: Some("a".into()),
        ..javas(0)
    });
    let worker = world.start(config("a"), checkpointing());
    world.until("started", started).await;
    begin_move(&world, 0, "java");
    worker.stop().await.unwrap();
    let lease = world.table().lease(shard(0)).unwrap();
    assert_eq!(
        (lease.owner.as_deref(), lease.checkpoint_owner),
        (Some("java"), None)
    );
}

/// Its holder has not stopped yet.
#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_before_it_got_the_lease_leaves_it_to_its_holder() {
    let world = World::new(1);
    world.table().put(javas(0));
    let _java = java(world.table());
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(10)).await;
    begin_move(&world, 0, "a");
    sleep(seconds(10)).await;
    worker.stop().await.unwrap();
    assert_eq!(held(&world, "java"), 1);
}

/// The leader would give it what it has just released.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_last_batch_takes_long_is_given_nothing_more() {
    let world = World::new(1);
    let _java = java(world.table());
    world.table().put(Lease {
        owner: Some("a".into()),
        ..javas(0)
    });
    let slow: Answer = Arc::new(|_, _, _| {
        Box::pin(async {
            sleep(seconds(15)).await;
            Ok(())
        })
    });
    let worker = world.start(config("a"), slow);
    world.until("started", started).await;
    world.put(0, 1);
    sleep(seconds(2)).await;
    worker.stop().await.unwrap();
    assert!(world.table().reports().is_empty());
}

/// KCL 2.x does not read past it.
#[tokio::test(start_paused = true)]
async fn a_report_goes_when_nobody_asks_for_it_any_more() {
    let world = World::new(1);
    let java = java(world.table());
    let worker = world.start(config("a"), checkpointing());
    world.until("led", led).await;
    drop(java);
    world.table().set_kcl3_state(Kcl3State::default());
    world.until("on its own again", unled).await;
    sleep(seconds(6)).await;
    assert!(world.table().reports().is_empty());
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_workers_obey_a_leader_that_appears() {
    let world = World::new(4);
    let a = world.start(config("a"), checkpointing());
    let b = world.start(config("b"), checkpointing());
    until_held(&world, "b", 2).await;
    sleep(seconds(60)).await;
    let _java = java(world.table());
    let appeared = world.now();
    let both = || {
        let told = world.told();
        let led = told.iter().filter(|told| led(told));
        let by: std::collections::BTreeSet<_> = led.map(|told| told.worker.clone()).collect();
        by.len() == 2
    };
    while !both() {
        assert!(world.now() - appeared < seconds(62), "at the next look");
        sleep(seconds(1)).await;
    }
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_appears_finds_the_leases_where_they_are() {
    let world = World::new(2);
    let worker = world.start(config("a"), checkpointing());
    until_held(&world, "a", 2).await;
    let _java = java(world.table());
    world.until("led", led).await;
    sleep(seconds(100)).await;
    assert_eq!(held(&world, "a"), 2);
    assert!(!world.told().iter().any(lost));
    assert!(world.table().reports().contains_key("a"));
    begin_move(&world, 1, "java");
    until_held(&world, "java", 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaders_leases_go_on_after_a_failover_time() {
    let world = World::new(2);
    let java = java(world.table());
    for index in [0, 1] {
        world.table().put(javas(index));
    }
    let _worker = world.start(config("a"), checkpointing());
    sleep(seconds(65)).await;
    assert_eq!(held(&world, "a"), 0);
    drop(java);
    let took = until_held(&world, "a", 2).await;
    assert!((seconds(7)..seconds(15)).contains(&took), "{took:?}");
    assert_eq!(world.told().iter().filter(|told| unled(told)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_fleet_that_held_leases_delays_a_start_by_a_failover_time() {
    let world = World::new(1);
    world.table().set_kcl3_state(lock(0));
    world.table().put(javas(0));
    let a = world.start(config("a"), checkpointing());
    let took = until_held(&world, "a", 1).await;
    assert!(took < seconds(15), "{took:?}");
    // The lock is there for ever; who is at work has judged it.
    sleep(seconds(10)).await;
    let _b = world.start(config("b"), checkpointing());
    sleep(seconds(10)).await;
    let by_b = |told: &&Told| told.worker == "b" && led(told);
    assert!(world.told().iter().filter(by_b).count() <= 1);
    assert_eq!(world.told().iter().filter(|told| lost(told)).count(), 0);
    a.stop().await.unwrap();
    assert!(until_held(&world, "b", 1).await < seconds(5));
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_that_held_nothing_delays_a_start_by_35_seconds() {
    let world = World::new(1);
    world.table().set_kcl3_state(lock(0));
    let _worker = world.start(config("a"), checkpointing());
    let took = until_held(&world, "a", 1).await;
    assert!((seconds(35)..seconds(40)).contains(&took), "{took:?}");
}

/// One of them leads in the end, and gives the leases then.
#[tokio::test(start_paused = true)]
async fn nothing_is_stolen_from_workers_that_wait_for_a_leader() {
    let world = World::new(4);
    world.table().set_kcl3_state(lock(0));
    for index in 0..4 {
        world.table().put(javas(index));
    }
    let worker = world.start(config("a"), checkpointing());
    for _ in 0..100 {
        sleep(seconds(3)).await;
        for index in 0..3 {
            world.table().edit(shard(index), |lease| lease.counter += 1);
        }
    }
    assert_eq!(held(&world, "java"), 3);
    assert_eq!(held(&world, "a"), 1, "which nobody renewed");
    world.table().set_kcl3_state(lock(1));
    sleep(seconds(10)).await;
    assert_eq!(world.told().iter().filter(|told| led(told)).count(), 2);
    worker.stop().await.unwrap();
}

/// The leader of the upgrade waits until each worker that holds a lease reports itself.
#[tokio::test(start_paused = true)]
async fn an_upgrade_from_kcl_2_goes_through() {
    let world = World::new(2);
    let upgrading = state("CLIENT_VERSION_UPGRADE_FROM_2X", Some(0));
    world.table().set_kcl3_state(upgrading);
    let worker = world.start(config("a"), checkpointing());
    until_held(&world, "a", 2).await;
    let first = world.table().reports()["a"];
    sleep(seconds(60)).await;
    let age = world.table().reports()["a"].duration_since(first);
    assert!(age.as_secs() >= 30, "each half minute");
    let _java = java(world.table());
    world.until("led", led).await;
    assert_eq!(held(&world, "a"), 2);
    // As KclMigrationTool.py rolls it back.
    drop(_java);
    world
        .table()
        .set_kcl3_state(state("CLIENT_VERSION_2X", Some(1)));
    world.until("on its own again", unled).await;
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn kcl_2_alone_is_told_nothing() {
    let world = World::new(1);
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(200)).await;
    assert!(world.table().reports().is_empty());
    worker.stop().await.unwrap();
}

fn denied() -> Kcl3State {
    Kcl3State {
        denied: Some("table app-CoordinatorState: BatchGetItem: denied".into()),
        ..Kcl3State::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_be_asked_for_stops_nobody_unless_kcl_3_is_there() {
    let world = World::new(1);
    world.table().set_kcl3_state(denied());
    let worker = world.start(config("a"), checkpointing());
    until_held(&world, "a", 1).await;
    sleep(seconds(300)).await;
    let warned = |told: &&Told| matches!(told.what, What::Event(Event::LeaderUnknown { .. }));
    assert_eq!(world.told().iter().filter(warned).count(), 1);
    worker.stop().await.unwrap();

    let world = World::new(1);
    world.table().set_kcl3_state(denied());
    world.table().put(javas(0));
    world.table().set_oddities(Scan {
        shows_kcl3: true,
        ..Scan::default()
    });
    let error = world.start(config("a"), checkpointing()).error().await;
    let told = error.to_string();
    assert!(
        told.contains("app-CoordinatorState") && told.contains("BatchGetItem"),
        "{told}"
    );
    assert_eq!(world.table().leases(), [javas(0)], "untouched");
}
