//! A stream and a lease table in memory, workers over them, and what they did.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use kinesis_consumer::{
    Batch, Checkpointer, Config, Error, Event, InitialPosition, KinesisError, LeaseKey,
    ProcessorError, RecordProcessor, ShardId, Worker,
    test_util::{LeaseTable, MemoryTable},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::stream::Stream;

mod kinesis;
mod subscription;

/// What a batch of a shard, its user records' ordinals, is answered with.
pub(crate) type Answer = Arc<
    dyn Fn(ShardId, Vec<u64>, Checkpointer) -> BoxFuture<'static, Result<(), ProcessorError>>
        + Send
        + Sync,
>;

/// Stands for lists of shards where others have a shard's id.
const LISTS: &str = "lists";
/// The same for calls about consumers.
const CONSUMERS: &str = "consumers";

/// Shared by all workers of a test.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    stream: Mutex<Stream>,
    table: MemoryTable,
    began: Instant,
    told: Mutex<Vec<Told>>,
    news: Notify,
    reads: Mutex<Vec<(ShardId, Duration)>>,
    refusals: Mutex<BTreeMap<ShardId, VecDeque<KinesisError>>>,
    /// Positions in these shards are refused.
    refused_positions: Mutex<BTreeSet<ShardId>>,
    empty_pages: AtomicUsize,
    early_ends: AtomicUsize,
    /// The next iterator that is used; then no page comes by it any more.
    breaks_iterator: AtomicBool,
    broken_iterator: Mutex<String>,
    /// Bytes a second of the line; 0: any.
    bandwidth: AtomicUsize,
    /// Larger pages break off; 0: none does.
    most_bytes: AtomicUsize,
    subscriptions: subscription::Subscriptions,
    /// So many seconds the time that answers have is ahead.
    ahead: AtomicI64,
}

/// What the library gives one read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Something that a worker did.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) worker: String,
    pub(crate) at: Duration,
    pub(crate) what: What,
}

impl Told {
    /// Whether it is an event, and such a one.
    pub(crate) fn is(&self, wanted: fn(&Event) -> bool) -> bool {
        matches!(&self.what, What::Event(event) if wanted(event))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Event(Event),
    Delivered(ShardId, Vec<u64>),
    Called(&'static str, ShardId),
}

pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) async fn stop(self) -> Result<(), Error> {
        let _ = self.stop.send(());
        self.run.await.unwrap()
    }

    pub(crate) async fn kill(self) {
        self.run.abort();
        let _ = self.run.await;
    }

    /// Waits until the worker gives up by itself.
    pub(crate) async fn error(self) -> Error {
        timeout(Duration::from_secs(600), self.run)
            .await
            .unwrap()
            .unwrap()
            .unwrap_err()
    }
}

/// Checkpoints each batch.
pub(crate) fn checkpointing() -> Answer {
    Arc::new(|_, _, checkpointer| Box::pin(async move { Ok(checkpointer.checkpoint().await?) }))
}

