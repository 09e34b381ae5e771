//! What is told while AWS fails, and how often it is asked then.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_known_error_is_told_at_once_and_aws_is_asked_again_soon() {
    let aws = Scripted::new(&[Says::Fails(SourceErrorKind::Throttled), Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    let started = Instant::now();
    for _ in 0..2 {
        let error = watchers
            .open_shards("a", &source("orders"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    pass(Duration::from_secs(2)).await;
    assert_eq!(
        watchers.open_shards("a", &source("orders")).await.unwrap(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_stands_in_for_max_stale() {
    let aws = Scripted::new(&[Says::Count(4), Says::Fails(SourceErrorKind::Unavailable)]);
    let watchers = aws.watchers(|_| {});
    let started = Instant::now();
    while started.elapsed() < MINUTE {
        assert_eq!(
            watchers.open_shards("a", &source("orders")).await.unwrap(),
            4
        );
        pass(Duration::from_secs(1)).await;
    }
    pass(Duration::from_secs(1)).await;
    let error = watchers
        .open_shards("a", &source("orders"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    *aws.script.lock().unwrap() = [Says::Count(5)].into();
    pass(REFRESH * 2).await;
    assert_eq!(
        watchers.open_shards("a", &source("orders")).await.unwrap(),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn without_max_stale_a_failed_refresh_is_told_at_once() {
    let aws = Scripted::new(&[Says::Count(4), Says::Fails(SourceErrorKind::Unavailable)]);
    let watchers = aws.watchers(|pace| {
        *pace = Pace::from(&AwsConfig {
            max_stale: Duration::ZERO,
            ..AwsConfig::default()
        });
    });
    while aws.asked() < 2 {
        let answer = watchers.open_shards("a", &source("orders")).await;
        assert_eq!(answer.unwrap(), 4, "until the refresh fails");
        pass(Duration::from_millis(500)).await;
    }
    let error = watchers.open_shards("a", &source("orders")).await;
    assert_eq!(error.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_believed_when_seen_twice() {
    for kind in [SourceErrorKind::NotFound, SourceErrorKind::AccessDenied] {
        let aws = Scripted::new(&[Says::Count(4), Says::Fails(kind)]);
        let watchers = aws.watchers(|_| {});
        let mut seen = Vec::new();
        while aws.asked() < 4 {
            seen.push(watchers.open_shards("a", &source("orders")).await.ok());
            pass(Duration::from_millis(500)).await;
        }
        assert!(watchers.open_shards("a", &source("orders")).await.is_err());
        assert!(
            seen.iter().filter(|answer| answer.is_some()).count() > 25,
            "not at once: {seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_must_be_in_a_row() {
    use SourceErrorKind::{NotFound, Unavailable};
    let script = [
        Says::Count(4),
        Says::Fails(NotFound),
        Says::Fails(Unavailable),
        Says::Fails(NotFound),
        Says::Count(4),
    ];
    let aws = Scripted::new(&script);
    let watchers = aws.watchers(|_| {});
    while aws.asked() < 6 {
        assert_eq!(
            watchers.open_shards("a", &source("orders")).await.unwrap(),
            4
        );
        pass(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn retries_slow_down_to_the_refresh() {
    let aws = Scripted::new(&[Says::Fails(SourceErrorKind::Unavailable)]);
    let watchers = aws.watchers(|_| {});
    let _ = watchers.subscribe("a", &trigger(&source("orders")));
    let _following = watchers
        .subscribe("a", &trigger(&source("orders")))
        .unwrap();
    pass(MINUTE).await;
    let in_a_minute = aws.asked();
    // At 0, 1, 3, 7, 15, then every 15 s.
    assert!((6..=9).contains(&in_a_minute), "{in_a_minute} calls");
    pass(MINUTE * 10).await;
    let later = aws.asked() - in_a_minute;
    assert!((36..=45).contains(&later), "{later} calls");
}
