//! Looks at the work of one application: its shards, its leases, and whether a record is there after each checkpoint.
//!
//! Kind to the application: at most one GetRecords for each shard and refresh, with a limit of 1. A shard with an unread record is asked
//! again only when its checkpoint has moved.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, future::try_join, stream};
use jiff::Timestamp;
use kinesis_consumer::{
    config::InitialPosition,
    lease::Lease,
    shard::Shard,
    shard_sync::{Readability, readability},
};
use tokio::time::Instant;

use super::{Look, Wanted, observation};
use crate::{
    error::{SourceError, SourceErrorKind},
    metrics::Probes,
    probe::{Next, Probe},
    right_size::{Recorder, RightSize},
    shards::{Peek, ReadError, Reads},
    sight::{Application, Lag, LagFailure, LeaseSight, ProbeSight, ShardSight, Sight, Table},
    trigger::Source,
};

/// Shards looked into at a time.
const AT_A_TIME: usize = 64;

/// A lease whose counter stands still for so long has no live holder. KCL renews three times within the failover time, 10 s by default.
const RENEWED_WITHIN: Duration = Duration::from_secs(45);

/// Iterators live for 5 minutes; nobody counts on the last of them.
const ITERATOR_LIVES: Duration = Duration::from_secs(240);

/// The eye on one application, with what it remembers from look to look.
#[derive(Debug)]
pub struct Watched {
    source: Source,
    reads: Arc<dyn Reads>,
    probed: Probes,
    right_size: Arc<RightSize>,
    listed: Option<Listed>,
    probes: HashMap<String, Asked>,
    heartbeats: HashMap<String, Heartbeat>,
    /// How shards could not be looked into, other than by throttling.
    failure: Option<LagFailure>,
}

/// What shards and leases were at the last whole look.
#[derive(Debug)]
struct Listed {
    at: Instant,
    time: Timestamp,
    table: Table,
    shards: Vec<Shard>,
    leases: HashMap<String, Lease>,
    readability: HashMap<String, Readability>,
}

#[derive(Debug)]
struct Asked {
    probe: Probe,
    /// When the last page came.
    at: Option<(Instant, Timestamp)>,
}

/// When a lease's counter last moved.
#[derive(Debug)]
struct Heartbeat {
    counter: u64,
    moved: Instant,
}

impl Watched {
    /// Nothing looked at yet.
    pub fn new(source: Source, reads: Arc<dyn Reads>, recorder: Option<Arc<Recorder>>) -> Self {
        Self {
            right_size: Arc::new(RightSize::new(source.clone(), recorder)),
            source,
            reads,
            probed: Probes::default(),
            listed: None,
            probes: HashMap::new(),
            heartbeats: HashMap::new(),
            failure: None,
        }
    }
}

#[async_trait]
impl Look for Watched {
    async fn look(&mut self, wanted: Wanted) -> Result<Sight, SourceError> {
        if !wanted.quick || self.listed.is_none() {
            self.list().await?;
        }
        if wanted.lag {
            self.probe().await;
        }
        Ok(Sight::Application(Arc::new(self.sight(wanted.lag))))
    }
}

impl Watched {
    /// Shards and leases, whole.
    async fn list(&mut self) -> Result<(), SourceError> {
        let (shards, leases) = try_join(self.reads.shards(), self.reads.leases()).await?;
        let (at, time) = (Instant::now(), Timestamp::now());
        let leases_found = leases.is_some();
        let leases = leases.unwrap_or_default();
        let known = readability(&shards, &leases.leases, InitialPosition::TrimHorizon)
            .map_err(|raced| raced_a_reshard(&self.source, &raced.to_string()))?;
        let is_listed = |lease: &&Lease| known.contains_key(&lease.key);
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
        self.listed = Some(Listed {
            at,
            time,
            table,
            shards,
            leases: leases
                .leases
                .into_iter()
                .map(|lease| (lease.key.clone(), lease))
                .collect(),
            readability: known.into_iter().collect(),
        });
        self.follow();
        Ok(())
    }

    /// One probe for each readable shard, told of where its checkpoint is now.
    fn follow(&mut self) {
        let Some(listed) = &self.listed else { return };
        let mut before = std::mem::take(&mut self.probes);
        for shard in &listed.shards {
            let Some(Readability::Readable { start }) = listed.readability.get(&shard.id) else {
                continue;
            };
            let lease = listed.leases.get(&shard.id);
            let asked = match before.remove(&shard.id) {
                Some(mut asked) => {
                    asked.probe.follow(lease, start.as_ref(), shard.closed);
                    asked
                }
                None => Asked {
                    probe: Probe::new(lease, start.as_ref(), shard.closed),
                    at: None,
                },
            };
            self.probes.insert(shard.id.clone(), asked);
        }
    }

