//! A worker that stops: when, and what it leaves behind.

use std::time::Duration;

use kinesis_consumer::test_util::Fault;
use rstest::rstest;
use tokio::time::{Instant, sleep};

use super::world::{World, checkpointing, config};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

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
