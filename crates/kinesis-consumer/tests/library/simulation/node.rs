//! One worker of the simulation: the library's worker with calls that go wrong, and that can be
//! stopped like a process.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_consumer::{
    Checkpoint, Config, Error, KinesisError, LeaseKey, ShardId, TableError, Worker,
    lease::Lease,
    shards::{HashRange, Shard, StartFrom},
    test_util::{
        Consumer, Fault, Kcl3State, Kinesis, LeaseTable, MemoryTable, Outcome, Page, Room, Scan,
        ShardFilter, Subscription,
    },
};
use tokio::{
    sync::{Notify, oneshot},
    task::{AbortHandle, JoinHandle},
    time::{Instant, sleep},
};

use super::{ledger::Shared, processor::Recording, subscription::Pushing};

/// How often things go wrong, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chaos {
    pub(crate) throttled: u8,
    pub(crate) lost: u8,
    pub(crate) latency: Duration,
    pub(crate) failing: u8,
    pub(crate) slow: Duration,
}

/// What all parts of one worker's life share.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) worker: String,
    /// Tells this process from others of the same worker id.
    pub(crate) name: String,
    pub(crate) ledger: Shared,
    pub(crate) table: MemoryTable,
    pub(crate) chaos: Arc<Mutex<Chaos>>,
    rng: Arc<Mutex<fastrand::Rng>>,
    process: Arc<Process>,
}

/// What is done to a process. Not `tokio::sync::watch`: that wakes in random order, and a seed must
/// replay.
#[derive(Debug, Default)]
struct Process {
    /// True: the process is stopped (SIGSTOP), while time goes on.
    stopped: AtomicBool,
    /// SIGCONT.
    goes_on: Notify,
    /// SIGTERM.
    terminates: AtomicBool,
    /// What user code started and left alone: it ends with the process.
    strays: Mutex<Vec<AbortHandle>>,
    /// AWS's time as the last answer had it, to a second.
    heard: Mutex<Option<(Timestamp, Instant)>>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.worker)
    }
}

impl Life {
    pub(crate) fn chaos(&self) -> Chaos {
        *self.chaos.lock().unwrap()
    }

    pub(crate) fn happens(&self, percent: u8) -> bool {
        percent > 0 && self.rng.lock().unwrap().u8(..100) < percent
    }

    pub(crate) fn below(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.rng.lock().unwrap().f64())
    }

    pub(crate) fn number(&self, range: std::ops::RangeInclusive<usize>) -> usize {
        self.rng.lock().unwrap().usize(range)
    }

    /// Returns when the process runs.
    pub(crate) async fn running(&self) {
        while self.is_stopped() {
            self.process.goes_on.notified().await;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.process.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.process.terminates.load(Ordering::Relaxed)
    }

    /// Runs on until the process ends, whoever waits for it.
    pub(crate) fn stray(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stray = tokio::spawn(work).abort_handle();
        self.process.strays.lock().unwrap().push(stray);
    }

    fn fault(&self) -> Fault {
        let chaos = self.chaos();
        let outcome = if self.happens(chaos.throttled) {
            Outcome::Throttled
        } else if self.happens(chaos.lost) {
            if self.happens(50) {
                Outcome::Lost
            } else if self.happens(50) {
                Outcome::AnswerLost
            } else {
                Outcome::Repeated
            }
        } else {
            Outcome::Done
        };
        Fault {
            before: self.below(chaos.latency),
            outcome,
            after: self.below(chaos.latency),
        }
    }
}

// === Kinesis ===

#[async_trait]
impl Kinesis for Life {
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        self.call(|ledger| Ok(ledger.stream.list(filter))).await
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError> {
        self.call(|ledger| ledger.stream.iterator(shard, from))
            .await
    }

    fn now(&self) -> Option<Timestamp> {
        let (date, at) = (*self.process.heard.lock().unwrap())?;
        Some(date + at.elapsed())
    }

    /// Asked by whoever looks for the oldest record.
    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError> {
        let limit = self.number(0..=8).min(limit as usize);
        let tell_children = self.happens(70);
        self.call(|ledger| ledger.stream.page(iterator, limit, tell_children))
            .await
    }

