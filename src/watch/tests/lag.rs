//! Decisions about lag: a memory for each distinct settings, also of those that are new while a
//! fetch hangs.

use std::{collections::VecDeque, future::pending};

use kinesis_consumer::Checkpoint;
use right_sizing::Settings;

use super::*;
use crate::source::probe::Verdict;
use crate::source::snapshot::{
    ApplicationSnapshot, LeaseSnapshot,
    examples::{caught_up, lag_trigger, source},
};

/// An application that is caught up, whose fetches can be made to hang.
#[derive(Clone, Debug, Default)]
struct Application {
    fetches: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
    /// How long a fetch takes.
    takes: Duration,
    /// How many fetchers there were.
    fetchers: Arc<AtomicUsize>,
    /// How many were of less than everything.
    quick: Arc<AtomicUsize>,
    /// What comes next, once; then all is caught up, and nobody works on it.
    next: Arc<Mutex<VecDeque<ApplicationSnapshot>>>,
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
    fn stream(&self, source: &StreamSource, _: &Tenant) -> StreamFetch {
        panic!("nobody asks for {source:?}")
    }

    fn application(&self, _: &ApplicationSource) -> ApplicationFetch {
        self.fetchers.fetch_add(1, Ordering::Relaxed);
        Box::new(self.clone())
    }
}

#[async_trait]
impl Fetch for Application {
    type Snapshot = Arc<ApplicationSnapshot>;