pub(crate) fn config(worker: &str) -> Config {
    let mut config = Config::new("stream", "application", worker);
    config.initial_position = InitialPosition::TrimHorizon;
    config
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn shard(index: usize) -> ShardId {
    format!("shardId-{index:012}").into()
}

impl World {
    pub(crate) fn new(shards: usize) -> Self {
        Self(Arc::new(Inner {
            stream: Mutex::new(Stream::new(shards, Duration::from_secs(300))),
            table: MemoryTable::new(),
            began: Instant::now(),
            told: Mutex::default(),
            news: Notify::new(),
            reads: Mutex::default(),
            refusals: Mutex::default(),
            refused_positions: Mutex::default(),
            empty_pages: AtomicUsize::new(0),
            early_ends: AtomicUsize::new(0),
            breaks_iterator: AtomicBool::new(false),
            broken_iterator: Mutex::default(),
            bandwidth: AtomicUsize::new(0),
            most_bytes: AtomicUsize::new(0),
            subscriptions: subscription::Subscriptions::default(),
            ahead: AtomicI64::new(0),
        }))
    }

    pub(crate) fn table(&self) -> &MemoryTable {
        &self.0.table
    }

    pub(crate) fn stream<T>(&self, act: impl FnOnce(&mut Stream) -> T) -> T {
        act(&mut self.0.stream.lock().unwrap())
    }

    pub(crate) fn put(&self, index: usize, count: usize) {
        self.stream(|stream| (0..count).for_each(|_| stream.put(index, None)));
    }

    /// The next calls that read the shard fail so.
    pub(crate) fn refuse(&self, index: usize, errors: impl IntoIterator<Item = KinesisError>) {
        self.refuse_calls(shard(index).as_str(), errors);
    }

    /// From now on the shard takes none of its sequence numbers for its own.
    pub(crate) fn refuse_positions(&self, index: usize) {
        let mut refused = self.0.refused_positions.lock().unwrap();
        refused.insert(shard(index));
    }

    /// The next pages are empty, although there are records.
    pub(crate) fn leave_empty(&self, pages: usize) {
        self.0.empty_pages.store(pages, Ordering::Relaxed);
    }

    /// The next iterator that is used is refused for ever.
    pub(crate) fn break_iterator(&self) {
        self.0.breaks_iterator.store(true, Ordering::Relaxed);
    }

    /// The next pages say that the shard is at its end, although it is open.
    pub(crate) fn end_early(&self, pages: usize) {
        self.0.early_ends.store(pages, Ordering::Relaxed);
    }

    /// Pages come at so many bytes a second, and not at all if that takes longer than a time-out.
    pub(crate) fn slow_down(&self, bytes_per_second: usize) {
        self.0.bandwidth.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Answers have a time that is so many seconds ahead, which Kinesis itself does not believe.
    pub(crate) fn say_time_ahead(&self, seconds: i64) {
        self.0.ahead.store(seconds, Ordering::Relaxed);
    }

    /// Pages of more bytes break off on the way.
    pub(crate) fn break_pages_over(&self, bytes: usize) {
        self.0.most_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The next lists of shards fail so.
    pub(crate) fn refuse_lists(&self, errors: impl IntoIterator<Item = KinesisError>) {
        self.refuse_calls(LISTS, errors);
    }

    /// The next calls about consumers fail so.
    pub(crate) fn refuse_consumers(&self, errors: impl IntoIterator<Item = KinesisError>) {
        self.refuse_calls(CONSUMERS, errors);
    }

    fn refuse_calls(&self, of: &str, errors: impl IntoIterator<Item = KinesisError>) {
        let mut refusals = self.0.refusals.lock().unwrap();
        refusals.entry(of.into()).or_default().extend(errors);
    }

    pub(crate) fn start(&self, config: Config, answer: Answer) -> Running {
        self.start_on(config, self.0.table.clone(), answer)
    }

    pub(crate) fn start_on(
        &self,
        config: Config,
        table: impl LeaseTable + 'static,
        answer: Answer,
    ) -> Running {
        let (world, worker) = (self.clone(), config.worker_id.clone());
        let factory = move |lease: LeaseKey| Telling {
            world: world.clone(),
            worker: worker.clone(),
            shard: lease.shard,
            answer: Arc::clone(&answer),
        };
        let (world, worker) = (self.clone(), config.worker_id.clone());
        let library = Worker::over(config, self.clone(), table, factory)
            .on_event(move |event| world.tell(&worker, What::Event(event.clone())));
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(library.run(async move {
            let _ = stopped.await;
        }));
        Running { stop, run }
    }

    fn tell(&self, worker: &str, what: What) {
        self.0.told.lock().unwrap().push(Told {
            worker: worker.to_owned(),
            at: self.0.began.elapsed(),
            what,
        });
        self.0.news.notify_waiters();
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.0.told.lock().unwrap().clone()
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Waits until something was told of which `wanted` says so. Returns when.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Told) -> bool + Send + Sync,
    ) -> Duration {
        let told = async {
            loop {
                let news = self.0.news.notified();
                if let Some(told) = self.told().iter().find(|told| wanted(told)) {
                    return told.at;
                }
                news.await;
            }
        };
        match timeout(Duration::from_secs(600), told).await {
            Ok(at) => at,
            Err(_) => panic!("never {what}: {:#?}", self.told()),
        }
    }

    /// The user records delivered of a shard, in order, repetitions included.
    pub(crate) fn delivered(&self, index: usize) -> Vec<u64> {
        let of_shard = |told: Told| match told.what {
            What::Delivered(id, ordinals) if id == shard(index) => Some(ordinals),
            _ => None,
        };
        self.told()
            .into_iter()
            .filter_map(of_shard)
            .flatten()
            .collect()
    }

    /// The same, each once.
    pub(crate) fn delivered_once(&self, index: usize) -> Vec<u64> {
        let once: BTreeSet<_> = self.delivered(index).into_iter().collect();
        once.into_iter().collect()
    }

    /// When GetRecords was called for a shard.
    pub(crate) fn reads(&self, index: usize) -> Vec<Duration> {
        let reads = self.0.reads.lock().unwrap();
        reads
            .iter()
            .filter(|(id, _)| *id == shard(index))
            .map(|(_, at)| *at)
            .collect()
    }

    fn is_broken(&self, iterator: &str) -> bool {
        let mut broken = self.0.broken_iterator.lock().unwrap();
        if self.0.breaks_iterator.swap(false, Ordering::Relaxed) {
            *broken = iterator.to_owned();
        }
        *broken == iterator
    }

    fn refusal(&self, shard: &str) -> Option<KinesisError> {
        self.0.refusals.lock().unwrap().get_mut(shard)?.pop_front()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

// === processors ===

struct Telling {
    world: World,
    worker: String,
    shard: ShardId,
    answer: Answer,
}

impl RecordProcessor for Telling {
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let ordinal = |data: &[u8]| u64::from_be_bytes(data[..8].try_into().unwrap());
        let ordinals: Vec<_> = batch
            .records
            .iter()
            .map(|record| ordinal(&record.data))
            .collect();
        self.world.tell(
            &self.worker,
            What::Delivered(self.shard.clone(), ordinals.clone()),
        );
        (self.answer)(self.shard.clone(), ordinals, checkpointer.clone()).await
    }

    async fn lease_lost(&mut self) {
        self.world
            .tell(&self.worker, What::Called("lease_lost", self.shard.clone()));
    }

    async fn shutdown_requested(&mut self, _: &Checkpointer) -> Result<(), ProcessorError> {
        self.world.tell(
            &self.worker,
            What::Called("shutdown_requested", self.shard.clone()),
        );
        Ok(())
    }
}
