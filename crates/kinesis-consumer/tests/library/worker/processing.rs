//! Slow, failing and stuck processors, and what a checkpointer refuses.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{Checkpoint, CheckpointError, Event, Position};
use rstest::rstest;
use tokio::time::sleep;

use super::world::{Answer, Told, What, World, checkpointing, config, shard};

fn covered(world: &World, index: usize) -> Option<usize> {
    let lease = world.table().lease(shard(index))?;
    world.stream(|stream| stream.covered(&lease.key.shard, &lease.checkpoint))
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_takes_minutes_keeps_every_lease() {
    let world = World::new(2);
    world.put(0, 1);
    let slow: Answer = Arc::new(|id, _, checkpointer| {
        Box::pin(async move {
            if id == shard(0) {
                sleep(Duration::from_secs(300)).await;
            }
            Ok(checkpointer.checkpoint().await?)
        })
    });
    let _worker = world.start(config("a"), slow);
    sleep(Duration::from_secs(60)).await;
    let _other = world.start(config("b"), checkpointing());
    for _ in 0..20 {
        world.put(1, 1);
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(world.delivered(1).len(), 20);
    assert_eq!(covered(&world, 1), Some(20));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(covered(&world, 0), Some(1));
    assert_eq!(world.delivered(0), [0]);
    let lost = |told: &Told| matches!(told.what, What::Event(Event::LeaseLost { .. }));
    assert!(!world.told().iter().any(lost));
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_comes_again_from_its_checkpoint() {
    let world = World::new(1);
    world.put(0, 4);
    let first_record = world.stream(|stream| stream.number_of(&shard(0), 0));
    let attempts = Arc::new(Mutex::new(0));
    let flaky: Answer = Arc::new(move |_, _, checkpointer| {
        let first_record = first_record.clone();
        let attempt = {
            let mut attempts = attempts.lock().unwrap();
            *attempts += 1;
            *attempts
        };
        Box::pin(async move {
            match attempt {
                1 => Err("no".into()),
                2 => {
                    let position = Position {
                        sequence_number: first_record,
                        sub_sequence_number: 0,
                    };
                    checkpointer.checkpoint_at(&position).await?;
                    std::panic::resume_unwind(Box::new("not at all"));
                }
                3 => Err("still not".into()),
                _ => Ok(checkpointer.checkpoint().await?),
            }
        })
    });
    let _worker = world.start(config("a"), flaky);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        world.delivered(0),
        [0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 1, 2, 3]
    );
    assert_eq!(covered(&world, 0), Some(4));
    let failures = world.told().into_iter().filter_map(|told| match told.what {
        What::Event(Event::ProcessorFailed {
            attempt,
            error,
            retry_in,
            ..
        }) => Some((attempt, error, retry_in.as_millis())),
        _ => None,
    });
    let want = [
        (1, "no".to_owned(), 500),
        (2, "panicked: not at all".to_owned(), 1000),
        (3, "still not".to_owned(), 2000),
    ];
    assert_eq!(failures.collect::<Vec<_>>(), want);
}

#[tokio::test(start_paused = true)]
async fn shutdown_abandons_a_stuck_batch_at_the_deadline() {
    let world = World::new(2);
    world.put(0, 1);
    world.put(1, 1);
    let stuck: Answer = Arc::new(|id, _, checkpointer| {
        Box::pin(async move {
            if id == shard(0) {
                std::future::pending::<()>().await;
            }
            Ok(checkpointer.checkpoint().await?)
        })
    });
    let worker = world.start(config("a"), stuck);
    sleep(Duration::from_secs(30)).await;
    let began = world.now();
    worker.stop().await.unwrap();
    assert_eq!(world.now() - began, config("a").shutdown_deadline);
    assert!(
        world
            .table()
            .leases()
            .iter()
            .all(|lease| lease.owner.is_none())
    );
    assert_eq!(covered(&world, 0), Some(0));
    assert_eq!(covered(&world, 1), Some(1));
    let asked = |told: &Told| matches!(&told.what, What::Called("shutdown_requested", id) if *id == shard(1));
    assert!(world.told().iter().any(asked));
}

#[tokio::test(start_paused = true)]
async fn a_checkpointer_refuses_to_go_back_or_beyond() {
    let world = World::new(1);
    world.put(0, 4);
    let numbers: Vec<_> = (0..4)
        .map(|ordinal| world.stream(|stream| stream.number_of(&shard(0), ordinal)))
        .collect();
    let position = move |ordinal: usize, sub_sequence_number| Position {
        sequence_number: numbers[ordinal].clone(),
        sub_sequence_number,
    };
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::new(Mutex::new(None));
    let (told, keep) = (Arc::clone(&refusals), Arc::clone(&kept));
    let wanted = position.clone();
    let answer: Answer = Arc::new(move |_, _, checkpointer| {
        let (told, keep, position) = (Arc::clone(&told), Arc::clone(&keep), wanted.clone());
        Box::pin(async move {
            checkpointer.checkpoint_at(&position(1, 0)).await?;
            for (ordinal, sub) in [(1, 0), (0, 0), (3, 1), (3, 0)] {
                let answer = checkpointer.checkpoint_at(&position(ordinal, sub)).await;
                told.lock()
                    .unwrap()
                    .push(answer.map_err(|error| error.to_string()));
            }
            *keep.lock().unwrap() = Some(checkpointer);
            Ok(())
        })
    });
    let worker = world.start(config("a"), answer);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.table().calls()["checkpoint"], 2);
    assert_eq!(covered(&world, 0), Some(4));
    let answers = std::mem::take(&mut *refusals.lock().unwrap());
    let [equal, back, beyond, on] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((equal, on), (&Ok(()), &Ok(())));
    assert!(
        back.as_ref().unwrap_err().starts_with("cannot checkpoint"),
        "{back:?}"
    );
    assert!(
        beyond
            .as_ref()
            .unwrap_err()
            .starts_with("cannot checkpoint"),
        "{beyond:?}"
    );
    let checkpointer = kept.lock().unwrap().take().unwrap();
    worker.stop().await.unwrap();
    let late = checkpointer.checkpoint_at(&position(3, 0)).await;
    assert!(matches!(late, Err(CheckpointError::LeaseLost)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unprocessed_batch_is_not_checkpointed_at_shutdown() {
    let world = World::new(1);
    world.put(0, 2);
    let failing: Answer = Arc::new(|_, _, _| Box::pin(async { Err("no".into()) }));
    let worker = world.start(config("a"), failing);
    sleep(Duration::from_secs(30)).await;
    worker.stop().await.unwrap();
    assert_eq!(
        world.table().lease(shard(0)).unwrap().checkpoint,
        Checkpoint::TrimHorizon
    );
}

// === when a checkpoint is written ===

/// Takes each batch, and leaves it to the worker when to write.
fn acknowledging() -> Answer {
    Arc::new(|_, _, checkpointer| Box::pin(async move { Ok(checkpointer.acknowledge().await?) }))
}

fn writes(world: &World) -> u64 {
    let calls = world.table().calls();
    let of = |operation| calls.get(operation).copied().unwrap_or(0);
    of("renew") + of("checkpoint")
}

#[tokio::test(start_paused = true)]
async fn an_active_shard_is_written_as_often_as_an_idle_one() {
    let world = World::new(1);
    let _worker = world.start(config("a"), acknowledging());
    sleep(Duration::from_secs(60)).await;
    let before = writes(&world);
    sleep(Duration::from_secs(60)).await;
    let idle = writes(&world) - before;
    for _ in 0..60 {
        world.put(0, 1);
        sleep(Duration::from_secs(1)).await;
    }
    let active = writes(&world) - before - idle;
    assert!((16..=18).contains(&idle), "{idle}");
    assert!(active <= idle + 1, "{active}, idle {idle}");
    // What is not written yet is not older than a renewal.
    assert!(covered(&world, 0) >= Some(55), "{:?}", covered(&world, 0));
}

#[tokio::test(start_paused = true)]
async fn many_records_are_checkpointed_sooner() {
    let world = World::new(1);
    let mut config = config("a");
    config.checkpoint_records = 10;
    let _worker = world.start(config, acknowledging());
    sleep(Duration::from_secs(60)).await;
    world.put(0, 9);
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(world.delivered(0).len(), 9);
    world.put(0, 1);
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(covered(&world, 0), Some(10));
}

#[tokio::test(start_paused = true)]
async fn what_is_checkpointed_already_is_not_written_again() {
    let world = World::new(1);
    let both: Answer = Arc::new(|_, _, checkpointer| {
        Box::pin(async move {
            checkpointer.checkpoint().await?;
            Ok(checkpointer.acknowledge().await?)
        })
    });
    let _worker = world.start(config("a"), both);
    world.put(0, 1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.table().calls()["checkpoint"], 1);
    assert!((16..=18).contains(&writes(&world)), "{}", writes(&world));
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_written_before_the_lease_goes() {
    let world = World::new(2);
    let a = world.start(config("a"), acknowledging());
    sleep(Duration::from_secs(30)).await;
    (0..2).for_each(|index| world.put(index, 3));
    sleep(Duration::from_secs(1)).await;
    let b = world.start(config("b"), acknowledging());
    let handed_over = |told: &Told| matches!(told.what, What::Event(Event::HandedOver { .. }));
    world.until("handed over", handed_over).await;
    (0..2).for_each(|index| world.put(index, 3));
    sleep(Duration::from_secs(2)).await;
    a.stop().await.unwrap();
    b.stop().await.unwrap();
    for index in 0..2 {
        assert_eq!(covered(&world, index), Some(6));
        assert_eq!(world.delivered(index), (0..6).collect::<Vec<_>>(), "once");
    }
}

// === aggregates that are not delivered ===

#[rstest]
#[case::set_aside(false, &[0, 4])]
#[case::delivered(true, &[0, 1, 2, 3, 4])]
#[tokio::test(start_paused = true)]
async fn a_straddling_aggregate_is_told_and_checkpointed(
    #[case] deliver: bool,
    #[case] delivered: &[u64],
) {
    let world = World::new(2);
    world.put(0, 1);
    world.stream(|stream| stream.put_straddling(0, 3));
    world.put(0, 1);
    // At the tip, and alone.
    world.stream(|stream| stream.put_straddling(1, 6));
    let mut config = config("a");
    config.deliver_unfit_aggregates = deliver;
    let _worker = world.start(config, acknowledging());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.delivered(0), delivered);
    assert_eq!((covered(&world, 0), covered(&world, 1)), (Some(5), Some(6)));
    let told = world.told().into_iter().filter_map(|told| match told.what {
        What::Event(Event::AggregateRejected { records, .. }) => Some(records),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.sort_unstable();
    let want: &[usize] = if deliver { &[] } else { &[3, 6] };
    assert_eq!(told, want);
}

/// What a processor has taken and not acknowledged is not passed for an aggregate behind it.
#[tokio::test(start_paused = true)]
async fn an_aggregate_set_aside_passes_nothing_that_is_not_acknowledged() {
    let world = World::new(2);
    world.put(0, 1);
    world.stream(|stream| stream.put_straddling(0, 3));
    let _worker = world.start(config("a"), Arc::new(|_, _, _| Box::pin(async { Ok(()) })));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.delivered(0), [0]);
    assert_eq!(covered(&world, 0), Some(0));
}

// === the end of user code ===

#[tokio::test(start_paused = true)]
async fn a_shards_end_waits_for_what_is_not_acknowledged() {
    let world = World::new(1);
    world.put(0, 3);
    world.stream(|stream| stream.split(0));
    let buffered = Arc::new(Mutex::new(None));
    let buffer = Arc::clone(&buffered);
    let buffering: Answer = Arc::new(move |id, _, checkpointer| {
        if id == shard(0) {
            *buffer.lock().unwrap() = Some(checkpointer);
        }
        Box::pin(async { Ok(()) })
    });
    let _worker = world.start(config("a"), buffering);
    sleep(Duration::from_secs(100)).await;
    let lease = world.table().lease(shard(0)).unwrap();
    assert_eq!(lease.checkpoint, Checkpoint::TrimHorizon);
    assert_eq!(lease.owner.as_deref(), Some("a"));
    let waits = |told: &Told| matches!(told.what, What::Event(Event::ShardEndWaits { .. }));
    assert!((5..10).contains(&world.told().iter().filter(|told| waits(told)).count()));
    let started = |told: &Told| matches!(&told.what, What::Event(Event::ShardStarted { shard: id, .. }) if id.shard != shard(0));
    assert!(!world.told().iter().any(started), "the children wait");

    let checkpointer = buffered.lock().unwrap().take().unwrap();
    checkpointer.acknowledge().await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(world.table().lease(shard(0)).unwrap().is_finished());
    assert!(world.told().iter().any(started));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_drops_the_batch_in_work_and_is_not_held() {
    let world = World::new(1);
    world.put(0, 1);
    let stuck: Answer = Arc::new(|_, _, _| Box::pin(std::future::pending()));
    let _worker = world.start(config("a"), stuck);
    let delivered = |told: &Told| matches!(told.what, What::Delivered(..));
    world.until("delivered", delivered).await;
    let steal = |lease: &mut kinesis_consumer::lease::Lease| {
        lease.owner = Some("java".into());
        lease.counter += 1;
    };
    assert!(world.table().edit(shard(0), steal));
    let began = world.now();
    let told = |told: &Told| matches!(told.what, What::Called("lease_lost", _));
    assert!(world.until("told", told).await - began < Duration::from_secs(4));
    // The thief does not renew: it is ours again.
    let again = |told: &Told| told.at > began && matches!(told.what, What::Delivered(..));
    world.until("delivered again", again).await;
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_panicked_is_made_anew_and_gets_what_the_old_one_kept() {
    let world = World::new(1);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&calls);
    let buffering: Answer = Arc::new(move |_, ordinals, checkpointer| {
        let mut calls = kept.lock().unwrap();
        calls.push((ordinals, checkpointer.clone()));
        let call = calls.len();
        Box::pin(async move {
            match call {
                // Kept in memory.
                1 => Ok(()),
                2 => std::panic::resume_unwind(Box::new("not at all")),
                _ => Ok(checkpointer.checkpoint().await?),
            }
        })
    });
    let _worker = world.start(config("a"), buffering);
    world.put(0, 2);
    sleep(Duration::from_secs(2)).await;
    world.put(0, 2);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.delivered(0), [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(covered(&world, 0), Some(4));
    let (_, old) = calls.lock().unwrap()[0].clone();
    let late = old.checkpoint().await;
    assert!(matches!(late, Err(CheckpointError::LeaseLost)), "{late:?}");
    assert!(old.cancellation().is_cancelled());
}
