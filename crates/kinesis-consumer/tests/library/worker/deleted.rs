//! Leases, or the whole table, that somebody else deleted.

use std::sync::Mutex;

use kinesis_consumer::{Event, InitialPosition, test_util::Fault};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use super::world::{Told, What, World, checkpointing, config, seconds, shard};

/// Neither the initial position nor a shard's end lets a record slip: each shard goes on where it
/// stood.
#[rstest]
#[case::latest(InitialPosition::Latest)]
#[case::oldest(InitialPosition::TrimHorizon)]
#[tokio::test(start_paused = true)]
async fn a_table_deleted_while_workers_run_is_made_anew_from_what_they_know(
    #[case] position: InitialPosition,
) {
    let world = World::new(4);
    let start = |worker| {
        let mut config = config(worker);
        config.initial_position = position;
        world.start(config, checkpointing())
    };
    let a = start("a");
    let b = start("b");
    sleep(seconds(30)).await;
    (0..4).for_each(|index| world.put(index, 5));
    sleep(seconds(10)).await;
    world.stream(|stream| stream.split(3));
    sleep(seconds(10)).await;
    world.table().delete_table();
    (0..3).for_each(|index| world.put(index, 5));
    (4..6).for_each(|index| world.put(index, 5));
    sleep(seconds(60)).await;
    for index in 0..3 {
        assert_eq!(
            world.delivered_once(index),
            (0..10).collect::<Vec<_>>(),
            "shard {index}"
        );
    }
    for index in 4..6 {
        assert!(
            world.delivered(index).ends_with(&[0, 1, 2, 3, 4]),
            "shard {index}"
        );
    }
    assert_eq!(
        world.delivered(3),
        [0, 1, 2, 3, 4],
        "a finished shard does not begin again"
    );
    let told = world.told();
    let put_back = |told: &Told| told.is(|event| matches!(event, Event::LeasesPutBack { .. }));
    assert!(told.iter().any(put_back), "{told:#?}");
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}

/// As when somebody restarts what logs errors: the next one goes on where this one stood.
#[rstest]
#[case::nobody_has_seen_it_yet(0)]
#[case::it_is_being_made(4)]
#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_while_its_table_is_gone_makes_it_anew(#[case] after: u64) {
    let world = World::new(2);
    let table = world.table().with_faults(|call| Fault {
        before: seconds(u64::from(call.operation == "ensure_exists") * 8),
        ..Fault::default()
    });
    let latest = |worker| {
        let mut config = config(worker);
        config.initial_position = InitialPosition::Latest;
        config
    };
    let first = world.start_on(latest("a"), table, checkpointing());
    sleep(seconds(40)).await;
    (0..2).for_each(|index| world.put(index, 5));
    sleep(seconds(10)).await;
    world.table().delete_table();
    sleep(seconds(after)).await;
    let stopping = Instant::now();
    first.stop().await.unwrap();
    assert!(stopping.elapsed() <= seconds(22));
    (0..2).for_each(|index| world.put(index, 5));
    sleep(seconds(60)).await;
    let second = world.start(latest("b"), checkpointing());
    sleep(seconds(30)).await;
    for index in 0..2 {
        assert_eq!(world.delivered_once(index), (0..10).collect::<Vec<_>>());
    }
    second.stop().await.unwrap();
}

/// Then it does not end as if all were well.
#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_make_its_table_anew_before_it_stops_says_so() {
    let world = World::new(1);
    let worker = world.start(config("a"), checkpointing());
    world.put(0, 5);
    sleep(seconds(10)).await;
    world.table().delete_table();
    world.table().set_status(Some("CREATING"));
    sleep(seconds(10)).await;
    let stopping = Instant::now();
    let error = worker.stop().await.unwrap_err();
    assert!(stopping.elapsed() <= seconds(22));
    let text = error.to_string();
    assert!(
        text.contains("nobody knows where its leases stood"),
        "{text}"
    );
}

