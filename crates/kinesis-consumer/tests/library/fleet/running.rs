//! A fleet of whole workers, and what is done to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{
    Config, Error, InitialPosition, Pace, Placement, Worker,
    lease::Lease,
    test_util::{MemoryKinesis, MemoryTable},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    lights::Lights,
    network::Network,
    seconds,
    units::{Units, count},
};

const STEP: Duration = Duration::from_millis(50);

struct Running {
    name: String,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Error>>,
}

pub(crate) struct Fleet {
    pub(crate) kinesis: MemoryKinesis,
    pub(crate) table: MemoryTable,
    pub(crate) units: Arc<Mutex<Units>>,
    pub(super) lights: Lights,
    network: Network,
    pace: Pace,
    pub(super) placement: Placement,
    /// The time between reads of a shard while records come.
    reads: Duration,
    began: Instant,
    running: Vec<Running>,
    born: usize,
}

impl Fleet {
    /// The stream was resharded once, so that each shard has a parent.
    pub(crate) fn new(shards: usize, pace: Pace, reads: Duration) -> Self {
        let kinesis = MemoryKinesis::new(shards / 2);
        for shard in kinesis.shards() {
            kinesis.split(&shard.id);
        }
        Self {
            kinesis,
            table: MemoryTable::new(),
            units: Arc::default(),
            lights: Lights::default(),
            network: Network::Calm,
            pace,
            placement: Placement::Number,
            reads,
            began: Instant::now(),
            running: Vec::new(),
            born: 0,
        }
    }

    /// The same in another network.
    pub(super) fn over(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    pub(crate) fn start(&mut self) {
        self.born += 1;
        let name = format!(
            "orders-consumer-7c9f8d6b5-{:05x}",
            self.born * 7919 % 0xfffff
        );
        let mut config = Config::new("orders", "orders-consumer", name.clone());
        config.initial_position = InitialPosition::Latest;
        config.idle_between_reads = Some(seconds(60));
        config.tip_read_interval = Some(self.reads);
        config.pace = self.pace;
        config.placement = self.placement;
        let (units, table) = (Arc::clone(&self.units), self.table.clone());
        let (network, began) = (self.network, self.began);
        let view = self.table.with_faults(move |call| {
            let fault = network.fault(call, began);
            count(&mut units.lock().unwrap(), call, fault, &table);
            fault
        });
        let lights = self.lights.clone();
        let processor = move |key| lights.of(key);
        let worker = Worker::over(config, self.kinesis.clone(), view, processor);
        let (stop, stopped) = oneshot::channel::<()>();
        let run = worker.on_event(|_| {}).run(async move {
            let _ = stopped.await;
        });
        let run = tokio::spawn(run);
        self.running.push(Running { name, stop, run });
    }

    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let names = self.running.iter().map(|running| running.name.clone());
        let mut counts: BTreeMap<_, _> = names.map(|name| (name, 0)).collect();
        for lease in self.table.leases() {
            if let (Some(owner), Some(_)) = (&lease.owner, &lease.native_process)
                && !lease.is_finished()
                && let Some(count) = counts.get_mut(owner)
            {
                *count += 1;
            }
        }
        counts
    }

    /// The leases that have no worker that lives. Those of parents are finished.
    fn left(&self) -> Vec<Lease> {
        let counts = self.counts();
        let mut leases = self.table.leases();
        leases.retain(|lease| {
            let owner = lease.owner.as_ref();
            let is_held = owner.is_some_and(|owner| counts.contains_key(owner));
            !(lease.is_finished() || is_held && lease.native_process.is_some())
        });
        leases
    }

    /// Every lease has a worker that lives.
    fn goes_on(&self) -> bool {
        self.left().is_empty()
    }

    pub(crate) fn is_even(&self) -> bool {
        let counts = self.counts();
        let (least, most) = (counts.values().min(), counts.values().max());
        self.goes_on() && most.unwrap_or(&0) <= &(least.unwrap_or(&0) + 1)
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            let took = began.elapsed();
            assert!(
                took < seconds(300),
                "not {what} in {took:?}: {:?}, and nobody works on {:#?}",
                self.counts(),
                self.left()
            );
            sleep(STEP).await;
        }
        began.elapsed()
    }

    /// The worker that holds the first lease, or another one.
    fn pick(&self, is_warden: bool) -> usize {
        let first = self
            .table
            .leases()
            .into_iter()
            .find_map(|lease| lease.owner);
        let is_it = |running: &Running| Some(&running.name) == first.as_ref();
        let mut indices = 0..self.running.len();
        let picked = indices.find(|index| is_it(&self.running[*index]) == is_warden);
        picked.unwrap()
    }

    pub(super) async fn kill(&mut self, is_warden: bool) -> Duration {
        let killed = self.running.swap_remove(self.pick(is_warden));
        killed.run.abort();
        let _ = killed.run.await;
        self.until("at work", Self::goes_on).await
    }

    pub(super) async fn stop(&mut self, is_warden: bool) -> Duration {
        let stopped = self.running.swap_remove(self.pick(is_warden));
        let began = Instant::now();
        stopped.stop.send(()).unwrap();
        let ended = tokio::spawn(stopped.run);
        self.until("at work", Self::goes_on).await;
        let took = began.elapsed();
        ended.await.unwrap().unwrap().unwrap();
        took
    }
}
