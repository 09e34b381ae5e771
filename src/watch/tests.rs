//! Watchers over one scripted source.

mod crowd;
mod failing;
mod idle;
mod lag;
mod load;

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::time::{advance, sleep};
use tonic::Code;

use super::*;
use crate::{
    error::{SourceError, SourceErrorKind},
    source::{
        fetch::{ApplicationFetch, Fetch, FetchRequest, Fetchers, StreamFetch},
        snapshot::StreamSnapshot,
    },
    trigger::{ApplicationSource, Stream, StreamSource},
};

/// What AWS does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Says {
    Count(i64),
    Fails(SourceErrorKind),
    Late(Duration, i64),
    Panics,
}

/// An AWS that goes through a script and stays with its last line.
#[derive(Clone, Debug)]
struct Scripted {
    script: Arc<Mutex<VecDeque<Says>>>,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(script: &[Says]) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.iter().copied().collect())),
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn watchers(&self, change: impl FnOnce(&mut Pace)) -> Watchers {
        let mut pace = Pace::from(&AwsConfig::default());
        change(&mut pace);
        let this = self.clone();
        Watchers::new(pace, this, None)
    }
}

#[async_trait]
impl Fetch for Scripted {
    type Snapshot = StreamSnapshot;

    async fn fetch(&mut self, _: FetchRequest) -> Result<StreamSnapshot, SourceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let says = {
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 {
                script.pop_front().unwrap()
            } else {
                script[0]
            }
        };
        match says {
            Says::Count(count) => Ok(seen(count)),
            Says::Fails(kind) => Err(kind.example()),
            Says::Late(late, count) => {
                sleep(late).await;
                Ok(seen(count))
            }
            Says::Panics => panic!("a bug"),
        }
    }
}

impl Fetchers for Scripted {
    fn stream(&self, _: &StreamSource, _: &Tenant) -> StreamFetch {
        Box::new(self.clone())
    }

    fn application(&self, source: &ApplicationSource) -> ApplicationFetch {
        panic!("nobody asks for {source:?}")
    }
}

fn seen(open_shards: i64) -> StreamSnapshot {
    StreamSnapshot {
        at: Instant::now(),
        open_shards,
    }
}

fn source(name: &str) -> StreamSource {
    StreamSource {
        stream: Stream::Name(name.to_owned()),
        region: "eu-west-1".to_owned(),
        endpoint: None,
        role: None,
    }
}

fn trigger(source: &StreamSource) -> Trigger {
    Trigger {
        stream: source.clone(),
        scale_on: ScaleOn::OpenShards { activation: 0 },
        shard_count: 2,
    }
}

impl Watchers {
    async fn open_shards(&self, namespace: &str, source: &StreamSource) -> Result<i64, Error> {
        let answer = self.answer(namespace, &trigger(source)).await?;
        Ok(answer.value)
    }
}

fn current(watchers: &Watchers) -> i64 {
    let answer = watchers.current(&trigger(&source("orders")));
    answer.unwrap().unwrap().value
}

const REFRESH: Duration = Duration::from_secs(15);
const MINUTE: Duration = Duration::from_secs(60);

