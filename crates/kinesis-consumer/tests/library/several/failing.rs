//! One stream that fails holds up nobody else.

use std::time::Duration;

use kinesis_consumer::{
    Config, Error, Event, KinesisError, LeaseKey, Streams,
    lease::{Checkpoint, Lease, Position},
    test_util::{MemoryKinesis, Scan},
};
use tokio::time::sleep;

use super::world::{Fragile, World, config};

fn denied() -> KinesisError {
    KinesisError::Permanent("AccessDeniedException: not you".into())
}

fn is_failing(stream: &str) -> impl Fn(&World) -> bool {
    move |world| {
        world.has_told(
            |event| matches!(event, Event::StreamFailing { stream: it, .. } if it == stream),
        )
    }
}

fn has_recovered(stream: &str) -> impl Fn(&World) -> bool {
    move |world| {
        world.has_told(
            |event| matches!(event, Event::StreamRecovered { stream: it, .. } if it == stream),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_stream_is_told_and_tried_again_and_the_others_go_on() {
    let world = World::default();
    let (good, bad) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let fragile = Fragile::new(&bad);
    fragile.refuse(Some(denied()));
    let id_of_good = world.account.put("good", 100, good.clone());
    let id_of_bad = world.account.put("bad", 200, fragile.clone());
    let worker = world.start(config(Streams::of(["good", "bad"]), "worker-1"));
    good.put("1", "1");
    bad.put("1", "b");
    world
        .until("it is told", is_failing(&id_of_bad.to_string()))
        .await;
    // Much longer than a denial lasts before a worker gives up.
    for round in 2..20 {
        sleep(Duration::from_secs(60)).await;
        good.put("1", round.to_string());
    }
    world
        .until("all of the good one", |world| {
            world.delivered(&id_of_good).len() == 19
        })
        .await;
    fragile.refuse(None);
    world
        .until("the other one read", |world| {
            world.delivered(&id_of_bad) == ["b"]
        })
        .await;
    world
        .until("that is told", has_recovered(&id_of_bad.to_string()))
        .await;

    // Now while it is read.
    fragile.refuse(Some(denied()));
    bad.put("1", "c");
    sleep(Duration::from_secs(900)).await;
    good.put("1", "last");
    world
        .until("the good one goes on", |world| {
            world.delivered(&id_of_good).len() == 20
        })
        .await;
    fragile.refuse(None);
    world
        .until("the other one, too", |world| {
            world.delivered(&id_of_bad) == ["b", "c"]
        })
        .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_looked_up_stays_as_it_is() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let id_of_a = world.account.put("a", 100, a.clone());
    world.account.refuse("b", Some(denied()));
    let id_of_b = world.account.put("b", 200, b.clone());
    let worker = world.start(config(Streams::of(["a", "b"]), "worker-1"));
    a.put("1", "a1");
    b.put("1", "b1");
    world
        .until("one is read", |world| world.delivered(&id_of_a) == ["a1"])
        .await;
    world.until("the other is told", is_failing("b")).await;
    world.account.refuse("b", None);
    world
        .until("both are read", |world| world.delivered(&id_of_b) == ["b1"])
        .await;
    assert!(has_recovered("b")(&world));
    world.account.refuse("a", Some(denied()));
    sleep(Duration::from_secs(3600)).await;
    a.put("1", "a2");
    world
        .until("what was found goes on", |world| {
            world.delivered(&id_of_a) == ["a1", "a2"]
        })
        .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_goes_and_the_others_go_on() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let fragile = Fragile::new(&b);
    let id_of_a = world.account.put("a", 100, a.clone());
    let id_of_b = world.account.put("b", 200, fragile.clone());
    let worker = world.start(config(Streams::of(["a", "b"]), "worker-1"));
    world
        .until("both held", |world| {
            world.owner(&id_of_a, 0).is_some() && world.owner(&id_of_b, 0).is_some()
        })
        .await;
    fragile.refuse(Some(KinesisError::NotFound("b is gone".into())));
    world.account.delete("b");
    world
        .until("it went", |world| {
            world.has_told(
                |event| matches!(event, Event::StreamRemoved { stream } if *stream == id_of_b),
            )
        })
        .await;
    world.until("that is told", is_failing("b")).await;
    a.put("1", "a1");
    world
        .until("the other goes on", |world| {
            world.delivered(&id_of_a) == ["a1"]
        })
        .await;
    assert!(world.owner(&id_of_b, 0).is_none());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_all_streams_fail_for_long_the_worker_ends() {
    let world = World::default();
    let streams = [MemoryKinesis::new(1), MemoryKinesis::new(1)].map(|it| Fragile::new(&it));
    let id = world.account.put("a", 100, streams[0].clone());
    world.account.put("b", 200, streams[1].clone());
    let worker = world.start(config(Streams::of(["*"]), "worker-1"));
    world
        .until("held", |world| world.owner(&id, 0).is_some())
        .await;
    streams.iter().for_each(|it| it.refuse(Some(denied())));
    let error = worker.error().await;
    assert!(matches!(error, Error::Stream { .. }), "{error}");
    assert!(error.to_string().contains("not you"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_sees_no_stream_says_why() {
    let world = World::default();
    world.account.refuse("*", Some(denied()));
    let worker = world.start(config(Streams::of(["*"]), "worker-1"));
    let error = worker.error().await.to_string();
    assert!(
        error.contains("all streams") && error.contains("not you"),
        "{error}"
    );
    world.account.refuse("a", Some(denied()));
    let worker = world.start(config(Streams::of(["a"]), "worker-1"));
    let error = worker.error().await.to_string();
    assert!(
        error.contains("stream a:") && error.contains("not you"),
        "{error}"
    );
}

/// Its key names another incarnation than the account has, as a Java application may have it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_another_than_its_leases_is_left_alone() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let id_of_a = world.account.put("a", 100, a.clone());
    let id_of_b = world.account.put("b", 200, b.clone());
    let older = "7".parse().unwrap();
    let older = Checkpoint::At(Position {
        sequence_number: older,
        sub_sequence_number: 0,
    });
    let key: LeaseKey = World::key(&id_of_b, 0);
    world.table.put(Lease::new(key.clone(), older.clone()));
    a.put("1", "a1");
    b.put("1", "b1");
    let worker = world.start(config(Streams::of(["a", "b"]), "worker-1"));
    world
        .until("one is read", |world| world.delivered(&id_of_a) == ["a1"])
        .await;
    world
        .until("the other is told", is_failing(&id_of_b.to_string()))
        .await;
    sleep(Duration::from_secs(900)).await;
    assert!(world.delivered(&id_of_b).is_empty());
    assert_eq!(world.table.lease(key).unwrap().checkpoint, older);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_table_of_one_stream_is_refused_with_what_was_found() {
    let world = World::default();
    world.account.put("a", 100, MemoryKinesis::new(1));
    let what = "a lease of an application that reads one stream";
    world.table.set_oddities(Scan {
        foreign: vec![("shardId-000000000000".to_owned(), what.to_owned())],
        ..Scan::default()
    });
    let worker = world.start(config(Streams::of(["a"]), "worker-1"));
    let error = worker.error().await;
    assert_eq!(
        error.to_string(),
        "table billing is not the lease table of an application that reads several streams: item \
         shardId-000000000000: a lease of an application that reads one stream. Nothing was \
         changed. Give this application another name, or another lease table"
    );
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_told() {
    let error = async |config: Config| World::default().start(config).error().await.to_string();
    let mut both = config(Streams::of(["a"]), "worker-1");
    both.stream = "orders".to_owned();
    let text = error(both).await;
    assert_eq!(
        text,
        "stream is \"orders\" and streams is set: want one of them"
    );
    let text = error(config(Streams::of(["a b"]), "worker-1")).await;
    assert!(
        text.starts_with("streams has \"a b\": want a stream's name"),
        "{text}"
    );
    let mut streams = Streams::of(["a"]);
    streams.delete_leases_after = Some(Duration::from_secs(1));
    let text = error(config(streams, "worker-1")).await;
    assert!(
        text.contains("want 20s (two failover times) or more"),
        "{text}"
    );
}
