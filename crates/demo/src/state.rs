//! What is going on, in one value: every part of the demo writes here, both views and the picture
//! read.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keda_rules::Decision;
use tokio::{sync::Notify, time::Instant};

/// The whole state at one moment, and its history.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The story's steps, all of them from the start.
    pub steps: Vec<Step>,
    /// Pods that exist, and those that ended.
    pub pods: Vec<Pod>,
    /// The stream's shards as ListShards and the lease table show them, oldest first.
    pub shards: Vec<Shard>,
    /// The last answered tick of the autoscaler.
    pub tick: Option<Tick>,
    /// The ScaledObject's `shardCount`; `None`: none is applied yet.
    pub shard_count: Option<u32>,
    /// Ticks of the autoscaler that were answered.
    pub ticks: u32,
    /// Every change of the replicas by the autoscaler.
    pub scaled: Vec<Scaled>,
    /// What the scaler decided last, where it decides on lag.
    pub wish: Option<Wish>,
    /// When the first user was sent, since the start.
    pub first_sent: Option<Duration>,
    /// When the first one was seen in the table.
    pub first_stored: Option<Duration>,
    /// Users sent, and acknowledged by Kinesis.
    pub sent: u64,
    /// Users seen in the table.
    pub stored: u64,
    /// Users a second, sent and stored, over the last few seconds.
    pub sent_per_second: f64,
    /// See `sent_per_second`.
    pub stored_per_second: f64,
    /// The age of the oldest user that is sent and not yet in the table.
    pub lag: Duration,
    /// One per observation.
    pub samples: Vec<Sample>,
    /// What happened, a sentence each.
    pub lines: Vec<Line>,
    /// How the whole thing ended; `None` while it runs.
    pub ended: bool,
}

/// A step of the story.
#[derive(Clone, Debug)]
pub struct Step {
    /// A few words: `reshard to 3`.
    pub title: String,
    /// What should come of it: `3 pods`.
    pub goal: String,
    /// When it began, since the start.
    pub began: Option<Duration>,
    /// When the goal was reached, since the start.
    pub reached: Option<Duration>,
}

/// A consumer process.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `consumer-` and five characters.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it was started, since the start.
    pub started: Duration,
    /// When it was gone, since the start.
    pub ended: Option<Duration>,
    /// Records that it processed, by its own metrics; repeated deliveries count.
    pub processed: u64,
    /// Those of them that the table had already, by its own metrics: delivered more than once.
    pub repeated: u64,
    /// Records a second over the last few seconds, by its own metrics.
    pub per_second: f64,
}

/// Where a pod is in its life, in Kubernetes' words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Started, not ready yet.
    Starting,
    /// Ready.
    Running,
    /// Got SIGTERM.
    Terminating,
    /// Ended as asked.
    Gone,
    /// Ended without being asked.
    Died,
}

/// A shard and its lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shard {
    /// `shardId-000000000000`.
    pub id: String,
    /// Takes records?
    pub open: bool,
    /// The pod that holds the lease.
    pub holder: Option<String>,
    /// Read to its end?
    pub finished: bool,
}

/// One tick of the autoscaler: what KEDA asked, what it was told, what the HPA made of it.
#[derive(Clone, Debug)]
pub struct Tick {
    /// The metric's name, from GetMetricSpec.
    pub metric: String,
    /// GetMetrics.
    pub value: f64,
    /// GetMetricSpec.
    pub target: f64,
    /// IsActive.
    pub active: bool,
    /// Replicas before.
    pub current: u32,
    /// Replicas after, and why.
    pub decision: Decision,
}

/// A change of the replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scaled {
    /// Since the start.
    pub at: Duration,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
    /// By a push of the scaler, not by a tick?
    pub pushed: bool,
}

/// What the scaler decided, by its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wish {
    /// As many pods as it wishes.
    pub replicas: u32,
    /// Is there work?
    pub active: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// What was to be seen at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// See `State`.
    pub sent_per_second: f64,
    /// See `State`.
    pub stored_per_second: f64,
    /// See `State`.
    pub lag: Duration,
    /// Open shards.
    pub open_shards: usize,
    /// Pods that are ready.
    pub running: usize,
    /// Pods that the scaler wishes, where it decides on lag.
    pub wished: Option<u32>,
    /// All shards with their holders.
    pub shards: Vec<Shard>,
}

/// A sentence about something that happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the start.
    pub at: Duration,
    /// Who speaks.
    pub source: Source,
    /// The sentence.
    pub text: String,
}

/// Who speaks in a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The story: a step begins or its goal is reached.
    Story,
    /// What KEDA asked and was told.
    Keda,
    /// What the HPA made of it.
    Hpa,
    /// What the scaler decided, and why.
    Scaler,
    /// A pod starts, is ready, ends.
    Pod,
    /// The stream and its leases.
    Shard,
    /// The demo itself.
    Demo,
}

impl Source {
    /// The word that lines begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Story => "story",
            Self::Keda => "keda",
            Self::Hpa => "hpa",
            Self::Scaler => "scaler",
            Self::Pod => "pod",
            Self::Shard => "shards",
            Self::Demo => "demo",
        }
    }
}

impl Pod {
    /// Does the process exist?
    pub fn exists(&self) -> bool {
        matches!(
            self.phase,
            Phase::Starting | Phase::Running | Phase::Terminating
        )
    }
}

impl Phase {
    /// In Kubernetes' words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Terminating => "Terminating",
            Self::Gone => "Gone",
            Self::Died => "Died",
        }
    }
}

impl Shard {
    /// `shardId-000000000003` as `3`.
    pub fn short(&self) -> &str {
        short_shard(&self.id)
    }
}

/// `shardId-000000000003` as `3`: what people say.
pub fn short_shard(id: &str) -> &str {
    let digits = id.trim_start_matches("shardId-").trim_start_matches('0');
    if digits.is_empty() { "0" } else { digits }
}

impl State {
    /// Open shards.
    pub fn open_shards(&self) -> usize {
        self.shards.iter().filter(|shard| shard.open).count()
    }

    /// Pods that are ready.
    pub fn running(&self) -> usize {
        self.pods
            .iter()
            .filter(|pod| pod.phase == Phase::Running)
            .count()
    }

    /// The unfinished shards whose lease that pod holds.
    pub fn held_by<'a>(&'a self, pod: &'a str) -> impl Iterator<Item = &'a Shard> {
        self.shards
            .iter()
            .filter(move |shard| !shard.finished && shard.holder.as_deref() == Some(pod))
    }

    /// The pod of that name.
    pub fn pod_mut(&mut self, name: &str) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.name == name)
    }
}

/// The state, shared. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    start: Instant,
}

impl Board {
    /// An empty board; its time starts now.
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: Arc::default(),
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// To look at.
    pub fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.read());
        self.changed.notify_waiters();
        result
    }

    /// Says what happened.
    pub fn say(&self, source: Source, text: impl Into<String>) {
        let line = Line {
            at: self.elapsed(),
            source,
            text: text.into(),
        };
        self.update(|state| state.lines.push(line));
    }

    /// Waits until `condition` holds.
    pub async fn until<T>(&self, mut condition: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = condition(&self.read()) {
                return found;
            }
            changed.await;
        }
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}
