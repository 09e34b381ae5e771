//! Several streams in one lease table: each is judged by itself.

use super::*;
use crate::source::snapshot::Table;

const ORDERS: &str = "1:orders:100:shardId-0";
const PAYMENTS: &str = "1:payments:100:shardId-0";

/// `orders` was deleted and made anew: its shard begins after its lease's checkpoint.
fn orders_made_anew(fake: &Fake) {
    let mut world = fake.world();
    world.is_of_several = true;
    let orders = world.shards.iter_mut().find(|shard| shard.id == ORDERS);
    orders.unwrap().starting_sequence_number = number(10);
    drop(world);
    fake.lease(ORDERS, at(5));
}

fn older(seen: &ApplicationSnapshot) -> (usize, usize) {
    match seen.table {
        Table::Read { leases, older, .. } => (leases, older),
        Table::Missing => panic!("there is a table"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_made_anew_counts_as_one_without_leases() {
    // In the table's order, which is none.
    let fake = Fake::new(&[ORDERS, PAYMENTS]);
    fake.lease("1:orders:100:shardId-1", Checkpoint::ShardEnd);
    orders_made_anew(&fake);
    fake.lease(PAYMENTS, at(3));
    fake.record(ORDERS, 12);
    fake.record(PAYMENTS, 3);
    let mut fetcher = fake.fetcher();
    // A list may lag behind a reshard.
    let error = fetcher.fetch(LAG).await.unwrap_err();
    assert_eq!(error.code, "RacedAReshard");
    assert!(error.message.contains(ORDERS), "{error}");
    for _ in 0..3 {
        let seen = fetch(&mut fetcher, LAG).await;
        assert_eq!(readable(&seen), [ORDERS, PAYMENTS]);
        assert_eq!(verdict(&seen, ORDERS), unread(12));
        assert_eq!(verdict(&seen, PAYMENTS), Some(Verdict::CaughtUp));
        assert!(seen.shards[0].lease.is_none() && seen.shards[1].lease.is_some());
        assert_eq!(older(&seen), (1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_whose_only_stream_was_made_anew_is_no_new_one() {
    let fake = Fake::new(&[ORDERS]);
    orders_made_anew(&fake);
    fake.record(ORDERS, 12);
    let mut fetcher = fake.fetcher();
    assert!(fetcher.fetch(LAG).await.is_err());
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(older(&seen), (0, 1));
    assert!(!seen.is_new() && seen.no_leases_since.is_none());
    assert_eq!(verdict(&seen, ORDERS), unread(12));
    assert!(seen.known_lag().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_list_of_an_earlier_look_proves_nothing() {
    let fake = Fake::new(&[ORDERS, PAYMENTS]);
    fake.world().is_of_several = true;
    fake.world().kept = Some("1:orders:100".to_owned());
    fake.lease(ORDERS, Checkpoint::ShardEnd);
    let mut fetcher = fake.fetcher();
    for _ in 0..5 {
        let error = fetcher.fetch(LAG).await.unwrap_err();
        assert_eq!(error.code, "RacedAReshard");
    }
}
