//! Fetches the work of one application: its shards, its leases, and whether a record is there after
//! each checkpoint.
//!
//! Kind to the application: at most one GetRecords for each shard and refresh, with a limit of 1,
//! and one more for a checkpoint whose lease nobody holds. A shard with an unread record is asked
//! again only when its checkpoint has moved.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kinesis_consumer::{
    Checkpoint, InitialPosition, ShardId,
    lease::Lease,
    shards::{Readability, Shard, readability},
};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Fetch, FetchRequest,
    heartbeats::Heartbeats,
    latest::Latest,
    older::{self, OlderStreams},
    probing::{Probing, Readable},
};
use crate::{
    error::{SourceError, SourceErrorKind},
    source::{
        clock::Clock,
        shards::{Leases, Reads},
        snapshot::{ApplicationSnapshot, Lag, LeaseSnapshot, ProbeSnapshot, ShardSnapshot, Table},
    },
    trigger::{ApplicationSource, StreamSource},
};

/// The code of lists that contradict each other, as they may for a moment.
pub const RACED_A_RESHARD: &str = "RacedAReshard";

/// The fetcher of one application, with what it remembers from fetch to fetch.
#[derive(Debug)]
pub struct ApplicationFetcher {
    source: ApplicationSource,
    reads: Arc<dyn Reads>,
    clock: Clock,
    listed: Option<Listed>,
    probing: Probing,
    heartbeats: Heartbeats,
    latest: Latest,
    /// Broken rows that the log named last.
    malformed: Vec<(String, String)>,
    /// Streams that were made anew, while the leases are of the older ones.
    older: OlderStreams,
    /// Since when there is no lease of the stream, as far as was seen.
    no_leases_since: Option<Instant>,
}

/// Shards and leases at the last whole fetch.
#[derive(Debug)]
struct Listed {
    at: Instant,
    time: Timestamp,
    aws_ahead: Option<SignedDuration>,
    table: Table,
    broken_shards: HashSet<ShardId>,
    shards: Vec<Shard>,
    leases: HashMap<ShardId, KnownLease>,
    /// Leases that are not there yet, of an application that has yet to begin: since when records
    /// count for them.
    coming: HashMap<ShardId, Option<Timestamp>>,
    readability: HashMap<ShardId, Readability>,
}

/// What is kept of a lease: there may be a hundred thousand.
#[derive(Debug)]
struct KnownLease {
    shown: LeaseSnapshot,
    latest_since: Option<Timestamp>,
}

/// Whole leases, by shard.
type Leased = HashMap<ShardId, Lease>;

impl ApplicationFetcher {
    /// Nothing fetched yet.
    pub fn new(source: ApplicationSource, reads: Arc<dyn Reads>) -> Self {
        let clock = Clock::start();
        Self {
            source,
            reads,
            clock,
            listed: None,
            probing: Probing::new(clock),
            heartbeats: Heartbeats::default(),
            latest: Latest::default(),
            malformed: Vec::new(),
            older: OlderStreams::default(),
            no_leases_since: None,
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
        let is_new = self
            .listed
            .as_ref()
            .is_none_or(|listed| listed.table.is_new());
        if request.lag && !is_new {
            self.probing.probe(self.reads.as_ref(), request.quick).await;
        }
        Ok(Arc::new(self.snapshot(request.lag)))
    }

    fn may_retry(&self, failed: &SourceError) -> bool {
        self.reads.may_retry(failed)
    }
}

impl ApplicationFetcher {
    /// Shards and leases, whole.
    async fn list(&mut self) -> Result<(), SourceError> {
        // In this order: the children of whatever is finished by now are in the list that comes
        // after it.
        let found = self.reads.leases().await?;
        let shards = self.reads.shards().await?;
        let at = Instant::now();
        let time = self.clock.time_at(at);
        let is_missing = found.is_none();
        let aws_time = self.reads.time().await;
        let aws_ahead = aws_time.map(|aws_time| aws_time.duration_since(time));
        let mut leases = found.unwrap_or_default();
        self.no_leases_since = match leases.leases.is_empty() {
            true => self.no_leases_since.or(Some(at)),
            false => None,
        };
        self.log_malformed(&leases.malformed);
        let older = self
            .leave_out_older_streams(&shards, &mut leases)
            .map_err(|error| *error)?;
        let mut known = readability(&shards, &leases.leases, InitialPosition::TrimHorizon)
            .map_err(|raced| self.raced_a_reshard(&raced.to_string()))?;
        // A stream has open shards, and each can be read or waits for one that can.
        let is_readable = |it: &Readability| matches!(it, Readability::Readable { .. });
        if !leases.leases.is_empty() && !known.values().any(is_readable) {
            return Err(self.raced_a_reshard("no shard is left to read, although some are open"));
        }
        self.heartbeats.follow(&leases.leases, at);
        let coming = coming(&shards, &leases, &mut known);
        let there = leases.leases.len();
        leases.leases.extend(coming);
        if let Some(time) = self.source.initial_timestamp {
            // As LATEST, it says that nothing is read yet, and from when on records count.
            let leases = leases.leases.iter_mut();
            for lease in leases.filter(|lease| lease.checkpoint == Checkpoint::AtTimestamp) {
                lease.latest_since = Some(time);
            }
        }
        let now = aws_time.unwrap_or(time);
        self.latest
            .follow(&mut leases.leases, &self.heartbeats, now);
        let coming = leases.leases.split_off(there);
        let is_listed = |lease: &&Lease| known.contains_key(&lease.key.shard);
        let table = match is_missing {
            true => Table::Missing,
            false => Table::Read {
                leases: leases.leases.len(),
                unlisted: leases.leases.len() - leases.leases.iter().filter(is_listed).count(),
                others: leases.others,
                older,
                malformed: leases.malformed,
            },
        };
        let readability = known.into_iter().collect();
        let (leased, coming) = (by_shard(leases.leases), by_shard(coming));
        self.follow(&shards, &leased, &coming, &readability);
        let leased = leased.into_iter();
        let leases_known = leased.map(|(shard, lease)| (shard, self.known(&lease)));
        let coming = coming.into_iter();
        let coming = coming.map(|(shard, lease)| (shard, lease.latest_since));
        self.listed = Some(Listed {
            at,
            time,
            aws_ahead,
            table,
            broken_shards: leases.broken_shards,
            leases: leases_known.collect(),
            coming: coming.collect(),
            shards,
            readability,
        });
        Ok(())
    }

