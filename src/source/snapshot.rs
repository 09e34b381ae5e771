//! What is known of a source at one moment. Values; `look` makes them, RPCs and `/explain` read them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kinesis_consumer::{sequence::Checkpoint, shard_sync::Readability};
use right_sizing::Observation;
use tokio::time::Instant;

use crate::{
    decision::memories::RightSize,
    error::SourceError,
    metrics::{ApplicationGauges, Probes, Unread},
    source::probe::Verdict,
    trigger::Source,
};

/// What is known of a source.
#[derive(Clone, Debug)]
pub enum Snapshot {
    /// The open shards of a stream.
    OpenShards(i64),
    /// The work of an application.
    Application(Arc<Application>),
}

/// The work of an application on one stream.
#[derive(Clone, Debug)]
pub struct Application {
    /// When shards and leases were read.
    pub at: Instant,
    /// The same in wall time, of this machine's clock.
    pub time: Timestamp,
    /// The lease table.
    pub table: Table,
    /// Every shard within the retention period, as ListShards has them.
    pub shards: Vec<ShardSnapshot>,
    /// What is known of records that nobody has checkpointed; `None`: nobody wanted to know.
    pub lag: Option<Lag>,
}

/// The lease table, as far as it concerns the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Table {
    /// There is no such table.
    Missing,
    /// It is there.
    Read {
        /// Leases of this stream.
        leases: usize,
        /// Of them: of shards that the stream has forgotten.
        unlisted: usize,
        /// Rows of other entities and other streams.
        others: usize,
        /// Rows left out because they are broken: key, and what is wrong. Some of them.
        malformed: Vec<(String, String)>,
    },
}

/// One shard.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    /// Its id.
    pub id: String,
    /// Does it take no more records?
    pub closed: bool,
    /// The shards that it was made of.
    pub parents: BTreeSet<String>,
    /// Its lease, where the table has one.
    pub lease: Option<LeaseSnapshot>,
    /// May the application read it now?
    pub readability: Readability,
    /// What was found after the checkpoint, where it was looked for.
    pub probe: Option<ProbeSnapshot>,
}

/// One lease.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSnapshot {
    /// Who holds it.
    pub owner: Option<String>,
    /// Does the holder still renew it? Not known of one seen for the first time: then it is believed.
    pub live: bool,
    /// How far the application is.
    pub checkpoint: Checkpoint,
    /// How much of the time its holder works on it, 0 to 1, where the holder tells.
    pub busy: Option<f64>,
}

/// What is there to read after a shard's checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSnapshot {
    /// The last verdict; `None`: there is none yet.
    pub verdict: Option<Verdict>,
    /// The checkpoint that the verdict is about.
    pub about: Option<Checkpoint>,
    /// The last look brought none, so this one is of `asked`.
    pub stale: bool,
    /// Why, or what is in the way of one, in words.
    pub why: String,
    /// When the last page came.
    pub asked: Option<Timestamp>,
}

/// Of the application's records.
#[derive(Clone, Debug)]
pub struct Lag {
    /// Readable shards without a verdict yet.
    pub undecided: usize,
    /// Are some of them in the middle of empty pages, so that asking again soon is worth it?
    pub under_way: bool,
    /// What the decision is made from; `None` while a shard is undecided.
    pub observation: Option<Observation>,
    /// How shards could not be looked into, other than by throttling.
    pub failure: Option<LagFailure>,
    /// How shards were looked into, since the application is watched.
    pub probes: Probes,
    /// Turns lag into replicas, with a memory for each threshold.
    pub right_size: Arc<RightSize>,
}

/// Shards could not be looked into.
#[derive(Clone, Debug)]
pub struct LagFailure {
    /// Why, at the last look.
    pub error: Arc<SourceError>,
    /// Since when it is so.
    pub since: Instant,
    /// Looks in a row.
    pub in_a_row: u32,
}

impl Snapshot {
    /// What the log follows: which number, and the number.
    pub fn headline(&self) -> (&'static str, i64) {
        match self {
            Self::OpenShards(count) => ("open shards", *count),
            Self::Application(application) => {
                let readable = application.readable().count();
                (
                    "readable shards",
                    i64::try_from(readable).unwrap_or(i64::MAX),
                )
            }
        }
    }
}

impl Application {
    /// The shards that the application can work on now.
    pub fn readable(&self) -> impl Iterator<Item = &ShardSnapshot> {
        self.shards.iter().filter(|shard| shard.is_readable())
    }

    /// Are there no leases, so that nobody knows how far the application got?
    pub fn is_new(&self) -> bool {
        !matches!(self.table, Table::Read { leases: 1.., .. })
    }

    /// The readable shards as a scrape shows them, `now` in wall time; `by_shard`: each of them, too.
    pub fn gauges(&self, source: &Source, now: Timestamp, by_shard: bool) -> ApplicationGauges {
        let ages = || {
            self.readable().filter_map(|shard| {
                let verdict = shard.probe.as_ref()?.verdict.as_ref()?;
                let age = match verdict {
                    Verdict::Unread { since, .. } => now.duration_since(*since),
                    Verdict::CaughtUp | Verdict::Drained => return None,
                };
                // The clocks may differ by seconds.
                Some((&shard.id, age.try_into().unwrap_or(Duration::ZERO)))
            })
        };
        // Never a partial number.
        let known = |lag: &&Lag| lag.observation.is_some() && !self.is_new();
        let unread = self.lag.as_ref().filter(known).map(|lag| Unread {
            shards: ages().count(),
            oldest: ages().map(|(_, age)| age).max().unwrap_or_default(),
            probes: lag.probes,
            by_shard: ages()
                .filter(|_| by_shard)
                .map(|(id, age)| (id.clone(), age))
                .collect(),
        });
        ApplicationGauges {
            stream: source.stream.to_string(),
            region: source.region.clone(),
            lease_table: source
                .lease_table
                .as_ref()
                .map_or_else(String::new, |table| table.name.clone()),
            readable: self.readable().count(),
            unread,
        }
    }

    /// Is everything read and checkpointed, as far as is known?
    pub fn is_idle(&self) -> bool {
        self.lag.is_some()
            && self.readable().all(|shard| {
                let probe = shard.probe.as_ref();
                probe.and_then(|probe| probe.verdict.as_ref()) == Some(&Verdict::CaughtUp)
            })
    }
}

impl ShardSnapshot {
    /// Can the application work on it now?
    pub fn is_readable(&self) -> bool {
        matches!(self.readability, Readability::Readable { .. })
    }
}
