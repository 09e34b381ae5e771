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

/// An application that is caught up, whose fetches can be made to hang, or to take a while.
#[derive(Clone, Debug, Default)]
struct Application {
    fetches: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
    takes: Arc<Mutex<Duration>>,
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
        let takes = *self.takes.lock().unwrap();
        sleep(takes).await;
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
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_slow_application_at_zero_is_answered_whoever_asks_how_seldom() {
    for asked_each in [30, 100, 660] {
        let aws = Application::default();
        *aws.takes.lock().unwrap() = Duration::from_secs(5);
        let watchers = aws.watchers();
        // Nothing is known yet, nor how often somebody asks.
        let _ = watchers.answer("a", &lag_trigger(30)).await;
        let mut failed = 0;
        for _ in 0..20 {
            pass(Duration::from_secs(asked_each)).await;
            let answer = watchers.answer("a", &lag_trigger(30)).await;
            failed += usize::from(answer.is_err());
        }
        assert!(failed <= 1, "{failed} of 20 failed, each {asked_each} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_at_zero_is_kept_for_a_day() {
    let aws = Application::default();
    let watchers = aws.watchers();
    let table = || lock(&watchers.table).len();
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    pass(MINUTE * 60 * 23).await;
    assert_eq!((table(), aws.fetches()), (1, 1));
    assert!(watchers.applications().is_empty(), "nobody is told of it");
    pass(MINUTE * 61).await;
    assert_eq!(table(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_was_learned_nothing_of_is_forgotten_after_ten_minutes() {
    let aws = Application::default();
    let watchers = aws.watchers();
    let mut new = caught_up(4, &[]);
    new.table = crate::source::snapshot::Table::Missing;
    aws.next.lock().unwrap().push_back(new);
    watchers.answer("a", &lag_trigger(30)).await.unwrap();
    pass(MINUTE * 12).await;
    assert_eq!(lock(&watchers.table).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_many_want_places_none_is_kept() {
    let aws = Application::default();
    let watchers = aws.watchers();
    let pace = watchers.pace();
    watchers.set_pace(Pace { sources: 4, ..pace });
    for number in 0..4 {
        let trigger = Trigger {
            stream: super::source(&format!("stream-{number}")),
            ..lag_trigger(30)
        };
        watchers.answer("a", &trigger).await.unwrap();
    }
    pass(MINUTE * 13).await;
    assert_eq!(lock(&watchers.table).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_asks_seldom_at_zero_is_shown_all_along() {
    let aws = Application::default();
    let watchers = aws.watchers();
    for _ in 0..4 {
        watchers.answer("a", &lag_trigger(30)).await.unwrap();
        for _ in 0..5 {
            assert_eq!(watchers.applications().len(), 1);
            pass(Duration::from_secs(30)).await;
        }
    }
    pass(MINUTE * 11).await;
    assert!(watchers.applications().is_empty(), "nobody asks any more");
}