    fn known(&self, lease: &Lease) -> KnownLease {
        KnownLease {
            shown: LeaseSnapshot {
                owner: lease.holder().map(str::to_owned),
                live: self.heartbeats.is_live(lease),
                confirmed: self.heartbeats.is_confirmed(lease),
                checkpoint: lease.checkpoint.clone(),
                busy: lease.busy(),
            },
            latest_since: lease.latest_since,
        }
    }

    fn follow(
        &mut self,
        shards: &[Shard],
        leased: &Leased,
        coming: &Leased,
        readability: &HashMap<ShardId, Readability>,
    ) {
        let readable = shards.iter().filter_map(|shard| {
            let Readability::Readable { start } = readability.get(&shard.id)? else {
                return None;
            };
            let lease = leased.get(&shard.id).or_else(|| coming.get(&shard.id));
            Some(Readable {
                id: &shard.id,
                lease,
                held: lease.is_some_and(|lease| self.heartbeats.is_live(lease)),
                start: start.as_ref(),
                closed: shard.closed,
            })
        });
        let readable: Vec<_> = readable.collect();
        self.probing.follow(readable.into_iter());
    }

    fn snapshot(&self, lag: bool) -> ApplicationSnapshot {
        let listed = self.listed.as_ref().expect("a fetch lists first");
        let shards: Vec<_> = listed
            .shards
            .iter()
            .map(|shard| ShardSnapshot {
                id: shard.id.clone(),
                closed: shard.closed,
                parents: shard.parents.clone(),
                lease: listed
                    .leases
                    .get(&shard.id)
                    .map(|lease| lease.shown.clone()),
                malformed: listed.broken_shards.contains(&shard.id),
                readability: listed
                    .readability
                    .get(&shard.id)
                    .cloned()
                    .unwrap_or(Readability::NotWanted),
                probe: lag.then(|| self.probe_snapshot(listed, shard)).flatten(),
            })
            .collect();
        ApplicationSnapshot {
            at: listed.at,
            time: listed.time,
            aws_ahead: listed.aws_ahead,
            table: listed.table.clone(),
            no_leases_since: self.no_leases_since,
            rhythm: self.heartbeats.rhythm(),
            is_first_look: self.heartbeats.is_first_look(),
            lag: lag.then(|| Lag {
                time: self.clock.time_at(Instant::now()),
                undecided: self.probing.undecided(),
                under_way: self.probing.is_under_way(),
                cut_short: self.probing.was_cut_short(),
                latest: known_since(&shards),
                failure: self.probing.failure(),
                probes: self.probing.counts(),
            }),
            shards,
        }
    }

