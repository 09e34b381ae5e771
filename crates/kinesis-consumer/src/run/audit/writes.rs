//! What an audit writes to the lease table.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::Audit;
use crate::{
    decide::shard_sync,
    edge::lease_table::TableError,
    face::event::Event,
    model::{keys::LeaseKey, lease::Lease, sequence::Checkpoint, shard::Shard},
    run::{context::Context, stream::Stream},
};

/// Concurrent calls to the lease table.
const CONCURRENCY: usize = 16;

impl Audit {
    /// Creates the leases that are wanted, which come to the others, and tells what those skip that
    /// stand below leases that nobody finished. Returns those that were not there.
    pub(super) async fn create_wanted(
        &self,
        wanted: Vec<Lease>,
        leases: &mut Vec<Lease>,
    ) -> Result<Vec<LeaseKey>, TableError> {
        let mut skipped = shard_sync::below_ended_by_nobody(leases, &wanted);
        leases.extend(wanted.iter().cloned());
        let created = create(&self.context, wanted).await?;
        skipped.retain(|(_, child)| created.contains(child));
        let skipped: BTreeSet<_> = skipped.into_iter().map(|(parent, _)| parent).collect();
        for parent in skipped {
            self.context.tell_skipped(parent);
        }
        Ok(created)
    }

    /// Writes the hash keys of shards into leases that lack them.
    pub(super) async fn write_hash_ranges(
        &self,
        leases: &[Lease],
        shards: &[Shard],
    ) -> Result<(), TableError> {
        for (key, range) in shard_sync::hash_ranges(leases, shards) {
            match self.context.table.set_hash_range(&key, range).await {
                Ok(()) | Err(TableError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leases that we took before their shard was listed do not say yet whose they are.
    pub(super) async fn name_stream(&self, leases: &[Lease]) -> Result<(), TableError> {
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

    /// Deletes what has been of no use for long enough.
    pub(super) async fn clean_up(&mut self, deletable: Vec<Lease>) -> Result<(), TableError> {
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
