//! The work of an application that reads several streams, as if those were one: each shard is named
//! by its lease's key, `account:stream:epoch:shardId`, and so are its parents.
//!
//! Which streams there are, its lease table says. A stream that is gone counts for nothing, and of
//! one that was made anew the newest that has leases counts. Where those are of a stream that is
//! gone, the fetch takes them for none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kinesis_consumer::{
    LeaseKey, ShardId,
    lease::{Lease, Parsed, StreamIdentifier},
    shards::{Shard, StartFrom},
};

use super::{
    Application, Leases, Peek, ReadError, Reads,
    lane::Place,
    leases,
    lists::{Lists, Look},
};
use crate::{error::SourceError, source::aws::Resource, trigger::Stream};

/// Streams whose shards are listed at a time.
const AT_A_TIME: usize = 8;

#[derive(Debug)]
pub(super) struct AllStreams {
    /// Of no stream: clients, table and turns.
    of: Application,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// As the last look at the table found them.
    streams: BTreeSet<StreamIdentifier>,
    lists: Lists,
}

impl AllStreams {
    pub(super) fn new(of: Application) -> Self {
        Self {
            of,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards of one of them.
    async fn shards_of(
        &self,
        id: StreamIdentifier,
    ) -> (StreamIdentifier, Result<Vec<Shard>, Box<SourceError>>) {
        let stream = Stream::Name(id.name.clone());
        let shards = match self.of.shards_of(&stream).await {
            Ok(shards) => Ok(shards.into_iter().map(|it| named(&id, it)).collect()),
            Err(failure) => {
                let resource = Resource::Stream(&stream);
                Err(Box::new(self.of.kinesis.error(resource, &failure)))
            }
        };
        (id, shards)
    }
}

fn key(id: &StreamIdentifier, shard: &ShardId) -> ShardId {
    let key = LeaseKey {
        stream: Some(id.clone()),
        shard: shard.clone(),
    };
    key.to_string().into()
}

fn named(id: &StreamIdentifier, shard: Shard) -> Shard {
    Shard {
        id: key(id, &shard.id),
        parents: shard.parents.iter().map(|it| key(id, it)).collect(),
        ..shard
    }
}

fn leased(id: &StreamIdentifier, mut lease: Lease) -> Lease {
    lease.key = LeaseKey::from(key(id, &lease.key.shard));
    lease.parents = lease.parents.iter().map(|it| key(id, it)).collect();
    lease.children = lease.children.iter().map(|it| key(id, it)).collect();
    lease
}

/// The leases of all streams, of each name the newest. `Err`: why the table cannot be used.
fn found(rows: &[(String, Parsed)]) -> Result<(BTreeSet<StreamIdentifier>, Leases), String> {
    let mut all = Leases {
        is_of_several: true,
        ..Leases::default()
    };
    let mut newest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (row, parsed) in rows {
        match parsed {
            Parsed::Lease(lease) => {
                let Some(id) = &lease.key.stream else {
                    return Err(format!(
                        "{row:?} is a lease of an application that reads one stream: name that \
                         stream in streamName"
                    ));
                };
                let epoch = newest.entry((&id.account, &id.name)).or_default();
                *epoch = id.epoch.max(*epoch);
            }
            Parsed::Other(_) => all.others += 1,
            Parsed::Broken(reason) => all.break_row(row, row, reason),
        }
    }
    let accounts: BTreeSet<_> = newest.keys().map(|(account, _)| *account).collect();
    if accounts.len() > 1 {
        let accounts = accounts.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "the table has leases of streams in the accounts {accounts}: name one stream by \
             streamArn"
        ));
    }
    let mut streams = BTreeSet::new();
    for (_, parsed) in rows {
        let Parsed::Lease(lease) = parsed else {
            continue;
        };
        let Some(id) = &lease.key.stream else {
            continue;
        };
        if newest[&(id.account.as_str(), id.name.as_str())] > id.epoch {
            all.others += 1;
            continue;
        }
        streams.insert(id.clone());
        all.leases.push(leased(id, Lease::clone(lease)));
    }
    match all.nonsense() {
        Some(message) => Err(message),
        None => Ok((streams, all)),
    }
}

