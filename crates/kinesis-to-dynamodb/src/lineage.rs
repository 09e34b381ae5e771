//! Which shards of a stream descend from which: asked for when an item's shard is met that is not
//! known yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kinesis_consumer::{LeaseKey, StreamIdentifier};
use kinesis_edge::{Failure, ShardFilter, Stream, partition};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    Settings,
    aws::Clients,
    metrics::Metrics,
    order::{Parents, are_related},
    writer::patiently,
};

/// A shard that the last list did not have is looked for again after this: most likely it is gone.
const AGAIN: Duration = Duration::from_secs(10);

/// The shards of all streams, as far as they were met.
#[derive(Debug)]
pub(crate) struct Lineage {
    clients: Clients,
    /// The stream that items do not name.
    only: Option<String>,
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<Option<StreamIdentifier>, Arc<Known>>>,
}

/// One stream's. Locked while it is asked for: whoever else wants it waits for that answer.
type Known = AsyncMutex<Option<(Instant, Parents)>>;

impl Lineage {
    pub(crate) fn new(settings: &Settings, clients: &Clients, metrics: Arc<Metrics>) -> Self {
        Self {
            clients: clients.clone(),
            only: settings.stream().map(str::to_owned),
            metrics,
            known: Mutex::default(),
        }
    }

    /// Is one shard the other, or an ancestor of it? Those of other streams are not, nor are shards
    /// that the stream does not have any more.
    pub(crate) async fn are_related(&self, one: &str, other: &str) -> Result<bool, Failure> {
        if one == other {
            return Ok(true);
        }
        let (Ok(one), Ok(other)) = (one.parse::<LeaseKey>(), other.parse::<LeaseKey>()) else {
            return Ok(false);
        };
        if one.stream != other.stream {
            return Ok(false);
        }
        let Some(stream) = self.stream(one.stream.as_ref()) else {
            return Ok(false);
        };
        let known = self.known(&one.stream);
        let (one, other) = (one.shard.as_str(), other.shard.as_str());
        let mut known = known.lock().await;
        let has_all = |(asked, parents): &(Instant, Parents)| {
            asked.elapsed() < AGAIN
                || [one, other]
                    .iter()
                    .all(|shard| parents.contains_key(*shard))
        };
        let parents = match known.take().filter(has_all) {
            Some(fresh) => &known.insert(fresh).1,
            None => {
                let shards = patiently(&self.metrics, stream.as_str(), || {
                    stream.shards(ShardFilter::All)
                });
                let shards = shards.await?.into_iter();
                let parents = shards.map(|shard| (shard.id, shard.parents.into_iter().collect()));
                &known.insert((Instant::now(), parents.collect())).1
            }
        };
        Ok(are_related(parents, one, other))
    }

    fn known(&self, stream: &Option<StreamIdentifier>) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(stream.clone()).or_default())
    }

    /// `None`: an item of the one stream, where several are read now.
    fn stream(&self, id: Option<&StreamIdentifier>) -> Option<Stream> {
        let region = &self.clients.region;
        let stream = match id {
            None => self.only.clone()?,
            Some(StreamIdentifier { account, name, .. }) => {
                let partition = partition(region);
                format!("arn:{partition}:kinesis:{region}:{account}:stream/{name}")
            }
        };
        Some(self.clients.stream(&stream))
    }
}
