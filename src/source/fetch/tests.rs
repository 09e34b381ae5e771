//! An application's life over an in-memory stream and lease table: what is asked, and what is seen.

mod clock;
mod failing;
mod property;
mod streams;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_consumer::{
    Checkpoint, Position, SequenceNumber, ShardId,
    lease::Lease,
    shards::{HashRange, Readability, Shard, StartFrom},
};
use tokio::time::advance;

use self::world::{Fake, LAG, QUICK, at, fetch, number, readable, time, unread, verdict};
use super::*;
use crate::{
    error::SourceErrorKind,
    source::{
        probe::Verdict,
        shards::{Leases, Peek, ReadError, Reads},
        snapshot::{ApplicationSnapshot, examples::source},
    },
};

#[tokio::test(start_paused = true)]
async fn readable_shards_need_no_look_at_records() {
    let fake = Fake::new(&["0", "1"]);
    let mut fetcher = fake.fetcher();
    let seen = fetch(&mut fetcher, FetchRequest::default()).await;
    assert_eq!(readable(&seen), ["0", "1"]);
    assert!(seen.lag.is_none());
    assert!(fake.peeked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unread_shard_is_asked_again_when_its_checkpoint_moved_and_a_caught_up_one_every_time() {
    let fake = Fake::new(&["0", "1"]);
    fake.record("0", 5);
    let mut fetcher = fake.fetcher();
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), unread(5));
    assert_eq!(verdict(&seen, "1"), Some(Verdict::CaughtUp));
    assert_eq!(fake.peeked(), ["0", "1"]);

    fetch(&mut fetcher, LAG).await;
    assert_eq!(fake.peeked(), ["1"]);

    fake.lease("0", at(5));
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), Some(Verdict::CaughtUp));
    assert_eq!(fake.peeked(), ["0", "1"]);
    assert!(seen.is_idle());
}

#[tokio::test(start_paused = true)]
async fn an_iterator_serves_as_long_as_it_lives() {
    let fake = Fake::new(&["0"]);
    let mut fetcher = fake.fetcher();
    for _ in 0..10 {
        fetch(&mut fetcher, LAG).await;
        advance(Duration::from_secs(15)).await;
    }
    assert_eq!(fake.world().iterators, 1);
    advance(Duration::from_secs(300)).await;
    fetch(&mut fetcher, LAG).await;
    assert_eq!(fake.world().iterators, 2, "the old one has expired");
    assert_eq!(fake.peeked().len(), 11, "and costs no page");
}