    async fn records_within(
        &self,
        iterator: &str,
        limit: u32,
        _: Room,
    ) -> Result<Page, KinesisError> {
        let page = self.records(iterator, limit).await?;
        self.ledger.lock().read(&self.name, &page.records);
        Ok(page)
    }

    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, KinesisError> {
        self.call(|ledger| Ok(ledger.stream.consumer(name))).await
    }

    async fn register_consumer(&self, name: &str) -> Result<Consumer, KinesisError> {
        self.call(|ledger| ledger.stream.memory().register_consumer(name))
            .await
    }

    async fn subscribe(
        &self,
        consumer: &str,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<Box<dyn Subscription>, KinesisError> {
        let place = self.call(|ledger| ledger.stream.memory().subscribe(consumer, shard, from));
        Ok(Box::new(Pushing::new(self.clone(), place.await?)))
    }
}

impl Life {
    async fn call<T>(
        &self,
        answer: impl FnOnce(&mut super::ledger::Ledger) -> Result<T, KinesisError>,
    ) -> Result<T, KinesisError> {
        self.running().await;
        let fault = self.fault();
        sleep(fault.before).await;
        let (result, date) = {
            let mut ledger = self.ledger.lock();
            let result = match ledger.is_deleted {
                true => Err(KinesisError::NotFound("the stream is deleted".into())),
                false => answer(&mut ledger),
            };
            (result, ledger.stream.now())
        };
        sleep(fault.after).await;
        self.running().await;
        if !matches!(fault.outcome, Outcome::Lost | Outcome::AnswerLost) {
            let date = Timestamp::from_second(date.as_second()).unwrap();
            *self.process.heard.lock().unwrap() = Some((date, Instant::now()));
        }
        match fault.outcome {
            Outcome::Done | Outcome::Repeated => result,
            Outcome::Throttled => Err(KinesisError::Throttled("by fault".into())),
            Outcome::Denied => Err(KinesisError::Permanent("by fault".into())),
            Outcome::Lost | Outcome::AnswerLost => {
                Err(KinesisError::Unavailable("by fault".into()))
            }
        }
    }
}

// === lease table ===

/// The shared table as one worker's calls reach it. Judges every lease after each call.
#[derive(Debug)]
struct Table {
    life: Life,
    inner: MemoryTable,
    /// The leases are not of the ledger's stream.
    only_looks: bool,
}

impl Table {
    fn see(&self, key: Option<&LeaseKey>) {
        if self.only_looks {
            return;
        }
        let mut ledger = self.life.ledger.lock();
        if let Some(lease) = key.and_then(|key| self.inner.lease(key)) {
            ledger.see(&lease);
        }
    }

