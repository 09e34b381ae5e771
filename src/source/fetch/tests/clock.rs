//! Ages are told by one clock, which nobody sets.

use jiff::SignedDuration;
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_verdict_that_stands_in_says_of_when_it_is() {
    let fake = Fake::new(&["0", "1"]);
    fake.record("0", 5);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;
    let as_of =
        |seen: &ApplicationSnapshot, shard: usize| seen.shards[shard].probe.as_ref().unwrap().as_of;
    // Found unread a minute ago, and seen to stand still until now.
    advance(Duration::from_secs(60)).await;
    let held = fetch(&mut fetcher, LAG).await;
    assert_eq!((as_of(&held, 0), as_of(&held, 1)), (None, None));
    fake.world().fails = Some(ReadError::Throttled);
    fake.lease("0", at(3));
    advance(Duration::from_secs(15)).await;
    let seen = fetch(&mut fetcher, LAG).await;
    for shard in 0..2 {
        assert_eq!(as_of(&seen, shard), Some(held.time), "{shard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_nothing_older() {
    // Hours pass, and the machine's clock hardly moves: it is set back before each look.
    let fake = Fake::new(&["0", "1"]);
    fake.record("0", 5);
    let mut fetcher = fake.fetcher();
    let first = fetch(&mut fetcher, LAG).await;
    for hours in 1..=4 {
        advance(Duration::from_secs(3600)).await;
        fake.world().now = 1_000_000 + hours * 3_600_000;
        fake.world().fails = (hours > 2).then_some(ReadError::Throttled);
        let seen = fetch(&mut fetcher, LAG).await;
        let time = seen.lag.as_ref().unwrap().time;
        let passed = SignedDuration::from_hours(hours as i64);
        assert_eq!(time.duration_since(first.time), passed);
        assert_eq!(seen.time_at(Instant::now()), time);
        assert_eq!(seen.aws_ahead, first.aws_ahead);
        let as_of = seen.shards[1].probe.as_ref().unwrap().as_of;
        let hours_old = as_of.map_or(0, |as_of| time.duration_since(as_of).as_hours());
        assert_eq!(hours_old, hours.saturating_sub(2) as i64);
    }
}
