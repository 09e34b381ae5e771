//! A worker that stops: when, and what it leaves behind.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{Event, lease::Lease, test_util::Fault};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use super::world::{Answer, Told, What, World, checkpointing, config, seconds, shard};

/// From `onset` on each call to the lease table takes so long, there and back.
#[rstest]
#[case::slow_from_the_start(5, 0, 3)]
#[case::slow_while_leases_are_held(5, 30, 33)]
#[case::silent_from_the_start(3600, 0, 3)]
#[case::silent_while_leases_are_taken(3600, 1, 12)]
#[case::silent_while_leases_are_held(3600, 30, 31)]
#[case::silent_for_long(3600, 30, 300)]
#[tokio::test(start_paused = true)]
async fn a_worker_stops_in_time_whatever_the_lease_table_does(
    #[case] delay: u64,
    #[case] onset: u64,
    #[case] stopped: u64,
) {
    let world = World::new(40);
    (0..40).for_each(|index| world.put(index, 3));
    let began = Instant::now();
    let table = world.table().with_faults(move |call| {
        // The start itself is not slow: it ends at once, whatever it waits for.
        let is_start = ["ensure_exists", "kcl3_state"].contains(&call.operation);
        let is_slow = began.elapsed() >= seconds(onset) && !is_start;
        Fault {
            before: if is_slow { seconds(delay) } else { seconds(0) },
            ..Fault::default()
        }
    });
    let worker = world.start_on(config("a"), table, checkpointing());
    sleep(seconds(stopped)).await;
    let asked = Instant::now();
    worker.stop().await.unwrap();
    let took = asked.elapsed();
    assert!(took <= seconds(22), "{took:?}");
    if delay == 5 {
        let leases = world.table().leases();
        assert!(
            leases.iter().all(|lease| lease.owner.is_none()),
            "{leases:#?}"
        );
    }
}

// === hand-overs ===

fn of<'a>(leases: &'a [Lease], worker: &str) -> Vec<&'a Lease> {
    let of_worker = |lease: &&Lease| lease.owner.as_deref() == Some(worker);
    leases.iter().filter(of_worker).collect()
}

/// Many leases, and a joiner that is stopped, or killed, in the middle of getting its half.
#[rstest]
#[tokio::test(start_paused = true)]
async fn nobody_hands_leases_to_a_joiner_that_is_gone(
    #[values(500, 1500, 3000, 4000, 5000, 6000)] after: u64,
    #[values(true, false)] in_order: bool,
) {
    let world = World::new(60);
    let first = world.start(config("a"), checkpointing());
    sleep(seconds(61)).await;
    let joiner = world.start(config("b"), checkpointing());
    sleep(Duration::from_millis(after)).await;
    let before = of(&world.table().leases(), "b").len();
    if in_order {
        joiner.stop().await.unwrap();
        let leases = world.table().leases();
        assert!(of(&leases, "b").is_empty(), "{after}: {leases:#?}");
        assert!(
            leases.iter().all(|lease| lease.handover_to.is_none()),
            "{leases:#?}"
        );
    } else {
        joiner.kill().await;
    }
    let mut most = 0;
    for _ in 0..60 {
        sleep(Duration::from_millis(500)).await;
        let leases = world.table().leases();
        most = most.max(of(&leases, "b").len());
    }
    if in_order {
        assert_eq!(most, 0, "{after}");
    } else {
        // What it held, what was on its way, and what shows whether it lives.
        assert!(before == 0 || most >= before);
        assert!(before > 0 || most <= 1, "{after}: {most}");
    }
    assert_eq!(
        of(&world.table().leases(), "a").len(),
        60,
        "all are at work again"
    );
    first.stop().await.unwrap();
}