/// Lets time pass in small steps, so that every task sees its own moment.
async fn pass(time: Duration) {
    sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_aws_is_asked_once_a_refresh() {
    let aws = Scripted::new(&[Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    for _ in 0..100 {
        for _ in 0..10 {
            assert_eq!(
                watchers.open_shards("a", &source("orders")).await.unwrap(),
                4
            );
        }
        pass(REFRESH / 10).await;
    }
    // Ten refreshes, each up to 10 % early or late.
    assert!((10..=12).contains(&aws.asked()), "{} calls", aws.asked());
}

#[tokio::test(start_paused = true)]
async fn a_first_answer_is_waited_for_but_not_long() {
    let aws = Scripted::new(&[Says::Late(Duration::from_secs(3), 4), Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    let started = Instant::now();
    let error = watchers
        .open_shards("a", &source("orders"))
        .await
        .unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 2);
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("orders in eu-west-1"), "{error}");
    // The question goes on meanwhile; the next RPC gets its answer.
    assert_eq!(
        watchers.open_shards("a", &source("orders")).await.unwrap(),
        4
    );
    assert_eq!(aws.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panicked_watcher_is_restarted_by_the_next_question() {
    let aws = Scripted::new(&[Says::Count(4), Says::Panics, Says::Panics, Says::Count(5)]);
    let watchers = aws.watchers(|_| {});
    let mut answers = Vec::new();
    while answers.last() != Some(&5) {
        answers.push(watchers.open_shards("a", &source("orders")).await.unwrap());
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(answers[0], 4);
    assert_eq!(
        aws.asked(),
        4,
        "and not asked by each of {} questions",
        answers.len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_answer_until_there_is_another() {
    let aws = Scripted::new(&[Says::Panics, Says::Count(5)]);
    let watchers = aws.watchers(|_| {});
    let mut answers = Vec::new();
    while !answers.last().is_some_and(Result::is_ok) {
        answers.push(watchers.open_shards("a", &source("orders")).await);
        pass(Duration::from_secs(1)).await;
    }
    let told = answers.iter().filter_map(|answer| answer.as_ref().err());
    let told: Vec<_> = told.map(ToString::to_string).collect();
    let named = told
        .iter()
        .any(|it| it.contains("Panicked") && it.contains("a bug"));
    assert!(named, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_table_is_shared_fairly() {
    let aws = Scripted::new(&[Says::Count(4)]);
    let watchers = aws.watchers(|pace| pace.sources = 4);
    for number in 0..4 {
        watchers
            .open_shards("greedy", &source(&format!("g{number}")))
            .await
            .unwrap();
        advance(Duration::from_millis(10)).await;
    }
    let refused = watchers
        .open_shards("greedy", &source("g4"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.to_string().contains("\"greedy\""), "{refused}");

    for number in 0..2 {
        watchers
            .open_shards("modest", &source(&format!("m{number}")))
            .await
            .unwrap();
    }
    let refused = watchers
        .open_shards("modest", &source("m2"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::ResourceExhausted,
        "more than a fair share"
    );
    let held = |name: &str| lock(&watchers.table).streams.contains_key(&source(name));
    assert_eq!(
        [held("g0"), held("g1"), held("g2"), held("g3")],
        [false, false, true, true],
        "the longest unasked went"
    );
    // Those that are watched are answered, whoever holds how many.
    assert_eq!(
        watchers.open_shards("greedy", &source("g3")).await.unwrap(),
        4
    );
    assert_eq!(
        watchers.open_shards("other", &source("m1")).await.unwrap(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn a_role_has_a_watcher_of_its_own() {
    let aws = Scripted::new(&[Says::Count(4)]);
    let watchers = aws.watchers(|_| {});
    let role = |external_id: &str| crate::trigger::Role {
        arn: "arn:aws:iam::111122223333:role/a".to_owned(),
        external_id: Some(external_id.to_owned()),
    };
    for role in [None, Some(role("1")), Some(role("2"))] {
        let source = StreamSource {
            role,
            ..source("orders")
        };
        watchers.open_shards("a", &source).await.unwrap();
    }
    assert_eq!(watchers.counts().fresh, 3);
    assert_eq!(aws.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_of_changes_only() {
    let aws = Scripted::new(&[
        Says::Count(4),
        Says::Count(4),
        Says::Count(4),
        Says::Count(5),
    ]);
    let watchers = aws.watchers(|_| {});
    let mut following = watchers
        .subscribe("a", &trigger(&source("orders")))
        .unwrap();
    following.changed().await.unwrap();
    assert_eq!(current(&watchers), 4);
    following.changed().await.unwrap();
    assert_eq!(current(&watchers), 5);
    assert_eq!(aws.asked(), 4);
}