    fn probe_snapshot(&self, listed: &Listed, shard: &Shard) -> Option<ProbeSnapshot> {
        let since = listed.latest_since(&shard.id);
        Some(ProbeSnapshot {
            counted_since: since.filter(|_| self.latest.contains(&shard.id)),
            ..self.probing.snapshot(&shard.id)?
        })
    }

    /// Names broken rows in the log, once, and again when there are others.
    fn log_malformed(&mut self, malformed: &[(String, String)]) {
        if self.malformed == malformed {
            return;
        }
        let StreamSource { stream, region, .. } = &self.source.stream;
        let table = self.source.table.as_asked();
        for (key, reason) in malformed {
            warn!(%stream, region, table, key, reason, "a row of the lease table is left out");
        }
        self.malformed = malformed.to_vec();
    }

    /// Leaves out the leases of streams that were deleted and made anew, and says how many those
    /// are: in a multi-stream table whoever reads the stream makes new ones beside them. A table of
    /// one stream has no place for those.
    fn leave_out_older_streams(
        &mut self,
        shards: &[Shard],
        leases: &mut Leases,
    ) -> Result<usize, Box<SourceError>> {
        let of_all = &mut leases.leases;
        of_all.sort_by(|one, other| older::of(one).cmp(older::of(other)));
        let reads = &self.reads;
        let misfits = self
            .older
            .follow(shards, of_all, |stream| reads.is_kept(stream));
        for misfit in &misfits {
            let shard = &misfit.shard;
            if !misfit.is_certain() {
                let message = format!("the lease of {shard} does not fit the shard");
                return Err(Box::new(self.raced_a_reshard(&message)));
            }
            if !leases.is_of_several {
                return Err(Box::new(self.failure(
                    "StreamMadeAnew",
                    &format!("the lease of {shard} is of an older stream of this name"),
                    "Let the application start with a new lease table, or another name: with this one it would skip records",
                )));
            }
            if misfit.is_new() {
                let (region, table) = (&self.source.stream.region, self.source.table.as_asked());
                let stream = &misfit.stream;
                warn!(
                    stream,
                    region, table, "the stream was made anew: its older leases count as none"
                );
            }
        }
        let before = of_all.len();
        of_all.retain(|lease| !misfits.iter().any(|it| it.stream == older::of(lease)));
        let older = before - of_all.len();
        leases.others += older;
        Ok(older)
    }

    fn raced_a_reshard(&self, message: &str) -> SourceError {
        self.failure(
            RACED_A_RESHARD,
            message,
            "The list was made while the stream was resharded; the scaler lists again in a moment",
        )
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
            statement: None,
        }
    }
}

impl Listed {
    /// Since when records count, by the lease that says from where the shard is read.
    fn latest_since(&self, id: &ShardId) -> Option<Timestamp> {
        match self.leases.get(id) {
            Some(lease) => lease.latest_since,
            None => *self.coming.get(id)?,
        }
    }
}

fn by_shard(leases: Vec<Lease>) -> Leased {
    let leases = leases.into_iter();
    leases
        .map(|lease| (lease.key.shard.clone(), lease))
        .collect()
}

/// The leases that are not there yet where all others stand at the same LATEST or AT_TIMESTAMP: of
/// shards that no parent leads to. They will be made like those. Writes into `known` where they
/// start.
fn coming(
    shards: &[Shard],
    leases: &Leases,
    known: &mut BTreeMap<ShardId, Readability>,
) -> Vec<Lease> {
    let starts = [Checkpoint::Latest, Checkpoint::AtTimestamp];
    let is_of_all = |start: &Checkpoint| leases.leases.iter().all(|it| it.checkpoint == *start);
    let at = starts.into_iter().find(is_of_all);
    let Some(at) = at.filter(|_| !leases.leases.is_empty()) else {
        return Vec::new();
    };
    let mut coming = Vec::new();
    for shard in shards.iter().filter(|shard| shard.parents.is_empty()) {
        if let Some(Readability::Readable { start: Some(start) }) = known.get_mut(&shard.id)
            && !leases.broken_shards.contains(&shard.id)
        {
            *start = at.clone();
            coming.push(Lease::new(shard.id.clone(), at.clone()));
        }
    }
    coming
}

/// Shards of which only looking on from outside says what counts, and since when all of that is
/// known.
fn known_since(shards: &[ShardSnapshot]) -> Option<(usize, Timestamp)> {
    let probes = shards.iter().filter_map(|shard| shard.probe.as_ref());
    let since: Vec<_> = probes.filter_map(|probe| probe.counted_since).collect();
    Some((since.len(), *since.iter().max()?))
}
