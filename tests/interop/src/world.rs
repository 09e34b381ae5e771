//! What a scenario has: emulators, a stream, a lease table, workers, and the account of it all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    PATIENCE, java_log,
    leases::{LeaseTable, Watched},
    ledger::Ledger,
    process::{Side, Worker},
    scaler,
    serve::Scaler,
    services::Services,
    stream::{Shard, Stream},
};

/// Plain records of one put, beside an aggregate, while records trickle.
const TRICKLE: usize = 4;

/// A scenario's world.
#[derive(Debug)]
pub(crate) struct World {
    scaler: Scaler,
    services: Services,
    pub(crate) stream: Stream,
    /// The application's others.
    pub(crate) beside: Vec<Stream>,
    pub(crate) table: Arc<LeaseTable>,
    pub(crate) ledger: Arc<Ledger>,
    workers: Vec<Worker>,
    /// Records that trickle, until the sender is dropped.
    trickle: Option<(oneshot::Sender<()>, JoinHandle<Result<()>>)>,
    logs: PathBuf,
    verified: usize,
    fans_out: bool,
}

/// What came of a scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Records that were put, and processed.
    pub(crate) records: usize,
    /// Times that a record was processed once more.
    pub(crate) again: usize,
    pub(crate) watched: Watched,
    /// Times that the scaler was compared with a walk over the stream.
    pub(crate) verified: usize,
    /// Harmless warnings in the Java logs: why, how many.
    pub(crate) warnings: BTreeMap<&'static str, usize>,
}

