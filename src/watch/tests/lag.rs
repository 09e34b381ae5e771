//! Decisions about lag: a memory for each distinct settings, also of those that are new while a
//! fetch hangs.

use std::future::pending;

use right_sizing::Settings;

use super::*;
use crate::source::snapshot::{
    ApplicationSnapshot,
    examples::{caught_up, lag_trigger, source},
};

/// An application that is caught up, whose fetches can be made to hang.
#[derive(Clone, Debug, Default)]
struct Application {
    fetches: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl Application {
    fn watchers(&self) -> Watchers {
        Watchers::new(Pace::from(&AwsConfig::default()), self.clone(), None)
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

impl Fetchers for Application {
    fn stream(&self, source: &StreamSource) -> StreamFetch {
        panic!("nobody asks for {source:?}")
    }

    fn application(&self, _: &ApplicationSource) -> ApplicationFetch {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Fetch for Application {
    type Snapshot = Arc<ApplicationSnapshot>;

    async fn fetch(&mut self, _: FetchRequest) -> Result<Self::Snapshot, SourceError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            pending().await
        }
        Ok(Arc::new(caught_up(4, &[])))
    }
}

/// The thresholds that are decided with, in seconds.
fn decided(watchers: &Watchers) -> Vec<u64> {
    let state = watchers.known(&source()).unwrap();
    let threshold = |settings: &Settings| settings.lag_threshold_ms / 1000;
    state.decisions().settings().map(threshold).collect()
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_decided_at_once_while_a_fetch_hangs() {
    let aws = Application::default();
    let watchers = aws.watchers();
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    aws.hangs.store(true, Ordering::Relaxed);
    pass(REFRESH * 2).await;
    assert_eq!(aws.fetches(), 2, "the second one hangs");

    let started = Instant::now();
    let answer = watchers.answer("a", &lag_trigger(60)).await.unwrap();
    assert!(started.elapsed() <= Duration::from_millis(100));
    pass(Duration::from_millis(100)).await;
    assert_eq!(
        decided(&watchers),
        [30, 60],
        "and remembered by the watcher"
    );
    let again = watchers.answer("a", &lag_trigger(60)).await.unwrap();
    assert_eq!(again, answer);
    assert_eq!(aws.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_trigger_that_asks_again_adds_no_memory() {
    let aws = Application::default();
    let watchers = aws.watchers();
    for _ in 0..10 {
        watchers.answer("a", &lag_trigger(30)).await.unwrap();
        pass(Duration::from_secs(5)).await;
        assert_eq!(decided(&watchers), [30]);
    }
}

#[tokio::test(start_paused = true)]
async fn ever_new_settings_are_answered_and_leave_the_others_their_memories() {
    let aws = Application::default();
    let watchers = aws.watchers();
    for threshold in 1..=40 {
        watchers.answer("a", &lag_trigger(threshold)).await.unwrap();
        pass(Duration::from_millis(10)).await;
    }
    assert_eq!(decided(&watchers), (1..=16).collect::<Vec<_>>());
    // Those that nobody asks with any more make room.
    for _ in 0..11 {
        pass(MINUTE).await;
        watchers.answer("a", &lag_trigger(1)).await.unwrap();
    }
    watchers.answer("a", &lag_trigger(99)).await.unwrap();
    pass(Duration::from_millis(10)).await;
    assert!(decided(&watchers).contains(&1));
    assert!(decided(&watchers).contains(&99));
    // And are forgotten.
    for _ in 0..61 {
        pass(MINUTE).await;
        watchers.answer("a", &lag_trigger(1)).await.unwrap();
    }
    assert_eq!(decided(&watchers), [1]);
}
