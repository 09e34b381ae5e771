//! An in-memory stream and lease table, and what a fetch of them shows.

use super::*;

/// A stream and a lease table that tests write as they like, and that count what they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake(Arc<Mutex<World>>);

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) shards: Vec<Shard>,
    /// Records by shard: their sequence numbers are their places.
    pub(super) records: BTreeMap<String, Vec<u64>>,
    /// A page goes over so many places; `None`: over all of them.
    pub(super) page: Option<u64>,
    /// A checkpoint before this place is refused.
    pub(super) horizon: u64,
    /// `None`: there is no table.
    pub(super) leases: Option<Vec<Lease>>,
    /// Is the table a multi-stream one?
    pub(super) is_of_several: bool,
    /// The stream whose shards are those of an earlier look.
    pub(super) kept: Option<String>,
    pub(super) fails: Option<ReadError>,
    /// `None`: for all shards.
    pub(super) fails_for: Option<String>,
    /// Only for shards whose ids are less.
    pub(super) fails_for_those_before: Option<String>,
    /// What AWS's clock says, as the moment of a place; 0: long after all records.
    pub(super) now: u64,
    pub(super) lists: usize,
    pub(super) scans: usize,
    pub(super) iterators: usize,
    pub(super) peeks: Vec<String>,
}

pub(super) fn number(place: u64) -> SequenceNumber {
    place.to_string().parse().unwrap()
}

pub(super) fn at(place: u64) -> Checkpoint {
    Checkpoint::At(Position {
        sequence_number: number(place),
        sub_sequence_number: 0,
    })
}

/// A moment of today for each place.
pub(super) fn time(place: u64) -> Timestamp {
    static BEGAN: LazyLock<i64> = LazyLock::new(|| Timestamp::now().as_millisecond());
    Timestamp::from_millisecond(*BEGAN + place as i64).unwrap()
}

impl Fake {
    /// Open shards, each with a lease of `pod` at `TRIM_HORIZON`.
    pub(super) fn new(shards: &[&str]) -> Self {
        let this = Self::default();
        this.world().leases = Some(Vec::new());
        for id in shards {
            this.shard(id, &[]);
            this.lease(id, Checkpoint::TrimHorizon);
        }
        this
    }

    pub(super) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn shard(&self, id: &str, parents: &[&str]) {
        let mut world = self.world();
        for shard in &mut world.shards {
            shard.closed |= parents.contains(&shard.id.as_str());
        }
        world.shards.push(Shard {
            id: id.into(),
            parents: parents.iter().map(|&id| id.into()).collect(),
            hash_range: HashRange { start: 0, end: 1 },
            starting_sequence_number: number(0),
            closed: false,
        });
    }

    /// Writes a lease, or moves its checkpoint; the holder is alive.
    pub(super) fn lease(&self, id: &str, checkpoint: Checkpoint) {
        let mut world = self.world();
        let leases = world.leases.get_or_insert_default();
        match leases.iter_mut().find(|lease| lease.key.shard == id) {
            Some(lease) => {
                lease.checkpoint = checkpoint;
                lease.counter += 1;
            }
            None => {
                let mut lease = Lease::new(id, checkpoint);
                lease.owner = Some("pod".to_owned());
                leases.push(lease);
            }
        }
    }

    pub(super) fn record(&self, id: &str, place: u64) {
        self.world()
            .records
            .entry(id.to_owned())
            .or_default()
            .push(place);
    }

    pub(super) fn fetcher(&self) -> ApplicationFetcher {
        ApplicationFetcher::new(source(), Arc::new(self.clone()))
    }

    /// Shards that were probed since the last call.
    pub(super) fn peeked(&self) -> Vec<String> {
        let mut peeks = std::mem::take(&mut self.world().peeks);
        peeks.sort();
        peeks
    }
}

#[async_trait]
impl Reads for Fake {
    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        let mut world = self.world();
        world.lists += 1;
        Ok(world.shards.clone())
    }

    async fn leases(&self) -> Result<Option<Leases>, SourceError> {
        let mut world = self.world();
        world.scans += 1;
        Ok(world.leases.clone().map(|leases| Leases {
            leases,
            is_of_several: world.is_of_several,
            ..Leases::default()
        }))
    }

    fn is_kept(&self, stream: &str) -> bool {
        self.world().kept.as_deref() == Some(stream)
    }

    async fn iterator(&self, shard: &str, from: &StartFrom) -> Result<String, ReadError> {
        let mut world = self.world();
        world.iterators += 1;
        let place = match from {
            StartFrom::AfterSequenceNumber(number) | StartFrom::AtSequenceNumber(number) => {
                let place = number.as_str().parse::<u64>().unwrap();
                if place < world.horizon {
                    return Err(ReadError::InvalidPosition);
                }
                place + u64::from(matches!(from, StartFrom::AfterSequenceNumber(_)))
            }
            StartFrom::AtTimestamp(since) => {
                since.duration_since(time(0)).as_millis().max(0) as u64
            }
            _ => 0,
        };
        Ok(format!("{shard}@{place}"))
    }

    async fn peek(&self, iterator: &str) -> Result<Peek, ReadError> {
        let mut world = self.world();
        let (shard, place) = iterator.split_once('@').unwrap();
        world.peeks.push(shard.to_owned());
        let fails = world.fails_for.as_ref().is_none_or(|id| id == shard);
        let before = world.fails_for_those_before.as_deref();
        let fails = fails && before.is_none_or(|before| shard < before);
        if let Some(error) = world.fails.as_ref().filter(|_| fails) {
            return Err(error.clone());
        }
        let place: u64 = place.parse().unwrap();
        let records = world.records.get(shard).cloned().unwrap_or_default();
        let end = records.last().map_or(0, |last| last + 1).max(place);
        let to = world.page.map_or(end, |page| end.min(place + page));
        let found = records.iter().find(|record| (place..to).contains(record));
        let to = found.map_or(to, |record| record + 1);
        let closed = world.shards.iter().any(|it| it.id == shard && it.closed);
        let ended = closed && found.is_none() && to == end;
        Ok(Peek {
            last_sub: 0,
            record: found.map(|place| (number(*place), Some(time(*place)))),
            next_iterator: (!ended).then(|| format!("{shard}@{to}")),
            millis_behind_latest: (end - to) as i64 * 10_000,
        })
    }

    async fn time(&self) -> Option<Timestamp> {
        let now = Some(self.world().now).filter(|now| *now > 0);
        Some(time(now.unwrap_or(1_000_000)))
    }
}

pub(super) const LAG: FetchRequest = FetchRequest {
    lag: true,
    quick: false,
};

pub(super) const QUICK: FetchRequest = FetchRequest {
    lag: true,
    quick: true,
};

pub(super) async fn fetch(
    fetcher: &mut ApplicationFetcher,
    request: FetchRequest,
) -> Arc<ApplicationSnapshot> {
    fetcher.fetch(request).await.unwrap()
}

pub(super) fn verdict(application: &ApplicationSnapshot, id: &str) -> Option<Verdict> {
    let shard = application.shards.iter().find(|shard| shard.id == id);
    shard.unwrap().probe.as_ref()?.verdict.clone()
}

pub(super) fn readable(application: &ApplicationSnapshot) -> Vec<&str> {
    application
        .readable()
        .map(|shard| shard.id.as_str())
        .collect()
}

pub(super) fn unread(place: u64) -> Option<Verdict> {
    Some(Verdict::Unread {
        since: time(place),
        expired: false,
    })
}