#[tokio::test(start_paused = true)]
async fn what_was_found_unread_is_as_fresh_as_its_checkpoint() {
    let fake = Fake::new(&["0"]);
    fake.record("0", 5);
    let mut fetcher = fake.fetcher();
    for _ in 0..50 {
        let seen = fetch(&mut fetcher, LAG).await;
        let shard = &seen.shards[0];
        let as_of = shard.probe.as_ref().unwrap().as_of;
        assert_eq!((shard.unread_since(), as_of), (Some(time(5)), None));
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(fake.peeked(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_quick_look_lists_nothing() {
    let fake = Fake::new(&["0"]);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;
    fake.record("0", 9);
    advance(Duration::from_secs(5)).await;
    let seen = fetch(&mut fetcher, QUICK).await;
    assert_eq!(verdict(&seen, "0"), unread(9));
    let world = fake.world();
    assert_eq!((world.lists, world.scans), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reshard_is_worked_through_parents_first() {
    let fake = Fake::new(&["0"]);
    fake.lease("0", at(4));
    fake.record("0", 5);
    fake.record("1", 6);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;

    fake.shard("1", &["0"]);
    fake.shard("2", &["0"]);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(readable(&seen), ["0"], "the children must wait");
    assert_eq!(verdict(&seen, "0"), unread(5));
    assert_eq!(verdict(&seen, "1"), None);

    fake.lease("0", at(5));
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), Some(Verdict::Drained));
    assert!(!seen.is_idle(), "somebody must write SHARD_END");

    fake.lease("0", Checkpoint::ShardEnd);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(readable(&seen), ["1", "2"], "also before they have leases");
    assert_eq!(verdict(&seen, "1"), unread(6));
    assert_eq!(verdict(&seen, "2"), Some(Verdict::CaughtUp));
    let finished = seen.shards.iter().find(|shard| shard.id == "0").unwrap();
    assert_eq!(finished.readability, Readability::Finished);
    assert_eq!(finished.probe, None);
}

#[tokio::test(start_paused = true)]
async fn an_application_without_leases_is_not_looked_into() {
    let fake = Fake::new(&["0"]);
    fake.world().leases = None;
    let mut fetcher = fake.fetcher();
    assert!(fetch(&mut fetcher, LAG).await.is_new());
    fake.world().leases = Some(Vec::new());
    assert!(fetch(&mut fetcher, LAG).await.is_new());
    assert!(fake.peeked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_arrives_at_latest_while_nobody_reads_counts() {
    let fake = Fake::new(&["0"]);
    fake.lease("0", Checkpoint::Latest);
    fake.world().leases.as_mut().unwrap()[0].owner = None;
    (3..10).for_each(|place| fake.record("0", place));
    fake.world().now = 7;
    let mut fetcher = fake.fetcher();
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(
        verdict(&seen, "0"),
        unread(7),
        "counted since the first look"
    );
    assert_eq!(seen.lag.as_ref().unwrap().latest, Some((1, time(7))));
    fake.world().now = 1_000;
    fake.lease("0", Checkpoint::Latest);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), unread(7), "it is what wakes a worker");
    // Which starts at the tip.
    fake.world().leases.as_mut().unwrap()[0].owner = Some("pod".to_owned());
    fake.lease("0", Checkpoint::Latest);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), Some(Verdict::CaughtUp));
    // What it has not checkpointed counts.
    fake.record("0", 1_001);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), unread(1_001));
    // A checkpoint says more.
    fake.lease("0", at(1_001));
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), Some(Verdict::CaughtUp));
    assert_eq!(seen.lag.as_ref().unwrap().latest, None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_yet_will_start_like_all_others() {
    for start in [Checkpoint::AtTimestamp, Checkpoint::Latest] {
        let fake = Fake::new(&["0"]);
        fake.lease("0", start.clone());
        fake.shard("1", &[]);
        fake.world().now = 5;
        fake.record("1", 3);
        let source = ApplicationSource {
            initial_timestamp: Some(time(5)),
            ..source()
        };
        let mut fetcher = ApplicationFetcher::new(source, Arc::new(fake.clone()));
        let seen = fetch(&mut fetcher, LAG).await;
        assert_eq!(verdict(&seen, "1"), Some(Verdict::CaughtUp), "{start}");
        fake.record("1", 8);
        let seen = fetch(&mut fetcher, LAG).await;
        assert_eq!(verdict(&seen, "1"), unread(8), "{start}");
        // Somebody deleted a lease of an application that got going.
        fake.lease("0", at(1));
        let seen = fetch(&mut fetcher, LAG).await;
        assert_eq!(verdict(&seen, "1"), unread(3), "{start}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_that_kinesis_has_yet_to_see_is_not_read_from_the_oldest_record_on() {
    let fake = Fake::new(&["0"]);
    fake.lease("0", Checkpoint::AtTimestamp);
    fake.record("0", 3);
    fake.world().now = 5;
    let source = ApplicationSource {
        initial_timestamp: Some(time(7)),
        ..source()
    };
    let mut fetcher = ApplicationFetcher::new(source, Arc::new(fake.clone()));
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), Some(Verdict::CaughtUp));
    assert!(fake.peeked().is_empty());
    fake.world().now = 9;
    fake.record("0", 8);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), unread(8));
}