    /// A write of a holder that was answered with success: it must hold the lease.
    fn judge_holder(&self, answer: &Result<Lease, TableError>, operation: &str) {
        if let Ok(lease) = answer
            && lease.owner.as_deref() != Some(self.life.worker.as_str())
        {
            let what = format!(
                "{operation} by {} of {:?}'s lease {}",
                self.life.worker, lease.owner, lease.key
            );
            self.life.ledger.lock().broke(what);
        }
    }
}

macro_rules! through {
    ($($(#[$judge:ident])? fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty, $key:expr;)*) => {
        #[async_trait]
        impl LeaseTable for Table {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, TableError> {
                self.life.running().await;
                let answer = self.inner.$name($($arg),*).await;
                self.see($key);
                $(self.$judge(&answer, stringify!($name));)?
                self.life.running().await;
                answer
            })*
        }
    };
}

through! {
    fn ensure_exists() -> bool, None;
    fn scan() -> Scan, None;
    fn look(keys: &[LeaseKey]) -> Vec<Lease>, None;
    fn read(key: &LeaseKey) -> Option<Lease>, Some(key);
    fn create(lease: &Lease) -> bool, Some(&lease.key);
    #[judge_holder] fn take(lease: &Lease, worker: &str) -> Lease, Some(&lease.key);
    #[judge_holder] fn renew(lease: &Lease) -> Lease, Some(&lease.key);
    #[judge_holder] fn checkpoint(lease: &Lease, checkpoint: &Checkpoint) -> Lease, Some(&lease.key);
    fn release(lease: &Lease) -> (), Some(&lease.key);
    fn hand_over(lease: &Lease, to: &str) -> (), Some(&lease.key);
    fn ask(lease: &Lease, worker: &str, has: u64) -> (), Some(&lease.key);
    fn tell(lease: &Lease, news: &BTreeSet<LeaseKey>) -> (), Some(&lease.key);
    fn withdraw(key: &LeaseKey, worker: &str) -> (), Some(key);
    fn remember_latest(key: &LeaseKey, since: Timestamp) -> (), Some(key);
    fn set_children(key: &LeaseKey, children: &BTreeSet<ShardId>) -> (), Some(key);
    fn set_stream(key: &LeaseKey, identity: &str) -> (), Some(key);
    fn set_hash_range(key: &LeaseKey, range: HashRange) -> (), Some(key);
    fn delete(lease: &Lease) -> (), Some(&lease.key);
    fn discard(lease: &Lease) -> (), Some(&lease.key);
    fn kcl3_state() -> Kcl3State, None;
    fn report_worker(worker: &str, now: Timestamp) -> (), None;
    fn retire_worker(worker: &str) -> (), None;
}

// === the process ===

/// A worker's process.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) worker: String,
    life: String,
    ledger: Shared,
    process: Arc<Process>,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<(), Error>>,
}

impl Node {
    /// `life`: tells this process from others of the same worker id. `only_looks`: the table is not
    /// its own, and it may write nothing to it.
    pub(crate) fn start(
        config: Config,
        ledger: &Shared,
        table: &MemoryTable,
        chaos: &Arc<Mutex<Chaos>>,
        life: u64,
        only_looks: bool,
    ) -> Self {
        let process = Arc::<Process>::default();
        let worker = config.worker_id.clone();
        let name = format!("{worker}/{life}");
        let shared = Life {
            worker: worker.clone(),
            name: name.clone(),
            ledger: ledger.clone(),
            table: table.clone(),
            chaos: Arc::clone(chaos),
            rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(life))),
            process: Arc::clone(&process),
        };
        let faults = shared.clone();
        let view = Table {
            life: shared.clone(),
            inner: table.with_faults(move |call| {
                let looks = ["ensure_exists", "scan", "look", "read", "kcl3_state"];
                if only_looks && !looks.contains(&call.operation) {
                    let what = format!("{} {:?} in another's table", call.operation, call.key);
                    faults.ledger.lock().broke(what);
                }
                faults.fault()
            }),
            only_looks,
        };
        let for_factory = shared.clone();
        let factory = move |lease: LeaseKey| Recording::new(for_factory.clone(), lease.shard);
        let (told, who) = (ledger.clone(), name.clone());
        let (stop, told_to_stop) = oneshot::channel();
        let worker_of_library = Worker::over(config, shared, view, factory)
            .on_event(move |event| told.lock().event(&who, event));
        let run = tokio::spawn(worker_of_library.run(async move {
            let _ = told_to_stop.await;
        }));
        Self {
            worker,
            life: name,
            ledger: ledger.clone(),
            process,
            stop: Some(stop),
            run,
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self) {
        if let Some(stop) = self.stop.take() {
            self.process.terminates.store(true, Ordering::Relaxed);
            let _ = stop.send(());
        }
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.stop.is_none()
    }

    /// SIGSTOP, SIGCONT.
    pub(crate) fn pause(&self, stopped: bool) {
        self.process.stopped.store(stopped, Ordering::Relaxed);
        if !stopped {
            self.process.goes_on.notify_waiters();
        }
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        self.run.abort();
        let _ = (&mut self.run).await;
        self.end_strays();
        // Let the tasks that it spawned end too.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.ledger.lock().forget(&self.life);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.run.is_finished()
    }

    pub(crate) async fn ended(self) -> Result<Result<(), Error>, tokio::task::JoinError> {
        self.end_strays();
        let result = self.run.await;
        self.ledger.lock().forget(&self.life);
        result
    }

    fn end_strays(&self) {
        let strays = std::mem::take(&mut *self.process.strays.lock().unwrap());
        strays.iter().for_each(AbortHandle::abort);
    }
}
