//! Thousands of streams in an account whose quotas AWS enforces.

use std::collections::HashMap;

use kinesis_edge::{Failure, Kind, Service};

use super::*;
use crate::{
    metrics::Metrics,
    source::{
        aws::Share,
        shards::{Calls, OpenShards},
    },
};

/// AWS allows so many DescribeStreamSummary calls a second to an account.
const DESCRIBED: usize = 20;

/// It allows so many ListShards calls a second to a stream.
const LISTED: usize = 1_000;

/// What a call takes.
const TAKES: Duration = Duration::from_millis(30);

/// An account, of which others use a part, too.
#[derive(Clone, Debug)]
struct Account {
    state: Arc<Mutex<AccountState>>,
    share: Arc<Share>,
}

#[derive(Debug, Default)]
struct AccountState {
    /// When each operation was called on each stream, within the last second.
    calls: HashMap<&'static str, VecDeque<Instant>>,
    lists: HashMap<String, VecDeque<Instant>>,
    throttled: usize,
    may_not_list: bool,
    is_down: bool,
    called: usize,
}

#[derive(Debug)]
struct OfStream {
    account: Account,
    stream: String,
}

impl Account {
    fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            state: Arc::default(),
            share: Arc::new(Share::new(
                AwsConfig::default().calls_per_second,
                Arc::clone(metrics),
            )),
        }
    }

    fn state(&self) -> MutexGuard<'_, AccountState> {
        lock(&self.state)
    }

    fn watchers(&self) -> Watchers {
        Watchers::new(Pace::from(&AwsConfig::default()), self.clone(), None)
    }

    /// A call, by the scaler or by others.
    fn call(&self, operation: &'static str, stream: &str) -> Result<i64, Failure> {
        let mut state = self.state();
        state.called += 1;
        let failed = |kind| {
            let mut failure = Failure::senseless(Service::Kinesis, operation, "as AWS says");
            failure.kind = kind;
            failure
        };
        if state.is_down {
            return Err(failed(Kind::Unavailable));
        }
        let (calls, most) = match operation {
            "ListShards" if state.may_not_list => return Err(failed(Kind::Denied)),
            "ListShards" => (state.lists.entry(stream.to_owned()).or_default(), LISTED),
            _ => (state.calls.entry(operation).or_default(), DESCRIBED),
        };
        let second = Duration::from_secs(1);
        while calls.front().is_some_and(|at| at.elapsed() >= second) {
            calls.pop_front();
        }
        if calls.len() >= most {
            state.throttled += 1;
            return Err(failed(Kind::Throttled));
        }
        calls.push_back(Instant::now());
        Ok(4)
    }
}

impl Fetchers for Account {
    fn stream(&self, source: &StreamSource, tenant: &Tenant) -> StreamFetch {
        let calls = OfStream {
            account: self.clone(),
            stream: source.stream.to_string(),
        };
        let share = Arc::clone(&self.share);
        Box::new(OpenShards::over(Box::new(calls), share, tenant))
    }

    fn application(&self, source: &ApplicationSource) -> ApplicationFetch {
        panic!("nobody asks for {source:?}")
    }
}

impl OfStream {
    async fn call(&self, operation: &'static str) -> Result<i64, Failure> {
        sleep(TAKES).await;
        let answer = self.account.call(operation, &self.stream);
        if answer.is_ok() {
            self.account.share.retries.answered();
        }
        answer
    }
}

#[async_trait]
impl Calls for OfStream {
    async fn describe(&self) -> Result<i64, Failure> {
        self.call("DescribeStreamSummary").await
    }

    async fn list(&self) -> Result<i64, Failure> {
        self.call("ListShards").await
    }

    fn error(&self, failure: &Failure) -> SourceError {
        let kind = match failure.kind {
            Kind::Denied => SourceErrorKind::AccessDenied,
            Kind::Throttled => SourceErrorKind::Throttled,
            _ => SourceErrorKind::Unavailable,
        };
        kind.example()
    }
}

/// Push streams for so many streams of a namespace, which count as asking all the time.
fn follow(watchers: &Watchers, namespace: &str, streams: usize) -> Vec<Subscription> {
    let streams = (0..streams).map(|number| source(&format!("{namespace}-{number}")));
    let follow = |source| watchers.subscribe(namespace, &trigger(&source)).unwrap();
    streams.map(follow).collect()
}

