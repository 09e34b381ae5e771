//! Slow, failing and stuck processors, and what a checkpointer refuses.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{Checkpoint, CheckpointError, Event, Position};
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
