//! Reading by subscriptions: where they begin, how they end, and what goes wrong with them.

use std::{iter::repeat_with, sync::Arc, time::Duration};

use kinesis_consumer::{
    Checkpoint, Config, Error, Event, FanOut, KinesisError, Retrieval, lease::Lease,
    shards::StartFrom,
};
use rstest::rstest;
use tokio::{sync::Notify, time::sleep};

use super::world::{Answer, What, World, checkpointing, config, shard};

fn fan_out(worker: &str) -> Config {
    let mut config = config(worker);
    config.retrieval = Retrieval::FanOut(FanOut::default());
    config
}

fn with(worker: &str, change: impl FnOnce(&mut FanOut)) -> Config {
    let mut config = config(worker);
    let mut fan_out = FanOut::default();
    change(&mut fan_out);
    config.retrieval = Retrieval::FanOut(fan_out);
    config
}

/// How often such an event was told.
fn told(world: &World, wanted: impl Fn(&Event) -> bool) -> usize {
    let told = world.told().into_iter();
    let events = told.filter(|told| matches!(&told.what, What::Event(event) if wanted(event)));
    events.count()
}

fn failures(world: &World) -> usize {
    told(world, |event| {
        matches!(event, Event::Retrying { .. } | Event::Throttled { .. })
    })
}

fn registrations(world: &World) -> usize {
    told(world, |event| {
        matches!(event, Event::ConsumerRegistered { .. })
    })
}

/// The seconds at which the shard was subscribed to.
fn seconds(world: &World) -> Vec<u64> {
    let subscriptions = world.subscriptions(0).into_iter();
    subscriptions.map(|(at, _)| at.as_secs()).collect()
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

// === as it should be ===

#[tokio::test(start_paused = true)]
async fn records_come_at_once_and_once_through_sessions_of_five_minutes() {
    let world = World::new(1);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(10)).await;
    for nth in 0..800 {
        world.put(0, 1);
        let put = world.now();
        let delivered = world
            .until("delivered", |told| {
                matches!(&told.what, What::Delivered(_, ordinals) if ordinals.contains(&nth))
            })
            .await;
        let latency = delivered - put;
        assert!(latency <= Duration::from_millis(200), "{nth}: {latency:?}");
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.delivered(0), all(800));
    let began = seconds(&world);
    let apart: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(apart, [300, 300], "{began:?}");
    assert_eq!((registrations(&world), failures(&world)), (1, 0));
    assert!(world.reads(0).is_empty(), "nobody polls");
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_is_told_as_at_its_tip_and_its_place_is_kept() {
    let world = World::new(2);
    world.put(0, 1);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(700)).await;
    let is_at_tip = |event: &Event| matches!(event, Event::Polled { shard: id, millis_behind_latest: 0, .. } if id.shard == shard(1));
    let polled = told(&world, is_at_tip);
    assert!((120..=140).contains(&polled), "{polled}");
    assert_eq!(failures(&world), 0);
    // No record has that number.
    let last = world.stream(|stream| stream.number_of(&shard(0), 0));
    let subscriptions = world.subscriptions(1);
    assert!(subscriptions.len() == 3, "{subscriptions:?}");
    let goes_on = matches!(&subscriptions[2].1, StartFrom::AfterSequenceNumber(at) if *at >= last);
    assert!(goes_on, "{subscriptions:?}");
    let lease = world.table().lease(shard(1)).unwrap();
    assert_eq!(lease.checkpoint, Checkpoint::TrimHorizon, "it stays");
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_takes_over_without_losing_or_repeating() {
    let world = World::new(4);
    let producer = {
        let world = world.clone();
        tokio::spawn(async move {
            for nth in 0..1200 {
                world.put(nth % 4, 1);
                sleep(Duration::from_millis(100)).await;
            }
        })
    };
    let first = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(20)).await;
    let second = world.start(fan_out("b"), checkpointing());
    producer.await.unwrap();
    sleep(Duration::from_secs(10)).await;
    (0..4).for_each(|index| assert_eq!(world.delivered(index), all(300), "{index}"));
    let owners = world.table().leases().into_iter();
    let of_second = owners.filter(|lease| lease.owner.as_deref() == Some("b"));
    assert_eq!(of_second.count(), 2);
    assert_eq!(registrations(&world), 1, "the second one finds it");
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_follow_at_a_closed_shards_end() {
    let world = World::new(1);
    world.put(0, 3);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    world.put(0, 2);
    world.stream(|stream| stream.split(0));
    (1..3).for_each(|child| world.put(child, 4));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.delivered(0), all(5));
    (1..3).for_each(|child| assert_eq!(world.delivered(child), all(4)));
    assert_eq!(failures(&world), 0);
    worker.stop().await.unwrap();
}

// === subscriptions that break ===

