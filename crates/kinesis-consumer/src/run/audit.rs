//! One comparison of a stream's shards with its leases: what lacks is created, what nobody needs is
//! deleted.
//!
//! All writes are conditional, so doing it twice does no harm. It never takes a lease.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use backon::ExponentialBackoff;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    decide::shard_sync,
    edge::{
        kinesis::{KinesisError, ShardFilter},
        lease_table::{Scan, TableError},
    },
    face::{config::InitialPosition, error::Error, event::Event},
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::Shard,
    },
    run::{
        context::{Context, backoff},
        ownership::Owner,
        stream::Stream,
    },
};

/// The time to the next audit after a half-listed reshard, and while hash keys have no lease.
pub(crate) const QUICK_AUDIT: Duration = Duration::from_secs(1);
/// The longest that `ListShards` may lag behind a reshard.
const LISTING_LAG: Duration = Duration::from_secs(60);
/// The time between audits while a lease is finished whose shard is open.
const ENDED_CHECK: Duration = Duration::from_secs(5);
/// How long a lost lease is left to the worker that held it.
const HOLDERS_TURN: Duration = Duration::from_secs(30);
/// Concurrent calls to the lease table.
const CONCURRENCY: usize = 16;

/// The audits of one stream.
pub(crate) struct Audit {
    context: Arc<Context>,
    pub(crate) stream: Arc<Stream>,
    /// When the next one is due.
    pub(crate) next: Instant,
    last: Instant,
    failures: ExponentialBackoff,
    /// Finished leases that nobody needs any more, since when.
    unneeded: HashMap<LeaseKey, Instant>,
    /// Since when a shard is open whose lease is finished.
    contradicted: Option<Instant>,
    /// Since when leases are lacking that others held.
    lacking: Option<Instant>,
    /// Denials are an operator's mistake at the start, and passing trouble once things have worked.
    pub(crate) worked: bool,
}

/// What a scan showed, of all streams.
pub(crate) struct Seen {
    scan: Scan,
    /// Unfinished leases that were there before.
    lost: Vec<Lease>,
    began: Instant,
}

/// Why an audit was not finished.
pub(crate) enum Trouble {
    Table(TableError),
    Kinesis(KinesisError),
    /// `ListShards` raced a reshard.
    Race(String),
    Fatal(Error),
}

impl Seen {
    /// Scans the table, which is made anew where it is missing.
    pub(crate) async fn scan(context: &Context) -> Result<Self, TableError> {
        let table = &context.table;
        let began = Instant::now();
        let scan = match table.scan().await {
            Err(error) if error.is_of_missing_table() => {
                table.ensure_exists().await?;
                table.scan().await?
            }
            answer => answer?,
        };
        let mut known = context.known();
        known.observe(&scan.leases, began);
        let lost = known.lost(&scan);
        drop(known);
        context.fleet.share(scan.clone(), began);
        Ok(Self { scan, lost, began })
    }
}

impl Audit {
    pub(crate) fn new(context: Arc<Context>, stream: Arc<Stream>) -> Self {
        Self {
            failures: failures(&context),
            context,
            stream,
            next: Instant::now(),
            last: Instant::now(),
            unneeded: HashMap::new(),
            contradicted: None,
            lacking: None,
            worked: false,
        }
    }

    /// The next one comes at once, or a moment after the last one.
    pub(crate) fn hasten(&mut self) {
        self.next = self.next.min(self.last + QUICK_AUDIT);
    }

    /// It is left to the warden.
    pub(crate) fn leave(&mut self) {
        self.next = Instant::now() + self.interval();
    }

    /// The audit is done: the next one is due after `wait`.
    pub(crate) fn done(&mut self, wait: Duration) {
        self.worked = true;
        self.failures = failures(&self.context);
        self.last = Instant::now();
        self.next = self.last + wait;
    }

    /// The audit failed: it is tried again, later each time.
    pub(crate) fn failed(&mut self) {
        self.last = Instant::now();
        self.next = self.last + self.failures.next().unwrap_or(QUICK_AUDIT);
    }

