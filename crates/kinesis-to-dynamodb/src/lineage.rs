//! Which shards of the stream descend from which: asked for when an item's shard is met that is not
//! known yet.

use std::{sync::Arc, time::Duration};

use kinesis_edge::{Failure, ShardFilter, Stream};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    metrics::Metrics,
    order::{Parents, are_related},
    writer::patiently,
};

/// A shard that the last list did not have is looked for again after this: most likely it is gone.
const AGAIN: Duration = Duration::from_secs(10);

/// The stream's shards, as far as they were met.
#[derive(Debug)]
pub(crate) struct Lineage {
    stream: Stream,
    metrics: Arc<Metrics>,
    /// Locked while it is asked for: whoever else wants it waits for that answer.
    known: Mutex<Option<(Instant, Parents)>>,
}

impl Lineage {
    pub(crate) fn new(stream: Stream, metrics: Arc<Metrics>) -> Self {
        Self {
            stream,
            metrics,
            known: Mutex::default(),
        }
    }

    /// Is one shard the other, or an ancestor of it? Shards that the stream does not have any more
    /// are not.
    pub(crate) async fn are_related(&self, one: &str, other: &str) -> Result<bool, Failure> {
        if one == other {
            return Ok(true);
        }
        let mut known = self.known.lock().await;
        let has_all = |(asked, parents): &(Instant, Parents)| {
            asked.elapsed() < AGAIN
                || [one, other]
                    .iter()
                    .all(|shard| parents.contains_key(*shard))
        };
        let parents = match known.take().filter(has_all) {
            Some(fresh) => &known.insert(fresh).1,
            None => {
                let shards = patiently(&self.metrics, self.stream.as_str(), || {
                    self.stream.shards(ShardFilter::All)
                });
                let shards = shards.await?.into_iter();
                let parents = shards.map(|shard| (shard.id, shard.parents.into_iter().collect()));
                &known.insert((Instant::now(), parents.collect())).1
            }
        };
        Ok(are_related(parents, one, other))
    }
}