#[rstest]
#[case::cut(KinesisError::Unavailable("cut".into()))]
#[case::garbage(KinesisError::Unavailable("UnreadableAnswer".into()))]
#[case::taken_over(KinesisError::InUse("another one".into()))]
#[case::throttled(KinesisError::Throttled("KMS".into()))]
#[case::denied(KinesisError::Permanent("AccessDenied".into()))]
#[case::gone_for_a_moment(KinesisError::NotFound("no consumer".into()))]
#[tokio::test(start_paused = true)]
async fn what_breaks_goes_on_after_what_came(#[case] error: KinesisError) {
    let world = World::new(1);
    let worker = world.start(fan_out("a"), checkpointing());
    for nth in 0..60 {
        world.put(0, 1);
        if nth % 10 == 5 {
            world.cut(0, error.clone());
        }
        sleep(Duration::from_millis(1500)).await;
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.delivered(0), all(60));
    assert!(failures(&world) >= 6);
    let began = seconds(&world);
    assert!(
        began.windows(2).all(|pair| pair[1] - pair[0] >= 5),
        "{began:?}"
    );
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_falls_silent_is_begun_anew() {
    let world = World::new(2);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(30)).await;
    world.silence(0);
    (0..2).for_each(|index| world.put(index, 3));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((world.delivered(0), world.delivered(1)), (vec![], all(3)));
    sleep(Duration::from_secs(21)).await;
    assert_eq!(world.delivered(0), all(3));
    assert_eq!(failures(&world), 1);
    worker.stop().await.unwrap();
}

/// Five seconds are AWS's, and the rest is jitter.
#[tokio::test(start_paused = true)]
async fn somebody_elses_subscription_is_waited_for_and_taken_over() {
    let world = World::new(1);
    world.put(0, 1);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(10)).await;
    let theirs = world.stream(|stream| {
        let consumer = stream.consumer("application").unwrap().arn;
        let memory = stream.memory();
        memory.subscribe(&consumer, &shard(0), &StartFrom::Latest)
    });
    assert!(theirs.is_ok());
    world.put(0, 1);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(world.delivered(0), all(2));
    let refused = failures(&world);
    assert!((2..=6).contains(&refused), "{refused}");
    worker.stop().await.unwrap();
}

/// 10 MB at 250 kB a second take longer than a silence may.
#[tokio::test(start_paused = true)]
async fn an_event_may_take_its_time_on_a_slow_line() {
    let world = World::new(1);
    (0..30).for_each(|_| world.stream(|stream| stream.put_large(0, 350_000)));
    world.slow_down(250_000);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.delivered(0), all(30));
    assert_eq!(failures(&world), 0);
    worker.stop().await.unwrap();
}

// === positions ===

/// A number that no record has is not every service's.
#[tokio::test(start_paused = true)]
async fn a_continuation_that_is_refused_goes_back_to_the_record() {
    let world = World::new(1);
    world.put(0, 2);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(20)).await;
    world.refuse(0, [KinesisError::InvalidSequenceNumber("no".into())]);
    world.cut(0, KinesisError::Unavailable("cut".into()));
    sleep(Duration::from_secs(10)).await;
    world.put(0, 2);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.delivered(0), all(4));
    let last = world.stream(|stream| stream.number_of(&shard(0), 1));
    let (_, from) = world.subscriptions(0).pop().unwrap();
    assert_eq!(from, StartFrom::AfterSequenceNumber(last));
    worker.stop().await.unwrap();
}

/// AWS refuses a number that is gone, or reads on at the oldest record.
#[rstest]
#[case::refused(true)]
#[case::read_on(false)]
#[tokio::test(start_paused = true)]
async fn records_that_the_retention_took_are_told(#[case] refuse: bool) {
    let world = World::new(1);
    world.put(0, 5);
    let (done, oldest) = world.stream(|stream| {
        let taken = stream.number_of(&shard(0), 2);
        stream.trim(&shard(0), &taken, refuse);
        (
            stream.number_of(&shard(0), 0),
            stream.number_of(&shard(0), 3),
        )
    });
    let checkpoint = Checkpoint::parse(done.as_str(), 0).unwrap();
    world.table().put(Lease::new(shard(0), checkpoint.clone()));
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(20)).await;
    let told = told(&world, |event| match event {
        Event::CheckpointExpired {
            checkpoint: from,
            oldest: Some(to),
            ..
        } => *from == checkpoint && to.sequence_number == oldest,
        _ => false,
    });
    assert_eq!(told, 1, "{:#?}", world.told());
    assert_eq!(world.delivered(0), [3, 4]);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_is_told_and_gets_no_consumer() {
    let world = World::new(1);
    world.put(0, 3);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(10)).await;
    world.stream(|stream| *stream = stream.made_anew(1, true));
    let error = worker.error().await;
    assert!(matches!(error, Error::StreamRecreated { .. }), "{error}");
    assert_eq!(registrations(&world), 1);
}

// === consumers ===