#[async_trait]
impl Reads for AllStreams {
    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        let streams = self.known().streams.clone();
        let keep = self.of.kinesis.max_stale();
        let asked = streams.into_iter().map(|id| self.shards_of(id));
        let mut answers = stream::iter(asked).buffered(AT_A_TIME);
        let mut look = Look::default();
        while let Some((id, answer)) = answers.next().await {
            let taken = self.known().lists.take(id, answer, keep, &mut look);
            taken.map_err(|error| *error)?;
        }
        look.shards().map_err(|error| *error)
    }

    fn is_kept(&self, stream: &str) -> bool {
        self.known().lists.is_kept(stream)
    }

    async fn leases(&self) -> Result<Option<Leases>, SourceError> {
        let Application {
            tables,
            table,
            rows,
            ..
        } = &self.of;
        let Some(rows) = leases::rows(tables, table, rows).await? else {
            return Ok(None);
        };
        match found(&rows) {
            Ok((streams, leases)) => {
                let mut known = self.known();
                known.lists.follow(streams.iter());
                known.streams = streams;
                Ok(Some(leases))
            }
            Err(message) => Err(leases::senseless(tables, table, &message)),
        }
    }

    async fn iterator(&self, shard: &str, from: &StartFrom) -> Result<String, ReadError> {
        let Ok(LeaseKey {
            stream: Some(id),
            shard,
        }) = shard.parse::<LeaseKey>()
        else {
            return Err(ReadError::Gone);
        };
        let name = Stream::Name(id.name);
        let stream = self.of.kinesis.stream(&name).await;
        let iterator = stream.iterator(shard.as_str(), from).await;
        iterator.map_err(|failure| self.of.read_error_of(&name, &failure))
    }

    async fn peek(&self, iterator: &str) -> Result<Peek, ReadError> {
        // An iterator stands for its stream and shard.
        self.of.peek(iterator).await
    }

    async fn time(&self) -> Option<Timestamp> {
        self.of.time().await
    }

    async fn place(&self, decided: bool) -> Option<Place<'_>> {
        self.of.place(decided).await
    }

    fn may_retry(&self, failed: &SourceError) -> bool {
        self.of.may_retry(failed)
    }
}

#[cfg(test)]
mod tests {
    use kinesis_consumer::Checkpoint;

    use super::*;

    fn row(key: &str) -> (String, Parsed) {
        let lease = Lease::new(key.parse::<LeaseKey>().unwrap(), Checkpoint::TrimHorizon);
        (key.to_owned(), Parsed::Lease(Box::new(lease)))
    }

    #[test]
    fn the_newest_of_each_name_counts_by_its_whole_key() {
        let rows = [
            row("1:orders:100:shardId-0"),
            row("1:orders:200:shardId-0"),
            row("1:payments:100:shardId-0"),
            ("Leader".to_owned(), Parsed::Other("LEADER".to_owned())),
            (
                "1:payments:100:shardId-1".to_owned(),
                Parsed::Broken("no checkpoint (S)".to_owned()),
            ),
        ];
        let (streams, leases) = found(&rows).unwrap();
        let names: Vec<_> = streams.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["1:orders:200", "1:payments:100"]);
        let keys: Vec<_> = leases.leases.iter().map(|it| it.key.to_string()).collect();
        assert_eq!(keys, ["1:orders:200:shardId-0", "1:payments:100:shardId-0"]);
        assert!(leases.leases.iter().all(|lease| lease.key.stream.is_none()));
        assert_eq!((leases.others, leases.broken), (2, 1));
        let broken = ShardId::from("1:payments:100:shardId-1");
        assert!(leases.broken_shards.contains(&broken));
    }

    #[test]
    fn tables_of_one_stream_and_of_two_accounts_are_refused() {
        let one = found(&[row("shardId-0")]).unwrap_err();
        assert!(one.contains("streamName"), "{one}");
        let two = found(&[row("1:orders:1:shardId-0"), row("2:orders:1:shardId-0")]).unwrap_err();
        assert!(
            two.contains("accounts 1, 2") && two.contains("streamArn"),
            "{two}"
        );
    }
}