impl World {
    /// A stream of so many shards; no lease table. `items`: others than leases may be in it.
    pub(crate) async fn start(logs: &Path, shards: i32, items: bool) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let database = dynoxide::Database::memory()?;
        let services = Services::start(database.clone()).await?;
        let ledger = Arc::new(Ledger::new());
        let kinesis = services.kinesis.clone();
        let stream = Stream::create(kinesis, "orders", shards, Arc::clone(&ledger)).await?;
        Ok(Self {
            scaler: Scaler::start(&services, &stream.name).await?,
            services,
            table: LeaseTable::watch(database, stream.name.clone(), items),
            stream,
            beside: Vec::new(),
            ledger,
            workers: Vec::new(),
            trickle: None,
            logs: logs.to_owned(),
            verified: 0,
            fans_out: false,
        })
    }

    /// Two streams of so many shards each, in place of one.
    pub(crate) async fn start_several(logs: &Path, shards: i32, items: bool) -> Result<Self> {
        let mut world = Self::start(logs, shards, items).await?;
        let other = world.stream.beside("orders-2", shards).await?;
        world.beside.push(other);
        Ok(world)
    }

    fn streams(&self) -> impl Iterator<Item = &Stream> {
        std::iter::once(&self.stream).chain(&self.beside)
    }

    /// Workers that start from now on subscribe, by the consumer of the application's name.
    pub(crate) fn fan_out(&mut self) {
        self.fans_out = true;
    }

    /// Starts a worker; returns its number.
    pub(crate) fn run(&mut self, side: Side) -> Result<usize> {
        self.run_worker(side, false)
    }

    /// Starts a worker that stops inside an aggregate, with a checkpoint there.
    pub(crate) fn run_halfway(&mut self, side: Side) -> Result<usize> {
        self.run_worker(side, true)
    }

    fn run_worker(&mut self, side: Side, halfway: bool) -> Result<usize> {
        let number = self.workers.len();
        let mut environment = self.services.environment();
        // The stream, the application and its lease table have one name.
        if self.beside.is_empty() {
            environment.push(("STREAM_NAME", self.stream.name.clone()));
        } else {
            let ids = self.streams().map(|it| it.prefix.trim_end_matches(':'));
            let ids: Vec<_> = ids.collect();
            // Java is told, and we look.
            let streams = match side {
                Side::Java(_) => ids.join(","),
                Side::Rust => format!("{}*", self.stream.name),
            };
            environment.push(("STREAMS", streams));
        }
        environment.push(("APPLICATION_NAME", self.stream.name.clone()));
        if self.fans_out {
            environment.push(("FAN_OUT", "1".to_owned()));
        }
        let account = (&self.ledger, &*self.logs);
        let worker = Worker::start(side, number, &environment, halfway, account)?;
        self.workers.push(worker);
        Ok(number)
    }

    /// A few records every 100 ms, until [`Self::still`].
    pub(crate) fn trickle(&mut self) {
        let streams: Vec<_> = self.streams().cloned().collect();
        let (stop, mut stopped) = oneshot::channel();
        let trickle = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(100));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                // Between puts: what is put half stands in the ledger and nowhere else.
                tokio::select! {
                    _ = &mut stopped => return Ok(()),
                    _ = ticks.tick() => {}
                }
                for stream in &streams {
                    stream.put(None, TRICKLE).await?;
                }
            }
        });
        self.trickle = Some((stop, trickle));
    }

    /// No more records, and all there are processed.
    pub(crate) async fn still(&mut self) -> Result<()> {
        if let Some((stop, trickle)) = self.trickle.take() {
            drop(stop);
            trickle.await?.context("a put failed")?;
        }
        self.until("every record is processed", |world| {
            Ok(world.ledger.missing().is_empty())
        })
        .await
    }

    /// Waits until it is so; fails when a worker ends by itself.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let (mut ledger, mut leases) = (self.ledger.changes(), self.table.changes());
        let waiting = async {
            while !is_so(self)? {
                for worker in &mut self.workers {
                    worker.must_run()?;
                }
                any_change(&mut ledger, &mut leases).await;
            }
            anyhow::Ok(())
        };
        match timeout(PATIENCE, waiting).await {
            Ok(done) => done.with_context(|| format!("until {what}")),
            Err(_) => bail!("waited {PATIENCE:?} in vain until {what}"),
        }
    }

    /// Waits until the workers hold so many unfinished leases.
    pub(crate) async fn until_hold(&mut self, wanted: &[(usize, usize)]) -> Result<()> {
        let named: Vec<_> = wanted
            .iter()
            .map(|(worker, leases)| (self.workers[*worker].name.clone(), *leases))
            .collect();
        self.until(&format!("the workers hold {named:?} leases"), |world| {
            let mut all = named.iter();
            Ok(all.all(|(name, leases)| world.table.held_by(name).len() == *leases))
        })
        .await
    }

    /// Waits until a lease has gone from one worker to another.
    pub(crate) async fn until_moved(&mut self, from: usize, to: usize) -> Result<()> {
        let (from, to) = (
            self.workers[from].name.clone(),
            self.workers[to].name.clone(),
        );
        self.until(&format!("a lease goes from {from} to {to}"), |world| {
            Ok(world.table.has_moved(&from, &to))
        })
        .await
    }

    /// Waits until KCL 3's state says that a leader assigns the leases.
    pub(crate) async fn until_led(&mut self) -> Result<()> {
        // KCL waits until all was ready for ten minutes.
        for _ in 0..2 {
            let waited = self.until("a leader assigns the leases", |world| {
                Ok(world.table.is_led())
            });
            if waited.await.is_ok() {
                return Ok(());
            }
        }
        bail!("no leader assigns the leases")
    }

    /// How often a record was processed once more, so far.
    pub(crate) fn again(&self) -> usize {
        self.ledger.again()
    }

    /// Waits until records that are put from now on were processed, of each open shard some, by
    /// these workers together.
    pub(crate) async fn until_flows(&mut self, workers: &[usize]) -> Result<()> {
        let mut open = BTreeSet::new();
        for stream in self.streams() {
            open.extend(stream.open_keys().await?);
        }
        let since = Instant::now();
        self.until(&format!("all is processed by {workers:?}"), |world| {
            let read = workers.iter().map(|it| world.ledger.read_since(*it, since));
            let read: BTreeSet<_> = read.flatten().collect();
            Ok(read.is_superset(&open))
        })
        .await
    }

    /// The same, and each of them has processed some.
    pub(crate) async fn until_shared(&mut self, workers: &[usize]) -> Result<()> {
        let since = Instant::now();
        self.until_flows(workers).await?;
        self.until(&format!("each of {workers:?} processes"), |world| {
            let mut each = workers.iter();
            Ok(each.all(|it| !world.ledger.read_since(*it, since).is_empty()))
        })
        .await
    }

    /// The unfinished leases of a worker.
    pub(crate) fn held(&self, worker: usize) -> BTreeSet<String> {
        self.table.held_by(&self.workers[worker].name)
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&mut self, worker: usize) -> Result<()> {
        self.workers[worker].terminate().await
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self, worker: usize) -> Result<()> {
        self.workers[worker].kill().await
    }

    /// Puts some records and an aggregate into each of these shards, the aggregate last.
    pub(crate) async fn put_into(&self, shards: &[Shard], plain: usize) -> Result<Vec<String>> {
        let mut put = Vec::new();
        for shard in shards {
            put.extend(self.stream.put(Some(shard), plain).await?);
        }
        Ok(put)
    }

    /// The scaler says of every shard what a walk over the stream says.
    pub(crate) async fn verify_scaler(&mut self) -> Result<()> {
        let (stream, table) = (&self.stream, &self.table);
        scaler::verify(&self.services, stream, table, &mut self.scaler).await?;
        self.verified += 1;
        Ok(())
    }

    /// Ends all workers and judges.
    pub(crate) async fn close(mut self) -> Result<Outcome> {
        self.still().await?;
        for worker in &mut self.workers {
            if !worker.is_over() {
                worker.terminate().await?;
            }
        }
        let totals = self.ledger.close()?;
        let odd = self.ledger.odd();
        ensure!(odd.len() <= self.workers.len(), "odd lines: {odd:?}");
        if self.beside.is_empty() {
            self.verify_scaler().await?;
            // Backlog that nobody works on, in some shards.
            let open = self.stream.open().await?;
            self.put_into(&open[..open.len() / 2], 1).await?;
            self.verify_scaler().await?;
        }
        let watched = self.table.close()?;
        let mut warnings = BTreeMap::new();
        for worker in &self.workers {
            if let Side::Java(_) = worker.side {
                for (why, count) in java_log::judge(&worker.log)? {
                    *warnings.entry(why).or_default() += count;
                }
            }
        }
        Ok(Outcome {
            records: totals.put,
            again: totals.again,
            watched,
            verified: self.verified,
            warnings,
        })
    }
}

async fn any_change(one: &mut watch::Receiver<()>, other: &mut watch::Receiver<()>) {
    tokio::select! {
        _ = one.changed() => {}
        _ = other.changed() => {}
        // Also processes that end.
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
}