/// DynamoDB says that the table is ACTIVE, and for a moment that it knows none of that name.
#[tokio::test(start_paused = true)]
async fn a_table_that_was_just_created_is_waited_for() {
    let world = World::new(1);
    world.put(0, 2);
    let (table, left) = (
        world.table().clone(),
        Mutex::new(vec!["create", "scan", "scan"]),
    );
    let view = world.table().with_faults(move |call| {
        let mut left = left.lock().unwrap();
        if left.pop_if(|next| *next == call.operation).is_some() {
            table.delete_table();
        }
        Fault::default()
    });
    let worker = world.start_on(config("a"), view, checkpointing());
    sleep(seconds(30)).await;
    assert_eq!(world.delivered(0), [0, 1]);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_row_deleted_while_workers_run_comes_back_where_it_stood() {
    let world = World::new(2);
    let mut config = config("a");
    config.initial_position = InitialPosition::Latest;
    let worker = world.start(config, checkpointing());
    sleep(seconds(30)).await;
    world.put(0, 5);
    sleep(seconds(10)).await;
    world.table().delete_row(shard(0));
    world.put(0, 5);
    sleep(seconds(300)).await;
    assert_eq!(world.delivered_once(0), (0..10).collect::<Vec<_>>());
    worker.stop().await.unwrap();
}

/// While nobody runs, nobody remembers where the shard stood: its oldest record is not too old.
#[tokio::test(start_paused = true)]
async fn a_row_deleted_while_nobody_runs_skips_nothing() {
    let world = World::new(2);
    let start = |worker| {
        let mut config = config(worker);
        config.initial_position = InitialPosition::Latest;
        world.start(config, checkpointing())
    };
    let first = start("a");
    sleep(seconds(30)).await;
    (0..2).for_each(|index| world.put(index, 5));
    sleep(seconds(10)).await;
    first.stop().await.unwrap();
    world.table().delete_row(shard(0));
    world.put(0, 5);
    let second = start("b");
    sleep(seconds(30)).await;
    assert_eq!(world.delivered_once(0), (0..10).collect::<Vec<_>>());
    second.stop().await.unwrap();
}

/// Of an application that has read nothing yet, each shard starts where the others do.
#[tokio::test(start_paused = true)]
async fn a_row_deleted_before_the_first_record_starts_with_the_others() {
    let world = World::new(2);
    let start = |worker| {
        let mut config = config(worker);
        config.initial_position = InitialPosition::Latest;
        world.start(config, checkpointing())
    };
    world.put(0, 5);
    sleep(seconds(10)).await;
    let first = start("a");
    sleep(seconds(30)).await;
    first.stop().await.unwrap();
    world.table().delete_row(shard(0));
    world.put(0, 5);
    sleep(seconds(10)).await;
    let second = start("b");
    sleep(seconds(30)).await;
    assert_eq!(world.delivered_once(0), (5..10).collect::<Vec<_>>());
    second.stop().await.unwrap();
}

/// Nobody knows where an application stood whose table was deleted while no worker ran: what is not
/// read is told.
#[rstest]
#[case::latest(InitialPosition::Latest, &[5, 6, 7])]
#[case::oldest(InitialPosition::TrimHorizon, &[0, 1, 2, 3, 4, 5, 6, 7])]
#[tokio::test(start_paused = true)]
async fn a_start_without_leases_tells_what_it_does_not_read(
    #[case] position: InitialPosition,
    #[case] read: &[u64],
) {
    let world = World::new(1);
    let start = |worker| {
        let mut config = config(worker);
        config.initial_position = position;
        world.start(config, checkpointing())
    };
    let anew = |world: &World| {
        let told = world.told().into_iter();
        let anew = told.filter_map(|told| match told.what {
            What::Event(Event::StartedAnew {
                position, since, ..
            }) => Some((position, since)),
            _ => None,
        });
        anew.collect::<Vec<_>>()
    };
    let first = start("a");
    sleep(seconds(30)).await;
    first.stop().await.unwrap();
    let again = start("b");
    sleep(seconds(30)).await;
    again.stop().await.unwrap();
    assert_eq!(anew(&world).len(), 1, "only the first one");
    world.table().delete_table();
    world.put(0, 5);
    sleep(seconds(60)).await;
    let deleted = world.told().len();
    let last = start("c");
    sleep(seconds(10)).await;
    world.put(0, 3);
    sleep(seconds(10)).await;
    last.stop().await.unwrap();
    assert!(deleted < world.told().len());
    assert_eq!(world.delivered(0), read);
    let anew = anew(&world);
    assert_eq!(anew.len(), 2, "{anew:?}");
    let (at, since) = &anew[1];
    let is_latest = position == InitialPosition::Latest;
    assert_eq!(since.is_some(), is_latest, "{at}");
}
