//! Fetches the work of one application: its shards, its leases, and whether a record is there after
//! each checkpoint.
//!
//! Kind to the application: at most one GetRecords for each shard and refresh, with a limit of 1, and
//! one more for a checkpoint whose lease nobody holds. A shard with an unread record is asked again
//! only when its checkpoint has moved.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use kinesis_consumer::{
    InitialPosition, ShardId,
    lease::Lease,
    shards::{Readability, Shard, open_but_finished, readability, recreated},
};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Fetch, FetchRequest,
    probing::{Probing, Readable},
};
use crate::{
    error::{SourceError, SourceErrorKind},
    source::{
        shards::Reads,
        snapshot::{ApplicationSnapshot, Lag, LeaseSnapshot, ShardSnapshot, Table},
    },
    trigger::{ApplicationSource, StreamSource},
};

/// A lease whose counter stands still for so long has no live holder. KCL renews three times within
/// the failover time, 10 s by default.
const RENEWED_WITHIN: Duration = Duration::from_secs(45);

/// The fetcher of one application, with what it remembers from fetch to fetch.
#[derive(Debug)]
pub struct ApplicationFetcher {
    source: ApplicationSource,
    reads: Arc<dyn Reads>,
    listed: Option<Listed>,
    probing: Probing,
    heartbeats: HashMap<ShardId, Heartbeat>,
    /// Broken rows that the log named last.
    malformed: Vec<(String, String)>,
    /// Lists in a row that showed an older stream of this name.
    older: u32,
}

/// Shards and leases at the last whole fetch.
#[derive(Debug)]
struct Listed {
    at: Instant,
    /// A lease whose counter stood still for longer than this has no live holder.
    renewed_within: Duration,
    time: Timestamp,
    table: Table,
    shards: Vec<Shard>,
    leases: HashMap<ShardId, Lease>,
    readability: HashMap<ShardId, Readability>,
}

/// When a lease's counter last moved.
#[derive(Debug)]
struct Heartbeat {
    counter: u64,
    moved: Instant,
}

impl ApplicationFetcher {
    /// Nothing fetched yet.
    pub fn new(source: ApplicationSource, reads: Arc<dyn Reads>) -> Self {
        Self {
            source,
            reads,
            listed: None,
            probing: Probing::default(),
            heartbeats: HashMap::new(),
            malformed: Vec::new(),
            older: 0,
        }
    }
}

#[async_trait]
impl Fetch for ApplicationFetcher {
    type Snapshot = Arc<ApplicationSnapshot>;

    async fn fetch(&mut self, request: FetchRequest) -> Result<Self::Snapshot, SourceError> {
        if !request.quick || self.listed.is_none() {
            self.list().await?;
        }
        if request.lag && self.listed.as_ref().is_some_and(|listed| !listed.is_new()) {
            self.probing.probe(self.reads.as_ref(), request.quick).await;
        }
        Ok(Arc::new(self.snapshot(request.lag)))
    }
}

impl ApplicationFetcher {
    /// Shards and leases, whole.
    async fn list(&mut self) -> Result<(), SourceError> {
        // In this order: the children of whatever is finished by now are in the list that comes
        // after it.
        let found = self.reads.leases().await?;
        let shards = self.reads.shards().await?;
        let (at, time) = (Instant::now(), Timestamp::now());
        let leases_found = found.is_some();
        let leases = found.unwrap_or_default();
        self.log_malformed(&leases.malformed);
        if let Some(shard) = self.shard_of_an_older_stream(&shards, &leases.leases) {
            return Err(self.failure(
                "StreamMadeAnew",
                &format!("the lease of {shard} is of an older stream of this name"),
                "Let the application start with a new lease table, or another name: with this one it would skip records",
            ));
        }
        let known = readability(&shards, &leases.leases, InitialPosition::TrimHorizon)
            .map_err(|raced| {
                self.failure(
                    "RacedAReshard",
                    &raced.to_string(),
                    "The list was made while the stream was resharded; the scaler lists again in a moment",
                )
            })?;
        let is_listed = |lease: &&Lease| known.contains_key(&lease.key.shard);
        let table = if leases_found {
            Table::Read {
                leases: leases.leases.len(),
                unlisted: leases.leases.len() - leases.leases.iter().filter(is_listed).count(),
                others: leases.others,
                malformed: leases.malformed,
            }
        } else {
            Table::Missing
        };
        self.heartbeats = heartbeats(std::mem::take(&mut self.heartbeats), &leases.leases, at);
        let before = self.listed.as_ref().map(|listed| listed.at);
        let between = before.map_or(Duration::ZERO, |before| at.duration_since(before));
        self.listed = Some(Listed {
            at,
            renewed_within: RENEWED_WITHIN.max(between * 2),
            time,
            table,
            shards,
            leases: leases
                .leases
                .into_iter()
                .map(|lease| (lease.key.shard.clone(), lease))
                .collect(),
            readability: known.into_iter().collect(),
        });
        self.follow();
        Ok(())
    }

