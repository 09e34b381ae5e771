//! One seed: workers come, go, stop and stumble while the stream is resharded; then the dust
//! settles and all must be well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{
    Config, Error, FanOut, InitialPosition, Pace, Retrieval, ShardId, test_util::MemoryTable,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    ledger::Shared,
    node::{Chaos, Node},
};
use crate::stream::Stream;

mod episodes;
mod outcome;

const MOST_WORKERS: usize = 8;
const MOST_SHARDS: usize = 64;

/// What a seed did.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) broken: Vec<String>,
    pub(crate) events: BTreeMap<&'static str, u64>,
    pub(crate) trace: u64,
}

pub(crate) fn run(seed: u64) -> Report {
    // The library's jitter draws from this thread's generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut scenario = Scenario::new(seed);
        scenario.stumble().await;
        let settled = scenario.settle().await;
        if let Err(what) = settled {
            scenario.ledger.lock().broke(what);
        }
        let mut ledger = scenario.ledger.lock();
        Report {
            broken: std::mem::take(&mut ledger.broken),
            events: std::mem::take(&mut ledger.events),
            trace: ledger.trace,
        }
    })
}

struct Scenario {
    rng: fastrand::Rng,
    ledger: Shared,
    table: MemoryTable,
    chaos: Arc<Mutex<Chaos>>,
    position: InitialPosition,
    /// How many workers of a hundred subscribe; the others poll.
    subscribing: u8,
    /// No faults and no crashes: then nothing may be processed twice.
    calm: bool,
    /// The stream is to be deleted and made anew.
    made_anew: bool,
    nodes: Vec<Node>,
    lives: u64,
    workers: u64,
    /// Shards whose unread records the retention took.
    cut: BTreeSet<ShardId>,
    /// Another application had rows in the table: who started then may end.
    was_shared: bool,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shards = if rng.u8(..10) == 0 {
            rng.usize(16..=32)
        } else {
            rng.usize(1..=8)
        };
        let iterator_life = Duration::from_secs(rng.u64(3..=60));
        // This machine's clock is wrong in half of the seeds.
        let ahead = rng.choice([0, 0, 0, 0, -3600, -120, 120, 3600]);
        let ahead = ahead.unwrap_or_default();
        let calm = rng.u8(..10) == 0;
        let subscribing = rng.choice([0, 0, 50, 100, 100]).unwrap_or_default();
        let mut stream = Stream::new(shards, iterator_life).ahead(ahead);
        if rng.u8(..8) == 0 {
            stream.allow_no_consumer();
        }
        Self {
            ledger: Shared::new(stream),
            table: MemoryTable::new(),
            chaos: Arc::default(),
            position: if rng.u8(..5) == 0 {
                InitialPosition::Latest
            } else {
                InitialPosition::TrimHorizon
            },
            subscribing,
            calm,
            made_anew: !calm && rng.u8(..8) == 0,
            nodes: Vec::new(),
            lives: seed.wrapping_mul(1_000_003),
            workers: 0,
            cut: BTreeSet::new(),
            was_shared: false,
            rng,
        }
    }

    // === what happens ===

    async fn stumble(&mut self) {
        self.join(None);
        // With LATEST, shards that close before the first worker lists them are not the
        // application's.
        let initial = self.ledger.lock().stream.len();
        while self.position == InitialPosition::Latest && self.table.leases().len() < initial {
            sleep(Duration::from_millis(100)).await;
        }
        let end = Instant::now() + Duration::from_secs(self.rng.u64(40..=120));
        while Instant::now() < end {
            sleep(Duration::from_millis(self.rng.u64(..2500))).await;
            self.reap().await;
            self.step().await;
        }
    }

    async fn step(&mut self) {
        match self.rng.u8(..105) {
            0..40 => self.put(),
            40..48 => self.split(),
            48..55 => self.merge(),
            55..65 => self.join(None),
            65..72 => self.terminate(),
            72 => self.intrude().await,
            _ if self.calm => {}
            73..81 => self.kill().await,
            81..89 => self.pause(),
            89..93 => self.resume(),
            93 => self.deregister(),
            94..96 => self.expire(),
            96..98 => self.cut(),
            98 if self.made_anew => self.make_anew().await,
            _ => self.stir(),
        }
    }

    fn put(&mut self) {
        let mut ledger = self.ledger.lock();
        let open = ledger.stream.open();
        for _ in 0..self.rng.usize(1..=8) {
            let index = open[self.rng.usize(..open.len())];
            for _ in 0..self.rng.usize(1..=6) {
                let users = self.rng.usize(1..=5);
                match self.rng.u8(..16) {
                    0 => ledger.stream.put_straddling(index, users),
                    1..5 => ledger.stream.put(index, Some(users)),
                    _ => ledger.stream.put(index, None),
                }
            }
        }
    }

    fn split(&mut self) {
        let mut ledger = self.ledger.lock();
        let open = ledger.stream.open();
        if ledger.stream.len() + 2 <= MOST_SHARDS {
            ledger.stream.split(open[self.rng.usize(..open.len())]);
        }
    }

    fn merge(&mut self) {
        let mut ledger = self.ledger.lock();
        let open = ledger.stream.open();
        if ledger.stream.len() < MOST_SHARDS {
            ledger.stream.merge(open[self.rng.usize(..open.len())]);
        }
    }

    /// `worker`: the name; `None`: a new one.
    fn join(&mut self, worker: Option<String>) {
        if self.nodes.len() >= MOST_WORKERS {
            return;
        }
        let worker = worker.unwrap_or_else(|| format!("worker-{}", self.workers + 1));
        let config = self.config("stream", worker);
        let node = self.start(config, &self.ledger.clone(), false);
        self.nodes.push(node);
    }

    fn config(&mut self, stream: &str, worker: String) -> Config {
        let mut config = Config::new(stream, "application", worker);
        config.initial_position = self.position;
        config.pace = Pace::ALL[self.rng.usize(..3)];
        if self.rng.u8(..100) < self.subscribing {
            let mut fan_out = FanOut::default();
            fan_out.or_polling = true;
            config.retrieval = Retrieval::FanOut(fan_out);
        }
        config.shard_sync_interval = Some(Duration::from_secs(15));
        config.prefetch_bytes = self.rng.usize(500..=8_000);
        config.shutdown_deadline = Duration::from_secs(self.rng.u64(1..=20));
        config
    }

    fn start(&mut self, config: Config, ledger: &Shared, only_looks: bool) -> Node {
        self.workers += 1;
        self.lives += 1;
        let (table, chaos) = (&self.table, &self.chaos);
        Node::start(config, ledger, table, chaos, self.lives, only_looks)
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.nodes.is_empty()).then(|| self.rng.usize(..self.nodes.len()))
    }

    fn terminate(&mut self) {
        if let Some(index) = self.pick() {
            self.nodes[index].terminate();
        }
    }

    async fn kill(&mut self) {
        if let Some(index) = self.pick() {
            let node = self.nodes.swap_remove(index);
            let worker = node.worker.clone();
            node.kill().await;
            if self.rng.bool() {
                self.join(Some(worker));
            }
        }
    }

    fn pause(&mut self) {
        if let Some(index) = self.pick() {
            self.nodes[index].pause(true);
        }
    }

    fn resume(&mut self) {
        for node in &self.nodes {
            node.pause(false);
        }
    }

    fn stir(&mut self) {
        let calls_fail = self.rng.bool();
        *self.chaos.lock().unwrap() = Chaos {
            throttled: if calls_fail { self.rng.u8(..20) } else { 0 },
            lost: if calls_fail { self.rng.u8(..20) } else { 0 },
            latency: Duration::from_millis(self.rng.u64(..1000)),
            failing: if self.rng.bool() {
                self.rng.u8(..30)
            } else {
                0
            },
            slow: Duration::from_secs(self.rng.u64(..40)),
        };
    }

    /// Somebody deregisters the consumer.
    fn deregister(&mut self) {
        let mut ledger = self.ledger.lock();
        ledger.stream.memory().deregister_consumer("application");
    }

    /// Workers that were told to stop have stopped.
    async fn reap(&mut self) {
        while let Some(index) = self.nodes.iter().position(Node::has_ended) {
            let node = self.nodes.swap_remove(index);
            let worker = node.worker.clone();
            let told = node.is_terminating();
            let result = node.ended().await;
            let is_outdated = {
                let ledger = self.ledger.lock();
                ledger.is_outdated || ledger.is_deleted
            };
            let is_foreign = matches!(result, Ok(Err(Error::ForeignTable { .. })));
            if is_outdated && episodes::names_what_it_found(&result)
                || self.was_shared && is_foreign
            {
                continue;
            }
            if !told || !matches!(result, Ok(Ok(()))) {
                self.ledger
                    .lock()
                    .broke(format!("{worker} ended by itself: {result:?}"));
            }
        }
    }

    // === what must be true in the end ===

    async fn settle(&mut self) -> Result<(), String> {
        *self.chaos.lock().unwrap() = Chaos::default();
        self.resume();
        self.reap().await;
        if self.nodes.iter().all(Node::is_terminating) {
            let gone = async {
                while !self.nodes.is_empty() {
                    sleep(Duration::from_secs(1)).await;
                    self.reap().await;
                }
            };
            timeout(Duration::from_secs(100), gone)
                .await
                .map_err(|_| "a worker does not stop")?;
            self.join(None);
        }
        self.until("settled", 300, Self::is_settled).await?;
        self.come_to_rest().await?;
        if self.rng.u8(..6) == 0 {
            // Finished leases are deleted, and nobody misses them.
            sleep(Duration::from_secs(200)).await;
        }
        self.put();
        self.until("settled after more records", 30, Self::is_settled)
            .await?;
        if self.calm {
            self.is_exactly_once()?;
        }
        for node in &mut self.nodes {
            node.terminate();
        }
        let stopped = async {
            while !self.nodes.is_empty() {
                sleep(Duration::from_millis(100)).await;
                self.reap().await;
            }
        };
        timeout(Duration::from_secs(60), stopped)
            .await
            .map_err(|_| "a worker does not stop")?;
        self.is_released()
    }

    /// Waits at most so many seconds.
    async fn until(
        &mut self,
        what: &str,
        seconds: u32,
        holds: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        for _ in 0..seconds {
            self.reap().await;
            if holds(self).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_secs(1)).await;
        }
        holds(self).map_err(|why| format!("not {what} after {seconds} s: {why}"))
    }

    /// Hand-overs under way end; then nothing moves any more.
    async fn come_to_rest(&self) -> Result<(), String> {
        let mut owners = self.owners();
        for _ in 0..8 {
            sleep(Duration::from_secs(15)).await;
            let before = std::mem::replace(&mut owners, self.owners());
            if before == owners {
                return Ok(());
            }
        }
        Err(format!("leases move for ever, now {owners:?}"))
    }

    fn owners(&self) -> BTreeMap<ShardId, Option<String>> {
        let unfinished = self
            .table
            .leases()
            .into_iter()
            .filter(|lease| !lease.is_finished());
        unfinished
            .map(|lease| (lease.key.shard, lease.owner))
            .collect()
    }
}