/// The ages of a namespace's answers; those that are over a minute old are errors to KEDA.
fn ages(watchers: &Watchers, namespace: &str) -> Vec<Duration> {
    let table = lock(&watchers.table);
    let its = table
        .streams
        .values()
        .filter(|it| it.tenant.namespace == namespace);
    let age = |it: &Watcher<StreamSnapshot>| lock(&it.state).last_good().map(|at| at.elapsed());
    its.map(|it| age(it).unwrap_or(Duration::MAX)).collect()
}

fn oldest(watchers: &Watchers, namespace: &str) -> Duration {
    ages(watchers, namespace).into_iter().max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn five_thousand_streams_are_younger_than_a_minute_and_nobody_else_is_throttled() {
    let account = Account::new(&Arc::new(Metrics::new()));
    let watchers = account.watchers();
    let _following = follow(&watchers, "a", 5_000);
    // Others use what we leave of the account's quota.
    let others = account.clone();
    tokio::spawn(async move {
        let ours = AwsConfig::default().calls_per_second as usize;
        let each = Duration::from_secs(1) / (DESCRIBED - 2 * ours) as u32;
        loop {
            others.call("DescribeStreamSummary", "theirs").unwrap();
            sleep(each).await;
        }
    });
    pass(MINUTE).await;
    let before = account.state().called;
    for _ in 0..60 {
        pass(Duration::from_secs(1)).await;
        assert!(oldest(&watchers, "a") < MINUTE);
    }
    assert_eq!(account.state().throttled, 0);
    // A refresh of 30 s instead of 15, so that they take half the CPU; 10 a second are the others'.
    let ours = account.state().called - before - 600;
    assert!((9_500..10_500).contains(&ours), "{ours} calls a minute");
    let counts = watchers.counts();
    assert_eq!((counts.fresh, counts.failing), (5_000, 0));
}

#[tokio::test(start_paused = true)]
async fn without_list_shards_namespaces_have_equal_shares_and_answers_age_evenly() {
    let metrics = Arc::new(Metrics::new());
    let account = Account::new(&metrics);
    account.state().may_not_list = true;
    let watchers = account.watchers();
    let many = follow(&watchers, "many", 1_000);
    let _few = follow(&watchers, "few", 20);
    pass(MINUTE * 10).await;
    for _ in 0..60 {
        pass(Duration::from_secs(1)).await;
        // Half of 5 calls a second: 20 of them in 8 s, as if the others were not there.
        let few = oldest(&watchers, "few");
        assert!(few < Duration::from_secs(20), "{few:?}");
        // What is left for the others: 1,000 in a round of some 270 s.
        let ages = ages(&watchers, "many");
        assert!(oldest(&watchers, "many") < Duration::from_secs(300));
        let young = ages.iter().filter(|age| age.as_secs() < 135).count();
        assert!(
            (400..600).contains(&young),
            "{young} are younger than half a round"
        );
    }
    assert_eq!(metrics.unlisted_streams.get(), 1_020);
    drop((many, watchers));
    pass(Duration::from_secs(1)).await;
    assert_eq!(metrics.unlisted_streams.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn as_many_streams_as_the_budget_has_calls_for_in_a_minute_are_younger_than_that() {
    let account = Account::new(&Arc::new(Metrics::new()));
    account.state().may_not_list = true;
    let watchers = account.watchers();
    let _following = follow(&watchers, "a", 290);
    pass(MINUTE * 7).await;
    for _ in 0..240 {
        pass(Duration::from_secs(1)).await;
        let oldest = oldest(&watchers, "a");
        assert!(oldest < MINUTE, "{oldest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_multiply_the_calls() {
    let account = Account::new(&Arc::new(Metrics::new()));
    let watchers = account.watchers();
    let _following = follow(&watchers, "a", 2_000);
    pass(MINUTE).await;
    let calls = |of: &Account| std::mem::take(&mut of.state().called);
    calls(&account);
    pass(MINUTE).await;
    let usual = calls(&account);
    account.state().is_down = true;
    pass(MINUTE).await;
    let down = calls(&account);
    assert!(
        down <= usual * 11 / 10,
        "{down} calls a minute, {usual} before"
    );
    account.state().is_down = false;
    pass(REFRESH * 2).await;
    assert_eq!(watchers.counts().fresh, 2_000);
}
