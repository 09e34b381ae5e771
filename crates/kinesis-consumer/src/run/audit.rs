//! One comparison of a stream's shards with its leases: what lacks is created, what nobody needs is
//! deleted.
//!
//! All writes are conditional, so doing it twice does no harm. It never takes a lease.

use std::{collections::HashMap, sync::Arc, time::Duration};

use backon::ExponentialBackoff;
use tokio::time::Instant;

use crate::{
    decide::shard_sync,
    edge::{
        kinesis::KinesisError,
        lease_table::{Scan, TableError},
    },
    face::{config::InitialPosition, error::Error, event::Event},
    model::{keys::LeaseKey, lease::Lease},
    run::{
        context::{Context, backoff},
        stream::Stream,
    },
};

pub(crate) use self::writes::put_back;

mod wanted;
mod writes;

/// The time to the next audit after a half-listed reshard, and while hash keys have no lease.
pub(crate) const QUICK_AUDIT: Duration = Duration::from_secs(1);
/// The time between audits while a lease is finished whose shard is open.
const ENDED_CHECK: Duration = Duration::from_secs(5);

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
    Fatal(Box<Error>),
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
        let of_stream = |leases: &[Lease]| -> Vec<Lease> {
            let is = |lease: &&Lease| lease.key.stream == stream.id;
            leases.iter().filter(is).cloned().collect()
        };
        let (mut leases, lost) = (of_stream(&seen.scan.leases), of_stream(&seen.lost));
        let is_new = leases.is_empty() && lost.is_empty();
        let position = context.config.initial_position;
        let found = stream.latest_since_found();
        let found = found.filter(|_| is_new && position == InitialPosition::Latest);
        let (shards, mut wanted) = if is_new {
            self.first_leases(found).await?
        } else {
            self.missing_leases(&mut leases, lost, seen.began).await?
        };
        for lease in &mut wanted {
            lease.key.stream.clone_from(&stream.id);
        }
        // Those are there, although nobody can read them: a hole.
        wanted.retain(|lease| {
            let key = lease.key.to_string();
            !seen.scan.broken.iter().any(|(broken, _)| *broken == key)
        });
        if seen.began.elapsed() > context.config.unsaid_failover() {
            return Err(Trouble::race("what was seen is too old to act on"));
        }
        let created = self.create_wanted(wanted, &mut leases).await?;
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
        self.write_hash_ranges(&leases, &shards).await?;
        for lease in &mut leases {
            stream.ownership.correct(lease);
        }
        self.name_stream(&leases).await?;
        let holes = shard_sync::holes(&leases);
        self.clean_up(shard_sync::deletable(&leases, &shards))
            .await?;
        match holes.first() {
            // Scans and `ListShards` lag behind; a hole that stays is reported each time.
            Some(hole) => Err(Trouble::race(format!(
                "no lease covers hash keys {} to {}",
                hole.start, hole.end
            ))),
            // Its reshard, or that it is mended, is to be seen soon.
            None if !stream.ended_by_nobody().is_empty() => Ok(self.interval().min(ENDED_CHECK)),
            None => Ok(self.interval()),
        }
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

impl Trouble {
    fn fatal(error: Error) -> Self {
        Self::Fatal(Box::new(error))
    }

    /// `what`: what was seen of the race.
    fn race(what: impl ToString) -> Self {
        Self::Race(what.to_string())
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
