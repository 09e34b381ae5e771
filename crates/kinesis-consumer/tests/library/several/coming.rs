//! Streams that come and go.

use std::time::Duration;

use kinesis_consumer::{Event, InitialPosition, KinesisError, Streams, test_util::MemoryKinesis};
use tokio::time::sleep;

use super::world::{Fragile, World, config};

#[tokio::test(start_paused = true)]
async fn a_pattern_s_streams_are_read_those_that_come_too_and_no_others() {
    let world = World::default();
    let (a, b, other) = (
        MemoryKinesis::new(1),
        MemoryKinesis::new(2),
        MemoryKinesis::new(1),
    );
    let id_of_a = world.account.put("orders-a", 100, a.clone());
    let id_of_b = world.account.put("orders-b", 200, b.clone());
    let id_of_other = world.account.put("payments", 300, other.clone());
    a.put("1", "a1");
    b.put("1", "b1");
    other.put("1", "p1");
    let worker = world.start(config(Streams::of(["orders-*"]), "worker-1"));
    world
        .until("both read", |world| {
            world.delivered(&id_of_a) == ["a1"] && world.delivered(&id_of_b) == ["b1"]
        })
        .await;
    let keys: Vec<_> = world.table.leases().into_iter().map(|it| it.key).collect();
    assert_eq!(
        keys,
        [
            World::key(&id_of_a, 0),
            World::key(&id_of_b, 0),
            World::key(&id_of_b, 1)
        ]
    );
    assert_eq!(
        keys[0].to_string(),
        "123456789012:orders-a:100:shardId-000000000000"
    );

    let c = MemoryKinesis::new(1);
    c.put("1", "c1");
    let id_of_c = world.account.put("orders-c", 400, c);
    world
        .until("the new one read", |world| {
            world.delivered(&id_of_c) == ["c1"]
        })
        .await;
    assert!(world.delivered(&id_of_other).is_empty());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_goes_on_where_it_stood() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let id_of_a = world.account.put("a", 100, a.clone());
    let id_of_b = world.account.put("b", 200, b.clone());
    let worker = world.start(config(Streams::of(["a", "b", "*"]), "worker-1"));
    a.put("1", "a1");
    b.put("1", "b1");
    world
        .until("both read", |world| {
            world.delivered(&id_of_a) == ["a1"] && world.delivered(&id_of_b) == ["b1"]
        })
        .await;
    let checkpoint = |world: &World| {
        let lease = world.table.lease(World::key(&id_of_b, 0)).unwrap();
        lease.checkpoint.to_string()
    };
    world
        .until("checkpointed", |world| checkpoint(world) != "TRIM_HORIZON")
        .await;

    world.account.delete("b");
    world
        .until("it is given up", |world| world.owner(&id_of_b, 0).is_none())
        .await;
    assert!(
        world.has_told(
            |event| matches!(event, Event::StreamRemoved { stream } if *stream == id_of_b)
        )
    );
    b.put("1", "b2");
    a.put("1", "a2");
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.delivered(&id_of_a), ["a1", "a2"]);
    assert_eq!(world.delivered(&id_of_b), ["b1"]);

    world.account.put("b", 200, b.clone());
    world
        .until("it goes on", |world| {
            world.delivered(&id_of_b) == ["b1", "b2"]
        })
        .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leases_of_a_stream_that_went_are_deleted_when_told_and_nobody_touches_them() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let id_of_a = world.account.put("a", 100, a.clone());
    let id_of_b = world.account.put("b", 200, b.clone());
    let mut streams = Streams::of(["*"]);
    streams.delete_leases_after = Some(Duration::from_secs(3600));
    let worker = world.start(config(streams, "worker-1"));
    world
        .until("both held", |world| {
            world.owner(&id_of_a, 0).is_some() && world.owner(&id_of_b, 0).is_some()
        })
        .await;
    world.account.delete("b");
    sleep(Duration::from_secs(3600)).await;
    assert!(
        world.table.lease(World::key(&id_of_b, 0)).is_some(),
        "too early"
    );
    world
        .until("deleted", |world| {
            world.table.lease(World::key(&id_of_b, 0)).is_none()
        })
        .await;
    sleep(Duration::from_secs(600)).await;
    assert!(
        world.table.lease(World::key(&id_of_b, 0)).is_none(),
        "nobody puts it back"
    );
    assert!(!world.has_told(|event| matches!(event, Event::LeasesPutBack { .. })));
    assert!(world.owner(&id_of_a, 0).is_some());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_is_another_one() {
    let world = World::default();
    let old = MemoryKinesis::new(1);
    let id_of_old = world.account.put("orders", 100, old.clone());
    let worker = world.start(config(Streams::of(["orders"]), "worker-1"));
    old.put("1", "old");
    world
        .until("the old one read", |world| {
            world.delivered(&id_of_old) == ["old"]
        })
        .await;

    let new = MemoryKinesis::new(2);
    let id_of_new = world.account.put("orders", 200, new.clone());
    new.put("1", "new");
    // Nothing shows it but another description.
    world
        .until("the new one read", |world| {
            world.delivered(&id_of_new) == ["new"]
        })
        .await;
    world
        .until("the old one given up", |world| {
            world.owner(&id_of_old, 0).is_none()
        })
        .await;
    let lease = world.table.lease(World::key(&id_of_old, 0)).unwrap();
    assert_ne!(lease.checkpoint.to_string(), "TRIM_HORIZON");
    assert!(world.has_told(
        |event| matches!(event, Event::StartedAnew { stream, .. } if *stream == Some(id_of_new.clone()))
    ));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shards_are_shared_over_all_streams_and_reshards_followed() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(3));
    let id_of_a = world.account.put("a", 100, a.clone());
    let id_of_b = world.account.put("b", 200, b.clone());
    let streams = || Streams::of(["*"]);
    let first = world.start(config(streams(), "worker-1"));
    let second = world.start(config(streams(), "worker-2"));
    let held = |world: &World, worker: &str| {
        let leases = world.table.leases().into_iter();
        leases
            .filter(|lease| lease.owner.as_deref() == Some(worker))
            .count()
    };
    world
        .until("two each", |world| {
            held(world, "worker-1") == 2 && held(world, "worker-2") == 2
        })
        .await;
    a.put("1", "parent");
    a.split(&"shardId-000000000000".into());
    a.put("1", "child");
    world
        .until("the child read", |world| {
            world.delivered(&id_of_a) == ["parent", "child"]
        })
        .await;
    let child = world.table.lease(World::key(&id_of_a, 1)).unwrap();
    assert_eq!(
        child
            .parents
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["shardId-000000000000"]
    );
    assert!(world.table.lease(World::key(&id_of_b, 3)).is_none());
    second.stop().await;
    world
        .until("all taken over", |world| held(world, "worker-1") == 5)
        .await;
    first.stop().await;
}

