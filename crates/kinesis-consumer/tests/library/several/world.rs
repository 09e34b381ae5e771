//! An account in memory, workers over it, and what they did.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_consumer::{
    Config, Error, Event, InitialPosition, KinesisError, LeaseKey, RecordProcessor, ShardId,
    StreamIdentifier, Streams, Worker, each_batch,
    shards::{Shard, StartFrom},
    test_util::{Kinesis, MemoryAccount, MemoryKinesis, MemoryTable, Page, ShardFilter},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// Shared by all workers of a test.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) account: MemoryAccount,
    pub(super) table: MemoryTable,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    delivered: Mutex<Vec<(LeaseKey, String)>>,
    events: Mutex<Vec<Event>>,
    news: Notify,
}

pub(super) struct Running {
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        self.run.await.unwrap().unwrap();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.run.is_finished()
    }

    /// Waits until the worker gives up by itself.
    pub(super) async fn error(self) -> Error {
        let ended = timeout(Duration::from_secs(3600), self.run);
        ended.await.unwrap().unwrap().unwrap_err()
    }
}

pub(super) fn config(streams: Streams, worker: &str) -> Config {
    let mut config = Config::of_streams(streams, "billing", worker);
    config.initial_position = InitialPosition::TrimHorizon;
    config
}

impl World {
    pub(super) fn start(&self, config: Config) -> Running {
        let told = Arc::clone(&self.told);
        self.start_with(
            config,
            each_batch(move |batch, checkpointer| {
                let (told, lease) = (Arc::clone(&told), checkpointer.lease().clone());
                async move {
                    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
                    let data = batch.records.iter().map(|record| text(&record.data));
                    let data = data.map(|data| (lease.clone(), data));
                    told.delivered.lock().unwrap().extend(data);
                    told.news.notify_waiters();
                    Ok(())
                }
            }),
        )
    }

    pub(super) fn start_with<P: RecordProcessor + 'static>(
        &self,
        config: Config,
        processor: impl Fn(LeaseKey) -> P + Send + Sync + 'static,
    ) -> Running {
        let told = Arc::clone(&self.told);
        // Each worker is a process of its own.
        let table = self.table.with_faults(|_| Default::default());
        let worker = Worker::over_several(config, self.account.clone(), table, processor);
        let worker = worker.on_event(move |event| {
            told.events.lock().unwrap().push(event.clone());
            told.news.notify_waiters();
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(worker.run(async move {
            let _ = stopped.await;
        }));
        Running { stop, run }
    }

    /// Waits until `wanted` holds of what was done.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool + Send + Sync) {
        let holds = async {
            loop {
                let news = self.told.news.notified();
                if wanted(self) {
                    return;
                }
                // Changes of the table are no news.
                let _ = timeout(Duration::from_secs(1), news).await;
            }
        };
        if timeout(Duration::from_secs(3600), holds).await.is_err() {
            panic!(
                "never {what}: {:#?}\n{:#?}",
                self.events(),
                self.table.leases()
            );
        }
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.told.events.lock().unwrap().clone()
    }

    pub(super) fn has_told(&self, is: impl Fn(&Event) -> bool) -> bool {
        self.told.events.lock().unwrap().iter().any(is)
    }

    /// The records delivered of a stream, in the order of delivery.
    pub(super) fn delivered(&self, stream: &StreamIdentifier) -> Vec<String> {
        let delivered = self.told.delivered.lock().unwrap();
        let of_stream = delivered
            .iter()
            .filter(|(lease, _)| lease.stream.as_ref() == Some(stream));
        of_stream.map(|(_, data)| data.clone()).collect()
    }

    /// The key of a shard's lease.
    pub(super) fn key(stream: &StreamIdentifier, shard: usize) -> LeaseKey {
        LeaseKey {
            stream: Some(stream.clone()),
            shard: format!("shardId-{shard:012}").into(),
        }
    }

    /// The owner of a shard's lease.
    pub(super) fn owner(&self, stream: &StreamIdentifier, shard: usize) -> Option<String> {
        self.table.lease(Self::key(stream, shard))?.owner
    }
}

/// A stream whose calls fail as it is told.
#[derive(Clone, Debug)]
pub(super) struct Fragile {
    stream: MemoryKinesis,
    refusal: Arc<Mutex<Option<KinesisError>>>,
    /// Is only what concerns records refused?
    lists: bool,
    pub(super) listed: Arc<AtomicUsize>,
}

impl Fragile {
    pub(super) fn new(stream: &MemoryKinesis) -> Self {
        Self {
            stream: stream.clone(),
            refusal: Arc::default(),
            lists: false,
            listed: Arc::default(),
        }
    }

    /// Its shards are listed whatever is refused.
    pub(super) fn of_reads_alone(mut self) -> Self {
        self.lists = true;
        self
    }

    pub(super) fn refuse(&self, error: Option<KinesisError>) {
        *self.refusal.lock().unwrap() = error;
    }

    fn check(&self) -> Result<(), KinesisError> {
        let refusal = self.refusal.lock().unwrap();
        refusal.clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Kinesis for Fragile {
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        if !self.lists {
            self.check()?;
        }
        self.stream.list_shards(filter).await
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError> {
        self.check()?;
        self.stream.shard_iterator(shard, from).await
    }

    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError> {
        self.check()?;
        self.stream.records(iterator, limit).await
    }

    fn now(&self) -> Option<Timestamp> {
        self.stream.now()
    }
}
