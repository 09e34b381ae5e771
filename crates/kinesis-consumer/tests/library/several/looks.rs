//! Looks which streams there are that fail, lag or find nothing.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::{Event, KinesisError, StreamIdentifier, Streams, test_util::MemoryKinesis};
use tokio::time::{Instant, sleep, timeout};

use super::world::{World, config};

fn denied() -> KinesisError {
    KinesisError::Permanent("AccessDeniedException: not you".into())
}

fn throttled() -> KinesisError {
    KinesisError::Throttled("LimitExceededException: slower".into())
}

/// A stream of that name with one record, its name.
fn put(world: &World, name: &str) -> StreamIdentifier {
    let stream = MemoryKinesis::new(1);
    stream.put("1", name.to_owned());
    world.account.put(name, 100, stream)
}

async fn until_read(world: &World, ids: &[&StreamIdentifier]) {
    let is_read = |world: &World| {
        let mut ids = ids.iter();
        ids.all(|id| world.delivered(id) == [id.name.as_str()])
    };
    world.until("read", is_read).await;
}

fn failures(world: &World) -> Vec<String> {
    let events = world.events().into_iter();
    let failing = events.filter_map(|event| match event {
        Event::StreamFailing { stream, .. } => Some(stream),
        _ => None,
    });
    failing.collect()
}