    fn follow(&mut self) {
        let Some(listed) = &self.listed else { return };
        let readable = listed.shards.iter().filter_map(|shard| {
            let Readability::Readable { start } = listed.readability.get(&shard.id)? else {
                return None;
            };
            let lease = listed.leases.get(&shard.id);
            Some(Readable {
                id: shard.id.as_str(),
                lease,
                held: lease.is_some_and(|lease| self.is_live(listed, lease)),
                start: start.as_ref(),
                closed: shard.closed,
            })
        });
        let readable: Vec<_> = readable.collect();
        self.probing.follow(readable.into_iter());
    }

    fn snapshot(&self, lag: bool) -> ApplicationSnapshot {
        let listed = self.listed.as_ref().expect("a fetch lists first");
        let shards = listed
            .shards
            .iter()
            .map(|shard| ShardSnapshot {
                id: shard.id.clone(),
                closed: shard.closed,
                parents: shard.parents.clone(),
                lease: listed.leases.get(&shard.id).map(|lease| LeaseSnapshot {
                    owner: lease.holder().map(str::to_owned),
                    live: self.is_live(listed, lease),
                    checkpoint: lease.checkpoint.clone(),
                    busy: lease.busy(),
                }),
                readability: listed
                    .readability
                    .get(&shard.id)
                    .cloned()
                    .unwrap_or(Readability::NotWanted),
                probe: lag
                    .then(|| self.probing.snapshot(shard.id.as_str()))
                    .flatten(),
            })
            .collect();
        ApplicationSnapshot {
            at: listed.at,
            time: listed.time,
            table: listed.table.clone(),
            shards,
            lag: lag.then(|| Lag {
                time: Timestamp::now(),
                undecided: self.probing.undecided(),
                under_way: self.probing.is_under_way(),
                failure: self.probing.failure(),
                probes: self.probing.counts(),
            }),
        }
    }

    /// Names broken rows in the log, once, and again when there are others.
    fn log_malformed(&mut self, malformed: &[(String, String)]) {
        if self.malformed == malformed {
            return;
        }
        let StreamSource { stream, region, .. } = &self.source.stream;
        let table = &self.source.table.name;
        for (key, reason) in malformed {
            warn!(%stream, region, table, key, reason, "a row of the lease table is left out");
        }
        self.malformed = malformed.to_vec();
    }

    /// A shard whose lease was finished, or is ahead, before the stream began: the stream was
    /// deleted and made anew. One list may lag behind a reshard, two in a row do not.
    fn shard_of_an_older_stream(&mut self, shards: &[Shard], leases: &[Lease]) -> Option<ShardId> {
        let shard = open_but_finished(leases, shards).or_else(|| recreated(leases, shards));
        self.older = if shard.is_some() { self.older + 1 } else { 0 };
        shard.filter(|_| self.older >= 2)
    }

    /// Answers of AWS that contradict each other.
    fn failure(&self, code: &str, message: &str, hint: &str) -> SourceError {
        SourceError {
            kind: SourceErrorKind::Unavailable,
            operation: "ListShards",
            resource: format!("stream {}", self.source.stream.stream),
            region: self.source.stream.region.clone(),
            code: code.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        }
    }

    /// As of the last list: a quick fetch knows no more.
    fn is_live(&self, listed: &Listed, lease: &Lease) -> bool {
        let moved = self
            .heartbeats
            .get(&lease.key.shard)
            .map(|heartbeat| listed.at.duration_since(heartbeat.moved));
        lease.holder().is_some() && moved.is_some_and(|still| still < listed.renewed_within)
    }
}

impl Listed {
    fn is_new(&self) -> bool {
        self.leases.is_empty()
    }
}

/// When each lease's counter was last seen to move.
fn heartbeats(
    mut before: HashMap<ShardId, Heartbeat>,
    leases: &[Lease],
    now: Instant,
) -> HashMap<ShardId, Heartbeat> {
    let beat = |lease: &Lease| {
        let counter = lease.counter;
        let same = before
            .remove(&lease.key.shard)
            .filter(|it| it.counter == counter);
        let moved = same.map_or(now, |it| it.moved);
        (lease.key.shard.clone(), Heartbeat { counter, moved })
    };
    leases.iter().map(beat).collect()
}