    async fn fetch(&mut self, request: FetchRequest) -> Result<Self::Snapshot, SourceError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.quick
            .fetch_add(usize::from(request.quick), Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            pending().await
        }
        sleep(self.takes).await;
        let next = self.next.lock().unwrap().pop_front();
        Ok(Arc::new(next.unwrap_or_else(|| caught_up(4, &[]))))
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
    let _following = watchers.subscribe("a", &lag_trigger(30)).unwrap();
    pass(Duration::from_millis(100)).await;
    let fetches = aws.fetches();
    aws.hangs.store(true, Ordering::Relaxed);
    pass(REFRESH * 2).await;
    assert_eq!(aws.fetches(), fetches + 1, "the next one hangs");

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
    assert_eq!(aws.fetches(), fetches + 1);
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

/// A worker holds the first shard.
fn with_a_worker() -> ApplicationSnapshot {
    let mut snapshot = caught_up(4, &[]);
    snapshot.shards[0].lease = Some(LeaseSnapshot {
        owner: Some("pod".to_owned()),
        live: true,
        confirmed: true,
        checkpoint: Checkpoint::TrimHorizon,
        busy: None,
    });
    snapshot
}

#[tokio::test(start_paused = true)]
async fn while_nobody_works_a_question_costs_one_fetch() {
    let aws = Application::default();
    let watchers = aws.watchers();
    for hour in 1..=5 {
        // KEDA asks twice, one right after the other.
        for _ in 0..2 {
            let answer = watchers.answer("a", &lag_trigger(30)).await.unwrap();
            assert!(!answer.active);
            pass(Duration::from_millis(100)).await;
        }
        assert_eq!(aws.fetches(), hour);
        assert_eq!(watchers.counts().fresh, 1, "nothing is wrong with it");
        pass(MINUTE * 60).await;
        assert_eq!(aws.fetches(), hour);
    }
    // What is answered is of now.
    let mut unread = caught_up(4, &[]);
    let verdict = Verdict::Unread {
        since: unread.time,
        expired: false,
    };
    unread.shards[0].probe.as_mut().unwrap().verdict = Some(verdict);
    aws.next.lock().unwrap().push_back(unread);
    assert!(watchers.answer("a", &lag_trigger(30)).await.unwrap().active);
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_a_question_waits_is_not_left_until_the_next() {
    let aws = Application {
        takes: Duration::from_secs(3),
        ..Application::default()
    };
    let watchers = aws.watchers();
    let first = watchers.answer("a", &lag_trigger(30)).await.unwrap_err();
    assert_eq!(first.code(), Code::Unavailable);
    for _ in 0..5 {
        pass(Duration::from_secs(100)).await;
        watchers.answer("a", &lag_trigger(30)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_seldom_finds_what_was_seen_and_it_is_shown_as_long_as_somebody_asks() {
    let aws = Application::default();
    let watchers = aws.watchers();
    let fetchers = || aws.fetchers.load(Ordering::Relaxed);
    for _ in 0..5 {
        watchers.answer("a", &lag_trigger(30)).await.unwrap();
        pass(MINUTE * 9).await;
        assert_eq!(watchers.applications().len(), 1);
        pass(MINUTE * 51).await;
    }
    assert_eq!(fetchers(), 1);
    pass(MINUTE * 60 * 5).await;
    assert_eq!(watchers.applications().len(), 0, "but remembered");
    assert!(watchers.known(&source()).is_some());
    pass(MINUTE * 60 * 20).await;
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    assert_eq!(fetchers(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_remembered_makes_room_for_whoever_asks() {
    let aws = Application::default();
    let mut pace = Pace::from(&AwsConfig::default());
    pace.sources = 1;
    let watchers = Watchers::new(pace, aws.clone(), None);
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    let mut other = lag_trigger(30);
    other.stream.region = "eu-west-2".to_owned();
    let full = watchers.answer("a", &other).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    pass(MINUTE * 11).await;
    watchers.answer("a", &other).await.unwrap();
    assert!(watchers.known(&source()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_answered_late_gets_the_last_answer() {
    let aws = Application::default();
    let watchers = aws.watchers();
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    pass(Duration::from_secs(30)).await;
    aws.hangs.store(true, Ordering::Relaxed);
    let started = Instant::now();
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 2);
    // For as long as it may stand in.
    pass(MINUTE).await;
    let error = watchers.answer("a", &lag_trigger(30)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn workers_and_push_streams_are_watched_all_the_time() {
    let aws = Application::default();
    let watchers = aws.watchers();
    aws.next
        .lock()
        .unwrap()
        .extend((0..20).map(|_| with_a_worker()));
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    pass(MINUTE * 4).await;
    assert!((15..=19).contains(&aws.fetches()), "{}", aws.fetches());
    // The last worker goes.
    pass(MINUTE * 4).await;
    assert_eq!(aws.fetches(), 21);
    let _following = watchers.subscribe("a", &lag_trigger(30)).unwrap();
    pass(MINUTE).await;
    assert!(aws.fetches() > 30, "{}", aws.fetches());
}

#[tokio::test(start_paused = true)]
async fn who_works_is_looked_at_twice_before_anything_is_said() {
    let aws = Application::default();
    let watchers = aws.watchers();
    let first = ApplicationSnapshot {
        is_first_look: true,
        ..with_a_worker()
    };
    aws.next.lock().unwrap().extend([first, with_a_worker()]);
    let started = Instant::now();
    let error = watchers.answer("a", &lag_trigger(30)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    while watchers.answer("a", &lag_trigger(30)).await.is_err() {
        pass(Duration::from_millis(100)).await;
    }
    let waited = started.elapsed();
    assert!((4..=6).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(aws.quick.load(Ordering::Relaxed), 0, "leases and all");
}

#[tokio::test(start_paused = true)]
async fn shards_without_a_verdict_are_asked_again_within_seconds() {
    let aws = Application::default();
    let watchers = aws.watchers();
    let mut undecided = with_a_worker();
    undecided.lag.as_mut().unwrap().undecided = 1;
    aws.next.lock().unwrap().push_back(undecided);
    let _ = watchers.answer("a", &lag_trigger(30)).await;
    pass(Duration::from_secs(4)).await;
    assert_eq!((aws.fetches(), aws.quick.load(Ordering::Relaxed)), (2, 1));
}