    /// One comparison of shards and leases. Returns the time to the next one.
    pub(crate) async fn run(&mut self, seen: &Seen) -> Result<Duration, Trouble> {
        let (context, stream) = (Arc::clone(&self.context), Arc::clone(&self.stream));
        let (table, kinesis) = (&context.table, &stream.kinesis);
        let mut position = context.config.initial_position;
        let began = seen.began;
        let of_stream = |leases: &[Lease]| -> Vec<Lease> {
            let is = |lease: &&Lease| lease.key.stream == stream.id;
            leases.iter().filter(is).cloned().collect()
        };
        let mut lost = of_stream(&seen.lost);
        let mut leases = of_stream(&seen.scan.leases);
        let race = |what: &dyn ToString| Trouble::Race(what.to_string());
        let is_new = leases.is_empty() && lost.is_empty();
        let found = stream.latest_since_found();
        let found = found.filter(|_| is_new && position == InitialPosition::Latest);
        let (shards, mut wanted) = if is_new {
            self.first_leases(found).await?
        } else {
            let shards = kinesis.list_shards(ShardFilter::All).await?;
            stream.ownership.learn(&shards);
            if !stream.ownership.table_is_ours() {
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
            let is_older = |lease: &&Lease| stream.ownership.judge(lease) == Owner::Older;
            let by_identity = || {
                leases
                    .iter()
                    .find(is_older)
                    .map(|lease| lease.key.shard.clone())
            };
            if let Some(shard) = shard_sync::recreated(&leases, &shards).or_else(by_identity) {
                return Err(Trouble::Fatal(stream.impossible(&leases, shard)));
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
                        return Err(Trouble::Fatal(stream.recreated(shard)));
                    }
                    return Err(race(&format!("{shard} is open, but its lease is finished")));
                }
            }
            // Before leases at the initial position, which could be LATEST, can take their place.
            let others = self.leave_to_holders(&mut lost, &leases, &shards);
            if !lost.is_empty() {
                put_back(&context, lost).await?;
                position = InitialPosition::TrimHorizon;
            }
            if let Some(shard) = others {
                return Err(race(&format!(
                    "the lease of {shard} is for its holder to put back"
                )));
            }
            position = shard_sync::late_position(&leases, position);
            let mut wanted =
                shard_sync::missing(&shards, &leases, position).map_err(|open| race(&open))?;
            let since = leases.iter().filter_map(|lease| lease.latest_since).min();
            for lease in &mut wanted {
                // As the others, however late this one comes.
                lease.latest_since = since.filter(|_| lease.checkpoint == Checkpoint::Latest);
            }
            (shards, wanted)
        };
        for lease in &mut wanted {
            lease.key.stream.clone_from(&stream.id);
        }
        // Those are there, although nobody can read them: a hole.
        wanted.retain(|lease| {
            let key = lease.key.to_string();
            !seen.scan.broken.iter().any(|(broken, _)| *broken == key)
        });
        if began.elapsed() > context.config.unsaid_failover() {
            return Err(race(&"what was seen is too old to act on"));
        }
        let mut skipped = shard_sync::below_ended_by_nobody(&leases, &wanted);
        leases.extend(wanted.iter().cloned());
        let created = create(&context, wanted).await?;
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
                    InitialPosition::Latest => found.or_else(|| stream.latest_since()),
                    InitialPosition::AtTimestamp(time) => Some(time),
                },
                stream: stream.id.clone(),
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
            stream.ownership.correct(lease);
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
            None if !stream.ended_by_nobody().is_empty() => Ok(self.interval().min(ENDED_CHECK)),
            None => Ok(self.interval()),
        }
    }

    /// The shards of a stream without leases, and its first leases; those at LATEST since it was
    /// found, where that is known.
    async fn first_leases(
        &self,
        found: Option<Timestamp>,
    ) -> Result<(Vec<Shard>, Vec<Lease>), Trouble> {
        let (stream, position) = (&self.stream, self.context.config.initial_position);
        let mut filters = vec![shard_sync::initial_filter(position)];
        // Those that were open then, so that a reshard since skips nothing. Of a stream that is
        // hardly older there may be none.
        filters.extend(found.map(ShardFilter::AtTimestamp));
        loop {
            let filter = filters.pop().unwrap_or(ShardFilter::AtLatest);
            let shards = stream.kinesis.list_shards(filter).await?;
            stream.ownership.learn(&shards);
            match shard_sync::initial(&shards, position) {
                Ok(mut leases) => {
                    for lease in &mut leases {
                        lease.latest_since = found;
                    }
                    return Ok((shards, leases));
                }
                Err(_) if !filters.is_empty() => {}
                Err(hole) => return Err(Trouble::Race(hole.to_string())),
            }
        }
    }

    /// Tells which open shards nobody reads, as their leases say that they are finished; and where
    /// one of them was resharded without being read, what that skips.
    fn tell_ended(&self, ended: &BTreeSet<ShardId>, leases: &[Lease], shards: &[Shard]) {
        let before = self.stream.set_ended_by_nobody(ended.clone());
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
            let Some(identity) = self.stream.ownership.identity(&lease.key.shard) else {
                continue;
            };
            match self.context.table.set_stream(&lease.key, &identity).await {
                Ok(()) | Err(TableError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves out those that other workers held, for a while: they know better where they stand,
    /// and what is finished. Returns one of them.
    fn leave_to_holders(
        &mut self,
        lost: &mut Vec<Lease>,
        leases: &[Lease],
        shards: &[Shard],
    ) -> Option<ShardId> {
        let (known, me) = (self.context.known(), &self.context.config.worker_id);
        let is_ours = |lease: &Lease| known.was_held_by(&lease.key, me);
        let is_lone = self.context.fleet.workers() == 1;
        let other = lost.iter().find(|lease| !is_lone && !is_ours(lease));
        let Some(other) = other.map(|lease| lease.key.shard.clone()) else {
            self.lacking = None;
            return None;
        };
        let since = *self.lacking.get_or_insert_with(Instant::now);
        if since.elapsed() < HOLDERS_TURN {
            lost.retain(is_ours);
            return Some(other);
        }
        // Its children's leases come just before its end.
        let is_lost = |lease: &Lease| lost.iter().any(|it| it.key == lease.key);
        let there = leases.iter().filter(|lease| !is_lost(lease));
        let there: BTreeSet<_> = there.map(|lease| lease.key.shard.clone()).collect();
        let has_children = |lease: &Lease| {
            let is_child = |shard: &&Shard| shard.parents.contains(&lease.key.shard);
            let mut children = shards.iter().filter(is_child);
            children.any(|child| there.contains(&child.id))
        };
        lost.retain(|lease| is_ours(lease) || !has_children(lease));
        None
    }

    /// Deletes what has been of no use for long enough.
    async fn clean_up(&mut self, deletable: Vec<Lease>) -> Result<(), TableError> {
        let now = Instant::now();
        let kept = self.context.kept();
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

    /// The time between audits, spread so that workers that started together do not call together.
    fn interval(&self) -> Duration {
        self.context
            .config
            .times()
            .shard_sync_interval
            .mul_f64(0.9 + 0.2 * fastrand::f64())
    }
}

fn failures(context: &Context) -> ExponentialBackoff {
    let longest = context.config.times().shard_sync_interval.max(QUICK_AUDIT);
    backoff(QUICK_AUDIT, longest)
}

/// Puts leases back that somebody deleted.
pub(crate) async fn put_back(context: &Context, lost: Vec<Lease>) -> Result<(), TableError> {
    let back = create(context, lost).await?;
    if !back.is_empty() {
        context.report(Event::LeasesPutBack { shards: back });
    }
    Ok(())
}

/// Creates leases in order, `CONCURRENCY` at a time: a parent is never much later than its child.
/// Returns those that were not there.
async fn create(context: &Context, leases: Vec<Lease>) -> Result<Vec<LeaseKey>, TableError> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let creations = leases.into_iter().map(|mut lease| {
        let stream = context.streams.of(&lease.key);
        if lease.checkpoint == Checkpoint::Latest {
            let since = || stream.as_ref()?.latest_since();
            lease.latest_since = lease.latest_since.or_else(since);
        }
        if lease.stream_identity.is_none() {
            let identity = |stream: Arc<Stream>| stream.ownership.identity(&lease.key.shard);
            lease.stream_identity = stream.and_then(identity);
        }
        let table = Arc::clone(&context.table);
        async move { Ok::<_, TableError>(table.create(&lease).await?.then_some(lease.key)) }
    });
    let created: Vec<_> = stream::iter(creations)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    // Another worker's may be new too.
    context.rescan.notify_one();
    Ok(created.into_iter().flatten().collect())
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