fn cap() -> impl Iterator<Item = KinesisError> {
    repeat_with(|| KinesisError::LimitExceeded("20 consumers".into())).take(1000)
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_too_many_consumers_is_told_and_ends_the_worker() {
    let world = World::new(2);
    world.put(0, 1);
    world.refuse_consumers(cap());
    let worker = world.start(fan_out("a"), checkpointing());
    let error = worker.error().await;
    assert!(matches!(error, Error::Stream { .. }), "{error}");
    let failing = |event: &Event| {
        matches!(
            event,
            Event::Failing {
                operation: "RegisterStreamConsumer",
                ..
            }
        )
    };
    assert_eq!(told(&world, failing), 1);
    assert!(world.delivered(0).is_empty() && world.now() >= Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_too_many_consumers_is_polled_where_that_is_allowed() {
    let world = World::new(2);
    (0..2).for_each(|index| world.put(index, 3));
    world.refuse_consumers(cap());
    let config = with("a", |fan_out| fan_out.or_polling = true);
    let worker = world.start(config, checkpointing());
    sleep(Duration::from_secs(60)).await;
    (0..2).for_each(|index| assert_eq!(world.delivered(index), all(3)));
    assert!(!world.reads(0).is_empty() && world.subscriptions(0).is_empty());
    let fell_back = |event: &Event| matches!(event, Event::FellBackToPolling { consumer, .. } if consumer == "application");
    assert_eq!(
        told(&world, fell_back),
        1,
        "of the worker, not of each shard"
    );
    let failing = |event: &Event| matches!(event, Event::Failing { .. });
    assert_eq!(told(&world, failing), 0);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_registrations_is_sat_out() {
    let world = World::new(1);
    world.put(0, 1);
    let slower = repeat_with(|| KinesisError::Throttled("rate exceeded".into()));
    world.refuse_consumers(slower.take(8));
    let config = with("a", |fan_out| fan_out.or_polling = true);
    let worker = world.start(config, checkpointing());
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.delivered(0), [0]);
    assert!(world.reads(0).is_empty(), "nobody polls");
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_somebody_deregisters_is_registered_again() {
    let world = World::new(2);
    let worker = world.start(fan_out("a"), checkpointing());
    sleep(Duration::from_secs(20)).await;
    (0..2).for_each(|index| world.put(index, 1));
    sleep(Duration::from_secs(1)).await;
    world.stream(|stream| stream.memory().deregister_consumer("application"));
    (0..2).for_each(|index| world.put(index, 1));
    sleep(Duration::from_secs(30)).await;
    (0..2).for_each(|index| assert_eq!(world.delivered(index), all(2)));
    assert_eq!(registrations(&world), 2);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_by_its_arn_is_taken_as_it_is() {
    let world = World::new(1);
    world.put(0, 1);
    let arn = world.stream(|stream| {
        let theirs = stream.memory().register_consumer("theirs");
        theirs.unwrap().arn
    });
    let config = with("a", |fan_out| fan_out.consumer = Some(arn));
    let worker = world.start(config, checkpointing());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.delivered(0), [0]);
    assert_eq!(registrations(&world), 0);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_arn_of_no_consumer_ends_the_worker() {
    let world = World::new(1);
    let arn = "arn:aws:kinesis:eu-west-1:1:stream/orders/consumer/none:1";
    let config = with("a", |fan_out| fan_out.consumer = Some(arn.to_owned()));
    let worker = world.start(config, checkpointing());
    let error = worker.error().await;
    assert!(matches!(error, Error::Stream { .. }), "{error}");
    assert!(error.to_string().contains("none:1"), "{error}");
    assert_eq!(registrations(&world), 0);
}

// === back-pressure ===

/// A processor that hangs holds no connection and loses no lease, and others go on.
#[tokio::test(start_paused = true)]
async fn a_processor_that_hangs_lets_its_subscription_go() {
    let world = World::new(2);
    world.limit_events(1);
    let hangs = Arc::new(Notify::new());
    let hang = Arc::clone(&hangs);
    let answer: Answer = Arc::new(move |id, _, checkpointer| {
        let hang = Arc::clone(&hang);
        Box::pin(async move {
            if id == shard(0) {
                hang.notified().await;
            }
            Ok(checkpointer.checkpoint().await?)
        })
    });
    let mut config = fan_out("a");
    config.prefetch_bytes = 1;
    let worker = world.start(config, answer);
    (0..2).for_each(|index| world.put(index, 6));
    sleep(Duration::from_secs(1200)).await;
    assert_eq!(world.delivered(1), all(6));
    let others = world.subscriptions(1).len();
    assert!((4..=5).contains(&others), "{others}");
    assert_eq!(world.subscriptions(0).len(), 1, "it waits for room first");
    for _ in 0..6 {
        hangs.notify_one();
        sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(world.delivered(0), all(6));
    let lost = |event: &Event| matches!(event, Event::LeaseLost { .. });
    assert_eq!((told(&world, lost), failures(&world)), (0, 0));
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reads_ahead_no_more_than_fits() {
    let world = World::new(1);
    world.limit_events(1);
    (0..100).for_each(|_| world.stream(|stream| stream.put_large(0, 100 << 10)));
    let mut config = fan_out("a");
    config.prefetch_bytes = 1 << 20;
    let _worker = world.start(config, Arc::new(|_, _, _| Box::pin(std::future::pending())));
    sleep(Duration::from_secs(60)).await;
    let fetched = told(&world, |event| matches!(event, Event::Fetched { .. }));
    // Ten of 100 KiB fit into 1 MiB, the one in work among them.
    assert!((10..=11).contains(&fetched), "{fetched}");
}