/// It asks for its half of the leases, all but the first one, and is killed at once: no request of
/// its keeps them from whoever comes next.
#[tokio::test(start_paused = true)]
async fn a_joiner_that_is_gone_stands_in_nobodys_way() {
    let world = World::new(60);
    let first = world.start(config("a"), checkpointing());
    sleep(seconds(61)).await;
    let joiner = world.start(config("b"), checkpointing());
    let asked = || {
        let leases = world.table().leases().into_iter();
        let asked = leases.filter(|lease| lease.handover_to.as_deref() == Some("b"));
        asked.count()
    };
    while asked() < 20 {
        assert!(world.now() < seconds(71), "{:#?}", world.table().leases());
        sleep(Duration::from_millis(1)).await;
    }
    joiner.kill().await;
    (0..60).for_each(|index| world.put(index, 1));
    sleep(seconds(20)).await;
    assert_eq!(of(&world.table().leases(), "a").len(), 60, "none is parked");
    (0..60).for_each(|index| assert_eq!(world.delivered(index), [0], "{index}"));
    let second = world.start(config("c"), checkpointing());
    sleep(seconds(15)).await;
    assert_eq!(of(&world.table().leases(), "c").len(), 30);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// A batch takes half a minute; who asked for the lease meanwhile leaves before it ends.
#[rstest]
#[case::stopped(true)]
#[case::killed(false)]
#[tokio::test(start_paused = true)]
async fn a_granted_hand_over_is_judged_again_after_a_long_batch(#[case] in_order: bool) {
    let world = World::new(4);
    let slow: Answer = std::sync::Arc::new(|_, _, checkpointer| {
        Box::pin(async move {
            sleep(seconds(30)).await;
            Ok(checkpointer.checkpoint().await?)
        })
    });
    let first = world.start(config("a"), slow);
    sleep(seconds(61)).await;
    (0..3).for_each(|index| world.put(index, 1));
    sleep(seconds(2)).await;
    let joiner = world.start(config("b"), checkpointing());
    sleep(seconds(12)).await;
    if in_order {
        joiner.stop().await.unwrap();
    } else {
        joiner.kill().await;
    }
    sleep(seconds(60)).await;
    let given = |told: &&Told| {
        told.at > seconds(61 + 14) && matches!(told.what, What::Event(Event::HandedOver { .. }))
    };
    // A killed one that has shown no life yet may get one, and no more when that expires.
    let most = usize::from(!in_order);
    assert!(world.told().iter().filter(given).count() <= most);
    let leases = world.table().leases();
    assert_eq!(of(&leases, "a").len(), 4, "{leases:#?}");
    (0..4).for_each(|index| world.put(index, 1));
    sleep(seconds(70)).await;
    assert_eq!(world.delivered(0), [0, 1]);
    assert!(world.table().lease(shard(3)).is_some());
    first.stop().await.unwrap();
}

/// Calls take turns: all leases are free when the worker has ended, also where batches in work have
/// to be dropped.
#[rstest]
#[case::idle(false, 0)]
#[case::hanging(true, 20)]
#[tokio::test(start_paused = true)]
async fn hundreds_of_leases_go_within_the_last_second(#[case] hangs: bool, #[case] deadline: u64) {
    const TURNS: usize = 24;
    let call = Duration::from_millis(10);
    let world = World::new(500);
    (0..500).for_each(|index| world.put(index, 3));
    let turns = Mutex::new([Instant::now(); TURNS]);
    let table = world.table().with_faults(move |asked| {
        let mut turns = turns.lock().unwrap();
        let (now, next) = (Instant::now(), turns.iter_mut().min().unwrap());
        if asked.key.is_none() {
            return Fault::default();
        }
        *next = now.max(*next) + call;
        Fault {
            before: *next - now,
            ..Fault::default()
        }
    });
    let answer: Answer = Arc::new(move |_, _, checkpointer| {
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(checkpointer.checkpoint().await?)
        })
    });
    let worker = world.start_on(config("a"), table, answer);
    sleep(seconds(30)).await;
    assert_eq!(of(&world.table().leases(), "a").len(), 500);
    let asked = Instant::now();
    worker.stop().await.unwrap();
    let took = asked.elapsed();
    assert!(took < seconds(deadline + 1), "{took:?}");
    assert!(of(&world.table().leases(), "a").is_empty());
}
