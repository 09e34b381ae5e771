//! How long a source is watched that nobody asks about.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_is_not_asked_for_ten_minutes_ends() {
    let aws = Scripted::new(&[Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    watchers.open_shards("a", &source("orders")).await.unwrap();
    pass(MINUTE * 9).await;
    assert_eq!(watchers.counts().fresh, 1);
    pass(MINUTE * 2).await;
    assert_eq!(watchers.counts(), WatcherCounts::default());
    let asked = aws.asked();
    pass(MINUTE * 60).await;
    assert_eq!(aws.asked(), asked, "the task is gone too");
    assert_eq!(
        watchers.open_shards("a", &source("orders")).await.unwrap(),
        4,
        "and starts anew"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_seldom_is_given_three_intervals() {
    let aws = Scripted::new(&[Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    for _ in 0..3 {
        watchers.open_shards("a", &source("orders")).await.unwrap();
        pass(MINUTE * 9).await;
    }
    pass(MINUTE * 17).await;
    assert_eq!(
        watchers.counts().fresh,
        1,
        "26 minutes after the last question"
    );
    pass(MINUTE * 2).await;
    assert_eq!(
        watchers.counts().fresh,
        0,
        "28 minutes after the last question"
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_push_stream_counts_as_asking() {
    let aws = Scripted::new(&[Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    let following = watchers
        .subscribe("a", &trigger(&source("orders")))
        .unwrap();
    pass(MINUTE * 60).await;
    assert_eq!(watchers.counts().fresh, 1);
    drop(following);
    pass(MINUTE * 11).await;
    assert_eq!(watchers.counts().fresh, 0);
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_push_stream_is_no_pause_between_questions() {
    let demand = Demand::new(MINUTE * 10);
    assert_eq!(demand.follow(None), None);
    pass(MINUTE * 60 * 24).await;
    demand.ask(None);
    demand.unfollow(None);
    pass(MINUTE * 11).await;
    assert!(demand.is_idle());
}