#[tokio::test(start_paused = true)]
async fn owners_are_believed_once_and_confirmed_by_a_renewal() {
    let fake = Fake::new(&["0", "1"]);
    let mut fetcher = fake.fetcher();
    let seen = fetch(&mut fetcher, LAG).await;
    assert!(seen.is_first_look);
    advance(Duration::from_secs(5)).await;
    fake.lease("0", Checkpoint::TrimHorizon);
    let seen = fetch(&mut fetcher, LAG).await;
    assert!(!seen.is_first_look);
    let leases = seen
        .shards
        .iter()
        .map(|shard| shard.lease.as_ref().unwrap());
    let leases: Vec<_> = leases.map(|it| (it.live, it.confirmed)).collect();
    assert_eq!(leases, [(true, true), (true, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_without_a_shard_to_read_is_no_idle_one() {
    // Its leases are of an older stream of this name, and the shards differ.
    let fake = Fake::new(&["0", "1"]);
    fake.lease("0", Checkpoint::ShardEnd);
    fake.lease("1", Checkpoint::ShardEnd);
    let mut fetcher = fake.fetcher();
    for code in ["RacedAReshard", "StreamMadeAnew", "StreamMadeAnew"] {
        assert_eq!(fetcher.fetch(LAG).await.unwrap_err().code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_now_here_now_there_is_none_of_the_whole() {
    let fake = Fake::new(&["0", "1"]);
    let mut fetcher = fake.fetcher();
    let failing = |shard: &str| {
        fake.world().fails_for = Some(shard.to_owned());
        fake.world().fails = Some(ReadError::Failed(Box::new(
            SourceErrorKind::Timeout.example(),
        )));
    };
    for shard in ["0", "1", "0", "1", "0"] {
        failing(shard);
        let seen = fetch(&mut fetcher, LAG).await;
        let failure = seen.lag.as_ref().unwrap().failure.as_ref().unwrap();
        assert!(failure.since.elapsed() < Duration::from_secs(1), "{shard}");
        advance(Duration::from_secs(15)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn quick_looks_ask_a_shard_no_more_often_than_its_readers_can_bear() {
    let fake = Fake::new(&["0"]);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;
    for _ in 0..100 {
        fetch(&mut fetcher, QUICK).await;
        advance(Duration::from_millis(100)).await;
    }
    let asked = fake.peeked().len();
    assert!((3..=4).contains(&asked), "{asked} pages in 10 s");
}

#[tokio::test(start_paused = true)]
async fn leases_of_an_older_stream_of_the_same_name_are_told() {
    let fake = Fake::new(&["0"]);
    fake.lease("0", Checkpoint::ShardEnd);
    let mut fetcher = fake.fetcher();
    // A list may lag behind a reshard: no answer either.
    let error = fetcher.fetch(LAG).await.unwrap_err();
    assert_eq!(error.code, "RacedAReshard");
    let error = fetcher.fetch(LAG).await.unwrap_err();
    assert_eq!(error.code, "StreamMadeAnew");
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_counter_stands_still_is_no_holder() {
    let fake = Fake::new(&["0", "1"]);
    let mut fetcher = fake.fetcher();
    let owners = |seen: &ApplicationSnapshot| -> Vec<Option<String>> {
        let leases = seen.shards.iter().map(|shard| shard.lease.as_ref());
        let live = leases.map(|lease| lease.filter(|lease| lease.live));
        live.map(|lease| lease?.owner.clone()).collect()
    };
    let pod = Some("pod".to_owned());
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(
        owners(&seen),
        [pod.clone(), pod.clone()],
        "believed at first"
    );
    for _ in 0..4 {
        advance(Duration::from_secs(15)).await;
        fake.lease("0", Checkpoint::TrimHorizon);
        fetch(&mut fetcher, LAG).await;
    }
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(owners(&seen), [pod, None]);
}

#[tokio::test(start_paused = true)]
async fn without_leases_since_they_were_first_looked_for() {
    let fake = Fake::new(&["0"]);
    let leases = fake.world().leases.take();
    let mut fetcher = fake.fetcher();
    let seconds = |seen: &ApplicationSnapshot| Some(seen.no_leases_since?.elapsed().as_secs());
    assert_eq!(seconds(&*fetch(&mut fetcher, LAG).await), Some(0));
    advance(Duration::from_secs(60)).await;
    assert_eq!(seconds(&*fetch(&mut fetcher, LAG).await), Some(60));
    // A table without a lease of the stream is no more than none.
    fake.world().leases = Some(Vec::new());
    advance(Duration::from_secs(60)).await;
    assert_eq!(seconds(&*fetch(&mut fetcher, LAG).await), Some(120));
    fake.world().leases = leases;
    assert_eq!(seconds(&*fetch(&mut fetcher, LAG).await), None);
    fake.world().leases = Some(Vec::new());
    assert_eq!(seconds(&*fetch(&mut fetcher, LAG).await), Some(0));
}

#[tokio::test(start_paused = true)]
async fn records_before_the_initial_timestamp_are_not_unread() {
    let fake = Fake::new(&["0", "1"]);
    for shard in ["0", "1"] {
        fake.lease(shard, Checkpoint::AtTimestamp);
        fake.record(shard, 3);
    }
    fake.record("1", 8);
    let all = fetch(&mut fake.fetcher(), LAG).await;
    let of = |seen, shard| verdict(seen, shard);
    assert_eq!((of(&all, "0"), of(&all, "1")), (unread(3), unread(3)));

    let source = ApplicationSource {
        initial_timestamp: Some(time(5)),
        ..source()
    };
    let mut fetcher = ApplicationFetcher::new(source, Arc::new(fake.clone()));
    let since = fetch(&mut fetcher, LAG).await;
    let caught_up = Some(Verdict::CaughtUp);
    assert_eq!((of(&since, "0"), of(&since, "1")), (caught_up, unread(8)));
    // Once there is a checkpoint, that counts.
    fake.lease("1", at(3));
    fake.record("0", 9);
    let later = fetch(&mut fetcher, LAG).await;
    assert_eq!((of(&later, "0"), of(&later, "1")), (unread(9), unread(8)));
}
