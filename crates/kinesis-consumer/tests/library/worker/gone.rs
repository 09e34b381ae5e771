//! Streams that were deleted, or made anew.

use std::{iter::repeat_with, time::Duration};

use kinesis_consumer::{Checkpoint, Error, InitialPosition, KinesisError, lease::Lease};
use tokio::time::sleep;

use super::world::{World, checkpointing, config, shard};

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_is_told_not_looped_on() {
    let world = World::new(1);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    let gone = || repeat_with(|| KinesisError::NotFound("no such stream".into())).take(1000);
    world.refuse(0, gone());
    world.refuse_lists(gone());
    assert!(matches!(worker.error().await, Error::Stream { .. }));
    let leases = world.table().leases();
    assert!(
        leases
            .iter()
            .all(|lease| lease.owner.is_none() && !lease.is_finished()),
        "released, and not taken for read to the end: {leases:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_stream_is_told_not_looped_on() {
    let world = World::new(1);
    world.put(0, 3);
    world
        .table()
        .put(Lease::new(shard(0), Checkpoint::parse("17", 0).unwrap()));
    let worker = world.start(config("a"), checkpointing());
    assert!(matches!(
        worker.error().await,
        Error::StreamRecreated { .. }
    ));
    assert!(world.delivered(0).is_empty());
    assert!(
        world
            .table()
            .leases()
            .iter()
            .all(|lease| lease.owner.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_stream_whose_old_leases_are_finished_is_told() {
    let world = World::new(1);
    world.put(0, 3);
    world
        .table()
        .put(Lease::new(shard(0), Checkpoint::ShardEnd));
    let worker = world.start(config("a"), checkpointing());
    assert!(matches!(
        worker.error().await,
        Error::StreamRecreated { .. }
    ));
}

/// The old stream was resharded and its first leases are gone, so no shard of the new one has a
/// lease: they would start at LATEST, behind what is there.
#[tokio::test(start_paused = true)]
async fn a_recreated_stream_without_any_of_the_leased_shards_is_told() {
    let world = World::new(2);
    let mut latest = config("a");
    latest.initial_position = InitialPosition::Latest;
    let worker = world.start(latest.clone(), checkpointing());
    sleep(Duration::from_secs(5)).await;
    world.stream(|stream| (0..2).for_each(|index| stream.split(index)));
    sleep(Duration::from_secs(30)).await;
    worker.stop().await.unwrap();
    (0..2).for_each(|index| world.table().delete_row(shard(index)));
    let leases = world.table().leases();
    assert_eq!(leases.len(), 4);
    world.stream(|stream| *stream = stream.made_anew(2, false));
    world.put(0, 3);
    let worker = world.start(latest, checkpointing());
    let error = worker.error().await;
    assert!(matches!(error, Error::StreamRecreated { .. }), "{error}");
    assert_eq!(world.table().leases(), leases, "untouched");
}
