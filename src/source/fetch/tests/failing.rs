//! What fails, for one shard or for all.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_throttled_shard_keeps_its_verdict() {
    let fake = Fake::new(&["0"]);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;
    fake.world().fails = Some(ReadError::Throttled);
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(verdict(&seen, "0"), Some(Verdict::CaughtUp));
    let lag = seen.lag.as_ref().unwrap();
    assert!(lag.failure.is_none(), "the shard is busy, that is all");
    let probe = seen.shards[0].probe.as_ref().unwrap();
    assert!(probe.as_of.is_some(), "and the verdict is of then");
}

#[tokio::test(start_paused = true)]
async fn a_first_look_that_is_throttled_leaves_the_shard_undecided() {
    let fake = Fake::new(&["0", "1"]);
    fake.world().fails = Some(ReadError::Throttled);
    let mut fetcher = fake.fetcher();
    let seen = fetch(&mut fetcher, LAG).await;
    let lag = seen.lag.as_ref().unwrap();
    assert_eq!(lag.undecided, 2);
    fake.world().fails = None;
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(seen.lag.as_ref().unwrap().undecided, 0);
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_with_how_long_it_lasts() {
    let fake = Fake::new(&["0"]);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;
    fake.world().fails = Some(ReadError::Failed(Box::new(
        SourceErrorKind::AccessDenied.example(),
    )));
    for times in 1..4 {
        let seen = fetch(&mut fetcher, LAG).await;
        let failure = seen.lag.as_ref().unwrap().failure.as_ref().unwrap();
        assert_eq!(failure.in_a_row, times);
        assert_eq!(
            failure.since.elapsed(),
            Duration::from_secs(15) * (times - 1)
        );
        advance(Duration::from_secs(15)).await;
    }
    fake.world().fails = None;
    let seen = fetch(&mut fetcher, LAG).await;
    assert!(seen.lag.as_ref().unwrap().failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn one_shard_that_is_denied_keeps_none_of_the_others_from_being_asked() {
    let fake = Fake::new(&["0", "1", "2", "3"]);
    fake.record("1", 5);
    fake.world().fails_for = Some("2".to_owned());
    fake.world().fails = Some(ReadError::Failed(Box::new(
        SourceErrorKind::AccessDenied.example(),
    )));
    let mut fetcher = fake.fetcher();
    for _ in 0..5 {
        fetch(&mut fetcher, LAG).await;
        advance(Duration::from_secs(15)).await;
    }
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(seen.lag.as_ref().unwrap().undecided, 1);
    assert_eq!(verdict(&seen, "1"), unread(5));
    assert_eq!(verdict(&seen, "2"), None);
    assert_eq!(verdict(&seen, "3"), Some(Verdict::CaughtUp));
}

/// Of 40 shards 20 fail so: each of the others is asked every time, cold or known before.
async fn half_fail_and_hold_up_nobody(kind: SourceErrorKind, warm: bool) {
    let ids: Vec<_> = (0..40).map(|number| format!("{number:02}")).collect();
    let fake = Fake::new(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let mut fetcher = fake.fetcher();
    if warm {
        fetch(&mut fetcher, LAG).await;
    }
    fake.world().fails_for_those_before = Some("20".to_owned());
    fake.world().fails = Some(ReadError::Failed(Box::new(kind.example())));
    // One of them is enough to end a first round.
    for _ in 0..21 {
        advance(Duration::from_secs(15)).await;
        fetch(&mut fetcher, LAG).await;
    }
    fake.record("30", 5);
    fake.peeked();
    let seen = fetch(&mut fetcher, LAG).await;
    let peeked = fake.peeked();
    let healthy = peeked.iter().filter(|id| id.as_str() >= "20");
    assert_eq!(healthy.count(), 20, "{kind:?}, {warm}: {peeked:?}");
    if kind == SourceErrorKind::AccessDenied {
        advance(Duration::from_secs(3)).await;
        fetch(&mut fetcher, QUICK).await;
        assert!(fake.peeked().is_empty(), "once a refresh is enough");
    }
    assert_eq!(verdict(&seen, "30"), unread(5));
}

#[tokio::test(start_paused = true)]
async fn many_shards_that_fail_keep_none_of_the_others_from_being_asked() {
    for kind in [SourceErrorKind::AccessDenied, SourceErrorKind::Timeout] {
        for warm in [false, true] {
            half_fail_and_hold_up_nobody(kind, warm).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_on_all_shards_is_tried_on_a_few_at_a_time() {
    let ids: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let fake = Fake::new(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    fake.world().fails = Some(ReadError::Failed(Box::new(
        SourceErrorKind::AccessDenied.example(),
    )));
    let mut fetcher = fake.fetcher();
    for _ in 0..20 {
        fetch(&mut fetcher, LAG).await;
        assert!(fake.peeked().len() <= 16);
        advance(Duration::from_secs(15)).await;
    }
    fake.world().fails = None;
    let seen = fetch(&mut fetcher, LAG).await;
    assert_eq!(seen.lag.as_ref().unwrap().undecided, 0, "allowed again");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_before_throttling_is_over() {
    let fake = Fake::new(&["0"]);
    let mut fetcher = fake.fetcher();
    fetch(&mut fetcher, LAG).await;
    fake.world().fails = Some(ReadError::Failed(Box::new(
        SourceErrorKind::Timeout.example(),
    )));
    let seen = fetch(&mut fetcher, LAG).await;
    assert!(seen.lag.as_ref().unwrap().failure.is_some());
    for answer in [ReadError::Throttled, ReadError::ExpiredIterator] {
        fake.world().fails = Some(answer);
        advance(Duration::from_secs(15)).await;
        let seen = fetch(&mut fetcher, LAG).await;
        assert!(seen.lag.as_ref().unwrap().failure.is_none());
        assert_eq!(verdict(&seen, "0"), Some(Verdict::CaughtUp));
    }
}
