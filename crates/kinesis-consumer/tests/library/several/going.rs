//! What one stream's end, or its trouble, does to the others: nothing.

use std::{sync::atomic::Ordering, time::Duration};

use kinesis_consumer::{
    Batch, Checkpointer, Event, KinesisError, LeaseKey, ProcessorError, RecordProcessor, Streams,
    lease::{Checkpoint, Lease, Position},
    test_util::{MemoryKinesis, Scan},
};
use tokio::time::sleep;

use super::world::{Fragile, World, config};

/// Takes its time to end, shards with higher numbers more.
struct Slow(LeaseKey);

impl RecordProcessor for Slow {
    async fn process_records(&mut self, _: &Batch, _: &Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: &Checkpointer) -> Result<(), ProcessorError> {
        if self.0.shard.as_str().ends_with('1') {
            sleep(Duration::from_secs(15)).await;
        }
        Ok(())
    }
}

fn gone() -> KinesisError {
    KinesisError::NotFound("b is gone".into())
}

fn older() -> Checkpoint {
    Checkpoint::At(Position {
        sequence_number: "7".parse().unwrap(),
        sub_sequence_number: 0,
    })
}

/// The second shard's consumer ends after the look that finds its stream gone.
#[tokio::test(start_paused = true)]
async fn shards_of_a_deleted_stream_may_end_as_late_as_they_want() {
    let world = World::default();
    let fragile = Fragile::new(&MemoryKinesis::new(2));
    let id_of_a = world.account.put("a", 100, MemoryKinesis::new(1));
    let id_of_b = world.account.put("b", 200, fragile.clone());
    let worker = world.start_with(config(Streams::of(["a", "b"]), "worker-1"), Slow);
    world
        .until("all held", |world| {
            (0..2).all(|shard| world.owner(&id_of_b, shard).is_some())
        })
        .await;
    sleep(Duration::from_secs(10)).await;
    fragile.refuse(Some(gone()));
    world.account.delete("b");
    let went =
        |event: &Event| matches!(event, Event::StreamRemoved { stream } if *stream == id_of_b);
    world.until("it went", |world| world.has_told(went)).await;
    assert!(world.owner(&id_of_b, 1).is_some(), "still ending");
    world
        .until("it is given up", |world| world.owner(&id_of_b, 1).is_none())
        .await;
    sleep(Duration::from_secs(60)).await;
    assert!(world.owner(&id_of_a, 0).is_some());
    // Nobody would ever tell that it recovered.
    let events = world.events();
    let end = events.iter().position(went).unwrap();
    let name = id_of_b.to_string();
    let is_told =
        |event: &Event| matches!(event, Event::StreamFailing { stream, .. } if *stream == name);
    assert!(events[..end].iter().any(is_told), "{events:?}");
    assert!(!events[end..].iter().any(is_told), "{events:?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_somebody_deleted_hastens_the_audits_of_its_stream_alone() {
    let world = World::default();
    let good = Fragile::new(&MemoryKinesis::new(1));
    let fragile = Fragile::new(&MemoryKinesis::new(1));
    let id_of_good = world.account.put("good", 100, good.clone());
    let id_of_bad = world.account.put("bad", 200, fragile.clone());
    let worker = world.start(config(Streams::of(["good", "bad"]), "worker-1"));
    world
        .until("both held", |world| {
            world.owner(&id_of_good, 0).is_some() && world.owner(&id_of_bad, 0).is_some()
        })
        .await;
    fragile.refuse(Some(KinesisError::Permanent(
        "AccessDeniedException: no".into(),
    )));
    world.table.delete_row(World::key(&id_of_bad, 0));
    let before = good.listed.load(Ordering::Relaxed);
    sleep(Duration::from_secs(300)).await;
    let lists = good.listed.load(Ordering::Relaxed) - before;
    // Each two minutes or so.
    assert!((1..=5).contains(&lists), "{lists}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn races_are_told_with_their_stream_and_other_leases_with_what_mends_them() {
    let world = World::default();
    let (a, b) = (MemoryKinesis::new(1), MemoryKinesis::new(1));
    let id_of_a = world.account.put("a", 100, a);
    let id_of_b = world.account.put("b", 200, b);
    let broken = World::key(&id_of_a, 0).to_string();
    world.table.set_oddities(Scan {
        broken: vec![(broken, "no checkpoint (S)".to_owned())],
        ..Scan::default()
    });
    world
        .table
        .put(Lease::new(World::key(&id_of_b, 0), older()));
    let worker = world.start(config(Streams::of(["a", "b"]), "worker-1"));
    let name = id_of_b.to_string();
    let mend = format!("delete its leases, whose keys begin with {name}:");
    world
        .until("what mends it", |world| {
            world.has_told(|event| {
                matches!(event, Event::StreamFailing { stream, error }
                if *stream == name && error.contains(&mend) && !error.contains("give this"))
            })
        })
        .await;
    let name = format!("{id_of_a}: ");
    world
        .until("the race", |world| {
            world.has_told(
                |event| matches!(event, Event::Retrying { error, .. } if error.starts_with(&name)),
            )
        })
        .await;
    worker.stop().await;
}

/// Its lease went to a worker that may read it, and nobody here tries it again.
#[tokio::test(start_paused = true)]
async fn one_denial_that_nobody_repeats_is_no_lasting_failure() {
    let world = World::default();
    let memory = MemoryKinesis::new(1);
    let fragile = Fragile::new(&memory).of_reads_alone();
    let id = world.account.put("a", 100, fragile.clone());
    let worker = world.start(config(Streams::of(["a"]), "worker-1"));
    world
        .until("held", |world| world.owner(&id, 0).is_some())
        .await;
    sleep(Duration::from_secs(5)).await;
    fragile.refuse(Some(KinesisError::Permanent(
        "AccessDeniedException: no".into(),
    )));
    let name = id.to_string();
    world
        .until("told", |world| {
            world.has_told(
                |event| matches!(event, Event::StreamFailing { stream, .. } if *stream == name),
            )
        })
        .await;
    let key = World::key(&id, 0);
    world.table.edit(key.clone(), |lease| {
        lease.owner = Some("worker-2".to_owned());
        lease.counter += 1;
    });
    for _ in 0..1_000 {
        sleep(Duration::from_secs(1)).await;
        world.table.edit(key.clone(), |lease| lease.counter += 1);
    }
    assert!(!worker.has_ended());
    worker.stop().await;
}
