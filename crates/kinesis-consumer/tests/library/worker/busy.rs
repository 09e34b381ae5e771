//! How busy a worker says that it is, where its shards share what limits them and where they do
//! not.

use std::{sync::Arc, time::Duration};

use rstest::rstest;
use tokio::{sync::Semaphore, time::sleep};

use super::world::{Answer, World, checkpointing, config};

const SHARDS: usize = 6;
/// What a record costs.
const WORK: Duration = Duration::from_millis(10);

/// A processor for whose records there are so many `cores`, however many shards want them.
fn on_cores(cores: usize) -> Answer {
    let cores = Arc::new(Semaphore::new(cores));
    Arc::new(move |_, ordinals, checkpointer| {
        let cores = Arc::clone(&cores);
        Box::pin(async move {
            for _ in ordinals {
                let _core = cores.acquire().await?;
                sleep(WORK).await;
            }
            Ok(checkpointer.checkpoint().await?)
        })
    })
}

/// What every lease of worker `a` says, after a minute of so many records a second to each shard.
async fn said(world: &World, records: usize) -> Vec<Option<f64>> {
    for _ in 0..60 {
        (0..SHARDS).for_each(|shard| world.put(shard, records));
        sleep(Duration::from_secs(1)).await;
    }
    let leases = world.table().leases();
    assert!(
        leases
            .iter()
            .all(|lease| lease.owner.as_deref() == Some("a"))
    );
    leases.iter().map(|lease| lease.busy()).collect()
}

/// One core is in use for a quarter, half, nine tenths, all of the time; so are two, by twice as
/// much; and where nothing is shared (as many cores as shards), each shard can do a hundred records
/// a second by itself.
#[rstest]
#[case::a_quarter(1, 4, 0.24)]
#[case::half(1, 8, 0.48)]
#[case::nearly_all(1, 15, 0.9)]
#[case::overrun(1, 25, 1.0)]
#[case::half_of_two_cores(2, 16, 0.48)]
#[case::two_overrun(2, 50, 1.0)]
#[case::nothing_shared(SHARDS, 48, 0.48)]
#[case::nothing_shared_and_overrun(SHARDS, 120, 1.0)]
#[tokio::test(start_paused = true)]
async fn is_the_use_of_what_the_shards_share(
    #[case] cores: usize,
    #[case] records: usize,
    #[case] want: f64,
) {
    let world = World::new(SHARDS);
    let mut config = config("a");
    config.parallelism = cores;
    let worker = world.start(config, on_cores(cores));
    for said in said(&world, records).await {
        let said = said.expect("known after a minute");
        assert!((said - want).abs() <= 0.1, "{said}, not {want}");
    }
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn is_said_with_writes_that_happen_anyway_and_by_the_holder_alone() {
    let world = World::new(SHARDS);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(9)).await;
    let leases = world.table().leases();
    assert!(
        leases.iter().all(|lease| lease.busy().is_none()),
        "too early to say: {leases:?}"
    );
    assert_eq!(said(&world, 0).await, [Some(0.0); SHARDS]);
    let before = world.table().calls();
    sleep(Duration::from_secs(35)).await;
    let calls = world.table().calls();
    assert_eq!(calls["renew"] - before["renew"], 10 * SHARDS as u64);
    worker.stop().await.unwrap();
    for lease in world.table().leases() {
        assert_eq!((lease.owner, lease.busy_permille), (None, None));
    }
}