fn went(event: &Event) -> bool {
    matches!(event, Event::StreamRemoved { .. })
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_denied_while_all_is_read_is_told_once_and_ends_nothing() {
    let world = World::default();
    let a = put(&world, "a");
    let worker = world.start(config(Streams::of(["*"]), "worker-1"));
    until_read(&world, &[&a]).await;
    world.account.refuse("*", Some(denied()));
    sleep(Duration::from_secs(1200)).await;
    assert!(world.owner(&a, 0).is_some());
    assert_eq!(failures(&world), ["all streams"]);
    assert!(!world.has_told(|event| matches!(event, Event::Failing { .. })));
    world.account.refuse("*", None);
    let b = put(&world, "b");
    until_read(&world, &[&b]).await;
    assert!(world.has_told(
        |event| matches!(event, Event::StreamRecovered { stream } if stream == "all streams")
    ));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn entries_without_a_stream_are_told_whenever_they_are_others() {
    let world = World::default();
    let worker = world.start(config(
        Streams::of(["orders-*", "payments-*", "users"]),
        "worker-1",
    ));
    let told = |world: &World| -> Vec<(Vec<String>, bool)> {
        let events = world.events().into_iter();
        let told = events.filter_map(|event| match event {
            Event::NoStreams {
                entries,
                reads_none,
            } => Some((entries, reads_none)),
            _ => None,
        });
        told.collect()
    };
    world
        .until("admitted", |world| {
            world.has_told(|event| matches!(event, Event::Admitted))
        })
        .await;
    sleep(Duration::from_secs(300)).await;
    let all = ["users", "orders-*", "payments-*"].map(str::to_owned);
    assert_eq!(told(&world), [(all.to_vec(), true)]);
    let orders = put(&world, "orders-a");
    until_read(&world, &[&orders]).await;
    let one = vec!["payments-*".to_owned()];
    world
        .until("one is left", |world| {
            told(world)[1..] == [(one.clone(), false)]
        })
        .await;
    let payments = put(&world, "payments-a");
    until_read(&world, &[&payments]).await;
    world.account.delete("orders-a");
    world.account.delete("payments-a");
    world
        .until("all are gone", |world| {
            told(world)[2..] == [(all.to_vec(), true)]
        })
        .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn descriptions_are_spread_over_time() {
    let world = World::default();
    let names: Vec<_> = (0..100).map(|index| format!("orders-{index}")).collect();
    for name in &names {
        world.account.put(name, 100, MemoryKinesis::new(1));
    }
    let worker = world.start(config(Streams::of(names), "worker-1"));
    // Half way between the first ones and the last.
    sleep(Duration::from_secs(940)).await;
    let calls = world.account.calls()["stream"];
    assert!((110..=190).contains(&calls), "{calls}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_look_is_waited_out_while_what_is_found_is_read() {
    let world = World::default();
    let (a, c) = (put(&world, "a"), put(&world, "c"));
    let b = put(&world, "b");
    world.account.refuse("b", Some(throttled()));
    let began = Instant::now();
    let worker = world.start(config(Streams::of(["a", "b", "c"]), "worker-1"));
    until_read(&world, &[&a]).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    sleep(Duration::from_secs(8)).await;
    world.account.refuse("b", None);
    until_read(&world, &[&b, &c]).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    assert!(failures(&world).is_empty(), "{:?}", failures(&world));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn throttling_that_lasts_holds_up_no_other_and_is_no_failure() {
    let world = World::default();
    let (a, b) = (put(&world, "a"), put(&world, "b"));
    world.account.refuse("a", Some(throttled()));
    let worker = world.start(config(Streams::of(["a", "b"]), "worker-1"));
    until_read(&world, &[&b]).await;
    sleep(Duration::from_secs(600)).await;
    assert!(failures(&world).is_empty(), "{:?}", failures(&world));
    world.account.refuse("a", None);
    until_read(&world, &[&a]).await;
    worker.stop().await;
}

/// By a pattern first: it was listed, and never described.
#[tokio::test(start_paused = true)]
async fn what_is_read_stays_while_it_cannot_be_described_under_another_entry() {
    let world = World::default();
    let a = put(&world, "orders-a");
    let entries = Arc::new(Mutex::new(vec!["orders-*".to_owned()]));
    let answer = Arc::clone(&entries);
    let streams = Streams::by(move || {
        let entries = answer.lock().unwrap().clone();
        async move { Ok::<_, io::Error>(entries) }
    });
    let worker = world.start(config(streams, "worker-1"));
    until_read(&world, &[&a]).await;
    for error in [throttled(), denied()] {
        world.account.refuse("orders-a", Some(error));
        *entries.lock().unwrap() = vec!["orders-a".to_owned()];
        sleep(Duration::from_secs(300)).await;
        assert!(!world.has_told(went));
        assert!(world.owner(&a, 0).is_some());
    }
    world.account.delete("orders-a");
    world.account.refuse("orders-a", None);
    world.until("gone", |world| world.has_told(went)).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_short_is_not_believed() {
    let world = World::default();
    let (a, b) = (put(&world, "a"), put(&world, "b"));
    let worker = world.start(config(Streams::of(["*"]), "worker-1"));
    until_read(&world, &[&a, &b]).await;
    world.account.leave_out(&["a", "b"]);
    world.account.refuse("b", Some(throttled()));
    sleep(Duration::from_secs(300)).await;
    assert!(!world.has_told(went));
    world.account.refuse("b", None);
    world.account.delete("b");
    world.until("gone", |world| world.has_told(went)).await;
    assert!(world.owner(&a, 0).is_some());
    // One made anew while it is not listed is another one.
    let stream = MemoryKinesis::new(1);
    stream.put("1", "a");
    let new = world.account.put("a", 200, stream);
    until_read(&world, &[&new]).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_or_hangs_has_failed_and_is_asked_again() {
    let world = World::default();
    let a = put(&world, "a");
    let asked = Arc::new(AtomicUsize::new(0));
    let streams = Streams::by(move || {
        let turn = asked.fetch_add(1, Ordering::Relaxed);
        assert_ne!(turn, 1, "a bug of the user's");
        async move {
            match turn {
                0 => Ok(vec!["a".to_owned()]),
                2 => std::future::pending().await,
                3 => Err(io::Error::other("no tags")),
                _ => Ok(vec!["a".to_owned(), "b".to_owned()]),
            }
        }
    });
    let b = put(&world, "b");
    let worker = world.start(config(streams, "worker-1"));
    until_read(&world, &[&a]).await;
    let ids = [&b];
    let read = timeout(Duration::from_secs(600), until_read(&world, &ids));
    read.await.expect("the looks go on");
    for text in ["the callback panicked", "no answer in 30s", "no tags"] {
        let is_told = |event: &Event| matches!(event, Event::Retrying { operation: "ListStreams", error, .. } if error.contains(text));
        assert!(world.has_told(is_told), "{text}: {:?}", world.events());
    }
    assert!(!world.has_told(went));
    worker.stop().await;
}