    /// Asks what is worth asking, one page a shard.
    async fn probe(&mut self) {
        let mut due = Vec::new();
        let is_new = self.listed.as_ref().is_none_or(Listed::is_new);
        for (id, asked) in self.probes.iter_mut().filter(|_| !is_new) {
            if asked
                .at
                .is_some_and(|(at, _)| at.elapsed() > ITERATOR_LIVES)
            {
                asked.probe.forget_iterator();
            }
            if let Some(next) = asked.probe.ask() {
                due.push((id.clone(), asked.probe.clone(), next));
            }
        }
        let reads = &self.reads;
        let answers: Vec<_> = stream::iter(due)
            .map(|(id, probe, next)| async move {
                let (probe, outcome) = ask(reads.as_ref(), &id, probe, next).await;
                (id, probe, outcome)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        let mut failed = None;
        let now = Timestamp::now();
        for (id, mut probe, outcome) in answers {
            count(&mut self.probed, &outcome);
            let Some(asked) = self.probes.get_mut(&id) else {
                continue;
            };
            match outcome {
                Ok(peek) => {
                    probe.answered(peek, now);
                    asked.at = Some((Instant::now(), now));
                }
                Err(ReadError::Failed(error)) => failed = Some(error),
                Err(_) => {}
            }
            asked.probe = probe;
        }
        self.failure = failed.map(|error| {
            let before = self.failure.as_ref();
            LagFailure {
                since: before.map_or_else(Instant::now, |before| before.since),
                in_a_row: before.map_or(1, |before| before.in_a_row.saturating_add(1)),
                error: Arc::from(error),
            }
        });
    }

    fn sight(&self, lag: bool) -> Application {
        let listed = self.listed.as_ref().expect("a look lists first");
        let shards: Vec<_> = listed
            .shards
            .iter()
            .map(|shard| ShardSight {
                id: shard.id.clone(),
                closed: shard.closed,
                parents: shard.parents.clone(),
                lease: listed.leases.get(&shard.id).map(|lease| LeaseSight {
                    owner: lease.holder().map(str::to_owned),
                    live: self.is_live(lease),
                    checkpoint: lease.checkpoint.clone(),
                    busy: lease.busy(),
                }),
                readability: listed
                    .readability
                    .get(&shard.id)
                    .cloned()
                    .unwrap_or(Readability::NotWanted),
                probe: self.probes.get(&shard.id).filter(|_| lag).map(Asked::sight),
            })
            .collect();
        let undecided = self
            .probes
            .values()
            .filter(|asked| asked.probe.verdict().is_none());
        let undecided = undecided.count();
        let under_way = self.probes.values().any(|asked| asked.probe.is_under_way());
        let lag = lag.then(|| Lag {
            undecided,
            under_way,
            failure: self.failure.clone(),
            probes: self.probed,
            observation: (undecided == 0).then(|| observation::observe(Timestamp::now(), &shards)),
            right_size: Arc::clone(&self.right_size),
        });
        if let Some(observation) = lag.as_ref().and_then(|lag| lag.observation.as_ref())
            && !listed.is_new()
        {
            self.right_size.observe(observation);
        }
        Application {
            at: listed.at,
            time: listed.time,
            table: listed.table.clone(),
            shards,
            lag,
        }
    }

    fn is_live(&self, lease: &Lease) -> bool {
        let moved = self
            .heartbeats
            .get(&lease.key)
            .map(|heartbeat| heartbeat.moved);
        lease.holder().is_some() && moved.is_some_and(|moved| moved.elapsed() < RENEWED_WITHIN)
    }
}

fn count(probed: &mut Probes, outcome: &Result<Peek, ReadError>) {
    let count = match outcome {
        Ok(Peek {
            record: Some(_), ..
        }) => &mut probed.record,
        Ok(Peek {
            next_iterator: None,
            ..
        }) => &mut probed.end,
        Ok(_) => &mut probed.empty,
        Err(ReadError::Throttled) => &mut probed.throttled,
        Err(_) => &mut probed.failed,
    };
    *count += 1;
}

/// One page: from the iterator at hand, or from the checkpoint.
async fn ask(
    reads: &dyn Reads,
    shard: &str,
    mut probe: Probe,
    mut next: Next,
) -> (Probe, Result<Peek, ReadError>) {
    loop {
        let iterator = match next {
            Next::At(iterator) => Ok(iterator),
            Next::From(from) => reads.iterator(shard, &from).await,
        };
        let error = match iterator {
            Ok(iterator) => {
                let answer = reads.peek(&iterator).await;
                if let Err(error) = &answer {
                    probe.failed(error);
                }
                return (probe, answer);
            }
            Err(error) => error,
        };
        let again = probe.no_iterator(&error).then(|| probe.ask()).flatten();
        match again {
            Some(from_elsewhere) => next = from_elsewhere,
            None => return (probe, Err(error)),
        }
    }
}

impl Listed {
    fn is_new(&self) -> bool {
        self.leases.is_empty()
    }
}

impl Asked {
    fn sight(&self) -> ProbeSight {
        ProbeSight {
            verdict: self.probe.verdict().cloned(),
            about: self.probe.about().cloned(),
            stale: self.probe.is_stale(),
            why: self.probe.why(),
            asked: self.at.map(|(_, time)| time),
        }
    }
}

/// When each lease's counter last moved, as far as was seen.
fn heartbeats(
    mut before: HashMap<String, Heartbeat>,
    leases: &[Lease],
    now: Instant,
) -> HashMap<String, Heartbeat> {
    let beat = |lease: &Lease| {
        let counter = lease.counter;
        let same = before.remove(&lease.key).filter(|it| it.counter == counter);
        let moved = same.map_or(now, |it| it.moved);
        (lease.key.clone(), Heartbeat { counter, moved })
    };
    leases.iter().map(beat).collect()
}

/// ListShards and a reshard overtook each other: an open child of an open parent. The next list will be right.
fn raced_a_reshard(source: &Source, message: &str) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Unavailable,
        operation: "ListShards",
        resource: format!("stream {}", source.stream),
        region: source.region.clone(),
        code: "RacedAReshard".to_owned(),
        message: message.to_owned(),
        hint: "The scaler lists again at once".to_owned(),
    }
}