/// And not since its leases could be made.
#[tokio::test(start_paused = true)]
async fn latest_is_when_a_stream_was_found() {
    let world = World::default();
    world.account.put("a", 100, MemoryKinesis::new(1));
    let mut latest = config(Streams::of(["*"]), "worker-1");
    latest.initial_position = InitialPosition::Latest;
    let worker = world.start(latest);
    sleep(Duration::from_secs(30)).await;
    let b = MemoryKinesis::new(2);
    b.put("1", "before");
    let fragile = Fragile::new(&b);
    fragile.refuse(Some(KinesisError::Permanent(
        "AccessDeniedException: no".into(),
    )));
    sleep(Duration::from_secs(30)).await;
    let id = world.account.put("b", 200, fragile.clone());
    world
        .until("found", |world| {
            world.has_told(|event| matches!(event, Event::StreamAdded { stream } if *stream == id))
        })
        .await;
    sleep(Duration::from_secs(30)).await;
    b.put("1", "after");
    sleep(Duration::from_secs(120)).await;
    b.split(&"shardId-000000000000".into());
    fragile.refuse(None);
    world
        .until("read", |world| !world.delivered(&id).is_empty())
        .await;
    assert_eq!(world.delivered(&id), ["after"]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_says_which_streams_and_as_which_epoch() {
    let world = World::default();
    let a = MemoryKinesis::new(1);
    a.put("1", "a1");
    let mut id = world.account.put("a", 100, a);
    id.epoch = 7;
    let wanted = id.to_string();
    let streams = Streams::by(move || {
        let wanted = wanted.clone();
        async move { Ok::<_, std::io::Error>(vec![wanted]) }
    });
    let worker = world.start(config(streams, "worker-1"));
    world
        .until("read", |world| world.delivered(&id) == ["a1"])
        .await;
    worker.stop().await;
}

/// 20 calls a second are all that an account has.
#[tokio::test(start_paused = true)]
async fn names_are_described_seldom_and_patterns_cost_one_list() {
    let world = World::default();
    for index in 0..20 {
        let name = format!("orders-{index}");
        world.account.put(&name, 100, MemoryKinesis::new(1));
    }
    let names: Vec<_> = (0..20).map(|index| format!("orders-{index}")).collect();
    let worker = world.start(config(Streams::of(names), "worker-1"));
    sleep(Duration::from_secs(700)).await;
    let calls = world.account.calls();
    assert_eq!(calls.get("stream"), Some(&20), "{calls:?}");
    worker.stop().await;

    let worker = world.start(config(Streams::of(["*", "orders-1"]), "worker-1"));
    sleep(Duration::from_secs(660)).await;
    let calls = world.account.calls();
    assert_eq!(calls.get("stream"), Some(&20), "{calls:?}");
    assert!((10..=13).contains(&calls["streams"]), "{calls:?}");
    // One scan does for the audits of all streams.
    let scans = world.table.calls()["scan"];
    assert!(scans < 2 * (660 + 700) / 20 + 60, "{scans}");
    worker.stop().await;
}
