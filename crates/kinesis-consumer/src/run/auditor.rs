//! The slow loop: compares shards and leases, and cleans finished leases up.
//!
//! Every worker does so; all writes are conditional, so doing it twice does no harm. It never takes
//! a lease.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::{
    decide::shard_sync,
    edge::{
        kinesis::{KinesisError, ShardFilter},
        lease_table::TableError,
    },
    face::{config::InitialPosition, error::Error, event::Event},
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::Shard,
    },
    run::{
        context::{Context, KEPT, backoff, pause},
        ownership::Owner,
    },
};

/// The time to the next audit after a half-listed reshard, and while hash keys have no lease.
const QUICK_AUDIT: Duration = Duration::from_secs(1);
/// The longest that `ListShards` may lag behind a reshard.
const LISTING_LAG: Duration = Duration::from_secs(60);
/// The time between audits while a lease is finished whose shard is open.
const ENDED_CHECK: Duration = Duration::from_secs(5);
/// Concurrent calls to the lease table.
const CONCURRENCY: usize = 16;

pub(crate) struct Auditor {
    context: Arc<Context>,
    /// Finished leases that nobody needs any more, since when.
    unneeded: HashMap<LeaseKey, Instant>,
    /// Since when a shard is open whose lease is finished.
    contradicted: Option<Instant>,
    /// Denials are an operator's mistake at the start, and passing trouble once things have worked.
    worked: bool,
}

/// Why an audit was not finished.
enum Trouble {
    Table(TableError),
    Kinesis(KinesisError),
    /// `ListShards` raced a reshard.
    Race(String),
    Fatal(Error),
}

impl Auditor {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            unneeded: HashMap::new(),
            contradicted: None,
            worked: false,
        }
    }

    /// Audits for ever. Returns why the worker must stop.
    pub(crate) async fn run(mut self) -> Error {
        let mut next_audit = Instant::now();
        let mut audited = next_audit;
        let mut failures = backoff(
            QUICK_AUDIT,
            self.context.config.shard_sync_interval.max(QUICK_AUDIT),
        );
        loop {
            let context = Arc::clone(&self.context);
            tokio::select! {
                biased;
                () = sleep_until(next_audit) => {}
                () = context.reaudit.notified() => next_audit = next_audit.min(audited + QUICK_AUDIT),
            }
            if Instant::now() < next_audit {
                continue;
            }
            let wait = match self.audit().await {
                Ok(wait) => {
                    self.worked = true;
                    context.succeeded("audit");
                    context.succeeded("ListShards");
                    for operation in context.standing.expired() {
                        context.report(Event::Recovered { operation });
                    }
                    failures = backoff(
                        QUICK_AUDIT,
                        self.context.config.shard_sync_interval.max(QUICK_AUDIT),
                    );
                    wait
                }
                Err(trouble) => match self.fatal(trouble) {
                    Some(error) => return error,
                    None => failures.next().unwrap_or(QUICK_AUDIT),
                },
            };
            audited = Instant::now();
            next_audit = audited + wait;
        }
    }

    /// One comparison of shards and leases. Returns the time to the next one.
    async fn audit(&mut self) -> Result<Duration, Trouble> {
        let context = Arc::clone(&self.context);
        let (table, kinesis) = (&context.table, &context.kinesis);
        let mut position = context.config.initial_position;
        let began = Instant::now();
        let scan = match table.scan().await {
            Err(error) if error.is_of_missing_table() => {
                table.ensure_exists().await?;
                table.scan().await?
            }
            answer => answer?,
        };
        let mut lost = {
            let mut known = context.known();
            known.observe(&scan.leases, began);
            known.lost(&scan)
        };
        let mut leases = scan.leases;
        let race = |what: &dyn ToString| Trouble::Race(what.to_string());
        let is_new = leases.is_empty() && lost.is_empty();
        let (shards, wanted) = if is_new {
            let filter = shard_sync::initial_filter(position);
            let shards = kinesis.list_shards(filter).await?;
            context.ownership.learn(&shards);
            let wanted = shard_sync::initial(&shards, position).map_err(|hole| race(&hole))?;
            (shards, wanted)
        } else {
            let shards = kinesis.list_shards(ShardFilter::All).await?;
            context.ownership.learn(&shards);
            if !context.ownership.table_is_ours() {
                return Err(race(
                    &"no checkpoint is known to be of this stream yet: its shards hold no record",
                ));
            }
            lost.retain(|lease| {
                let is_listed = shards.iter().any(|shard| shard.id == lease.key.shard);
                if !is_listed {
                    context.known().forget(&lease.key);
                }
                is_listed
            });
            leases.extend(lost.iter().cloned());
            let is_older = |lease: &&Lease| context.ownership.judge(lease) == Owner::Older;
            let by_identity = || {
                leases
                    .iter()
                    .find(is_older)
                    .map(|lease| lease.key.shard.clone())
            };
            if let Some(shard) = shard_sync::recreated(&leases, &shards).or_else(by_identity) {
                return Err(Trouble::Fatal(context.impossible(&leases, shard)));
            }
            let ended = shard_sync::ended_by_nobody(&leases, &shards);
            self.tell_ended(&ended, &leases, &shards);
            for lease in &mut leases {
                // It stands still, which is told; the others go on.
                if ended.contains(&lease.key.shard) {
                    lease.checkpoint = Checkpoint::TrimHorizon;
                }
            }
            match shard_sync::open_but_finished(&leases, &shards) {
                None => self.contradicted = None,
                Some(shard) => {
                    let since = *self.contradicted.get_or_insert(began);
                    if since.elapsed() >= LISTING_LAG {
                        return Err(Trouble::Fatal(context.stream_recreated(shard)));
                    }
                    return Err(race(&format!("{shard} is open, but its lease is finished")));
                }
            }
            // Before leases at the initial position, which could be LATEST, can take their place.
            if !lost.is_empty() {
                self.put_back(lost).await?;
                position = InitialPosition::TrimHorizon;
            }
            position = shard_sync::late_position(&leases, position);
            let mut wanted =
                shard_sync::missing(&shards, &leases, position).map_err(|open| race(&open))?;
            let since = leases.iter().filter_map(|lease| lease.latest_since).min();
            for lease in &mut wanted {
                // As the others, however late this one comes.
                lease.latest_since = since.filter(|_| lease.checkpoint == Checkpoint::Latest);
            }
            // Those are there, although nobody can read them: a hole.
            wanted.retain(|lease| {
                let is = |(key, _): &(String, String)| lease.key.shard == *key.as_str();
                !scan.broken.iter().any(is)
            });
            (shards, wanted)
        };
        if began.elapsed() > context.config.failover_time {
            return Err(race(&"what was seen is too old to act on"));
        }
        let mut skipped = shard_sync::below_ended_by_nobody(&leases, &wanted);
        leases.extend(wanted.iter().cloned());
        let created = self.create(wanted).await?;
        skipped.retain(|(_, child)| created.contains(child));
        let skipped: BTreeSet<_> = skipped.into_iter().map(|(parent, _)| parent).collect();
        for parent in skipped {
            self.context.tell_skipped(parent);
        }
        if is_new && !created.is_empty() {
            context.report(Event::StartedAnew {
                position: position.checkpoint(),
                since: match position {
                    InitialPosition::TrimHorizon => None,
                    InitialPosition::Latest => context.latest_since(),
                    InitialPosition::AtTimestamp(time) => Some(time),
                },
            });
        }
        if !created.is_empty() {
            context.report(Event::LeasesCreated { shards: created });
        }
        for (key, range) in shard_sync::hash_ranges(&leases, &shards) {
            match table.set_hash_range(&key, range).await {
                Ok(()) | Err(TableError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for lease in &mut leases {
            context.ownership.correct(lease);
        }
        self.name_stream(&leases).await?;
        let holes = shard_sync::holes(&leases);
        self.clean_up(shard_sync::deletable(&leases, &shards))
            .await?;
        match holes.first() {
            // Scans and `ListShards` lag behind; a hole that stays is reported each time.
            Some(hole) => Err(Trouble::Race(format!(
                "no lease covers hash keys {} to {}",
                hole.start, hole.end
            ))),
            // Its reshard, or that it is mended, is to be seen soon.
            None if !context.ended_by_nobody().is_empty() => Ok(self.interval().min(ENDED_CHECK)),
            None => Ok(self.interval()),
        }
    }

    /// Tells which open shards nobody reads, as their leases say that they are finished; and where
    /// one of them was resharded without being read, what that skips.
    fn tell_ended(&self, ended: &BTreeSet<ShardId>, leases: &[Lease], shards: &[Shard]) {
        let before = self.context.set_ended_by_nobody(ended.clone());
        if before == *ended {
            return;
        }
        self.context.rescan.notify_one();
        let is_open = |shard: &ShardId| shards.iter().any(|it| it.id == *shard && !it.closed);
        for shard in before.difference(ended).filter(|shard| !is_open(shard)) {
            let mut leases = leases.iter();
            let lease = leases.find(|lease| lease.key.shard == *shard && lease.is_finished());
            // Where this worker finds that they have no leases, it tells it with theirs.
            if let Some(lease) = lease.filter(|lease| lease.stream_identity.is_none()) {
                self.context.tell_skipped(lease.key.clone());
            }
        }
    }

    /// Leases that we took before their shard was listed do not say yet whose they are.
    async fn name_stream(&self, leases: &[Lease]) -> Result<(), TableError> {
        let me = Some(self.context.config.worker_id.as_str());
        let is_nameless = |lease: &&Lease| {
            lease.stream_identity.is_none() && lease.is_native() && lease.owner.as_deref() == me
        };
        for lease in leases.iter().filter(is_nameless) {
            let Some(identity) = self.context.ownership.identity(&lease.key.shard) else {
                continue;
            };
            match self.context.table.set_stream(&lease.key, &identity).await {
                Ok(()) | Err(TableError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes what has been of no use for long enough.
    async fn clean_up(&mut self, deletable: Vec<Lease>) -> Result<(), TableError> {
        let now = Instant::now();
        let kept = self.context.config.failover_time * KEPT;
        self.unneeded
            .retain(|key, _| deletable.iter().any(|lease| lease.key == *key));
        for lease in deletable {
            let since = *self.unneeded.entry(lease.key.clone()).or_insert(now);
            if now - since < kept {
                continue;
            }
            match self.context.table.delete(&lease).await {
                Ok(()) => self
                    .context
                    .report(Event::LeaseDeleted { shard: lease.key }),
                Err(TableError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn put_back(&self, lost: Vec<Lease>) -> Result<(), TableError> {
        let back = self.create(lost).await?;
        if !back.is_empty() {
            self.context.report(Event::LeasesPutBack { shards: back });
        }
        Ok(())
    }

    /// Makes the table anew that is missing, with the leases where they were seen last: for whoever
    /// comes when this worker is gone.
    pub(crate) async fn restore(&self) {
        let mut failures = backoff(QUICK_AUDIT / 4, QUICK_AUDIT);
        while let Err(error) = self.try_restore().await {
            self.context.table_failed(None, "restore", &error);
            if matches!(error, TableError::Permanent(_)) && !error.is_of_missing_table() {
                return;
            }
            pause(&mut failures).await;
        }
    }

    async fn try_restore(&self) -> Result<(), TableError> {
        let context = &self.context;
        context.table.ensure_exists().await?;
        let began = Instant::now();
        let scan = context.table.scan().await?;
        let lost = context.known().lost(&scan);
        self.put_back(lost).await?;
        context.known().observe(&scan.leases, began);
        Ok(())
    }

    /// Creates leases in order, `CONCURRENCY` at a time: a parent is never much later than its
    /// child. Returns those that were not there.
    async fn create(&self, leases: Vec<Lease>) -> Result<Vec<LeaseKey>, TableError> {
        let table = &self.context.table;
        let since = self.context.latest_since();
        let creations = leases.into_iter().map(|mut lease| {
            if lease.checkpoint == Checkpoint::Latest {
                lease.latest_since = lease.latest_since.or(since);
            }
            if lease.stream_identity.is_none() {
                lease.stream_identity = self.context.ownership.identity(&lease.key.shard);
            }
            let table = Arc::clone(table);
            async move { Ok::<_, TableError>(table.create(&lease).await?.then_some(lease.key)) }
        });
        let created: Vec<_> = stream::iter(creations)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        // Another worker's may be new too.
        self.context.rescan.notify_one();
        Ok(created.into_iter().flatten().collect())
    }

    /// Reports the trouble, or returns the error where waiting does not help.
    fn fatal(&self, trouble: Trouble) -> Option<Error> {
        match trouble {
            Trouble::Fatal(error) => return Some(error),
            // A table that was just created is missing for a moment.
            Trouble::Table(error @ TableError::Permanent(_))
                if !self.worked && !error.is_of_missing_table() =>
            {
                return Some(self.context.table_error(error));
            }
            Trouble::Table(error) => self.context.table_failed(None, "audit", &error),
            Trouble::Kinesis(error @ KinesisError::NotFound(_)) => {
                return Some(self.context.stream_error(error));
            }
            Trouble::Kinesis(error @ KinesisError::Permanent(_)) if !self.worked => {
                return Some(self.context.stream_error(error));
            }
            Trouble::Kinesis(error) => self.context.kinesis_failed(None, "ListShards", &error),
            Trouble::Race(error) => self.context.report(Event::Retrying {
                shard: None,
                operation: "ListShards",
                error,
            }),
        }
        None
    }

    /// The time between audits, spread so that workers that started together do not call together.
    fn interval(&self) -> Duration {
        self.context
            .config
            .shard_sync_interval
            .mul_f64(0.9 + 0.2 * fastrand::f64())
    }
}

impl From<TableError> for Trouble {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl From<KinesisError> for Trouble {
    fn from(error: KinesisError) -> Self {
        Self::Kinesis(error)
    }
}
