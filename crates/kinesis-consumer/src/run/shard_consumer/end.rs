//! A closed shard's end: the children's leases come first, so that no hash key is ever without a
//! lease.

use super::{Leave, ShardConsumer, table_failures};
use crate::{
    decide::shard_sync,
    edge::{kinesis::ShardFilter, lease_table::TableError},
    face::{
        checkpointer::{CheckpointError, LeaseHandle},
        event::Event,
    },
    model::{keys::ShardId, lease::Lease, sequence::Checkpoint, shard::ChildShard},
    run::stream::Stream,
};

impl ShardConsumer {
    /// Writes the children's leases, `childShardIds` and SHARD_END, in this order, so that no shard
    /// is ever without a lease.
    pub(super) async fn end_shard(
        &mut self,
        children: Vec<ChildShard>,
    ) -> Result<Vec<Lease>, Leave> {
        self.until_settled().await?;
        let mut failures = table_failures();
        let leases = loop {
            self.confirm().await?;
            match self.create_children(&children).await {
                Ok(Some(leases)) => {
                    self.context.succeeded("create");
                    break leases;
                }
                Ok(None) => self.rest(self.context.config.parent_poll_interval).await?,
                Err(error) => {
                    self.context
                        .table_failed(Some(self.lease.key()), "create", &error);
                    self.rest(failures.next().unwrap_or_default()).await?;
                }
            }
        };
        let mut failures = table_failures();
        loop {
            // No new look is needed: the condition on the counter fails if anybody wrote since.
            match self.lease.checkpoint(&Checkpoint::ShardEnd).await {
                Ok(()) => break,
                Err(CheckpointError::Table(_)) => {
                    self.rest(failures.next().unwrap_or_default()).await?;
                }
                Err(_) => return Err(Leave::Lost),
            }
        }
        self.context.report(Event::ShardEnded {
            shard: self.lease.key().clone(),
            children: children.into_iter().map(|child| child.id).collect(),
        });
        // Nobody renews a finished lease, so it must not look like one whose worker died.
        self.lease.give_up(None).await;
        Ok(leases)
    }

    /// Calls `shard_ended` until everything that was delivered is acknowledged: SHARD_END covers
    /// all of it.
    async fn until_settled(&mut self) -> Result<(), Leave> {
        let mut waits = self.processor_failures();
        loop {
            self.confirm().await?;
            match self.call(|processor, to| processor.shard_ended(to)).await? {
                Ok(()) if self.checkpointer.is_settled() => {
                    self.succeeded();
                    return Ok(());
                }
                Ok(()) => {
                    let retry_in = waits.next().unwrap_or_default();
                    self.context.report(Event::ShardEndWaits {
                        shard: self.lease.key().clone(),
                        acknowledged: self.checkpointer.acknowledged(),
                        delivered: self.checkpointer.delivered(),
                        retry_in,
                    });
                    self.rest(retry_in).await?;
                }
                Err(failure) => self.failed(&failure).await?,
            }
        }
    }

    /// The children's leases, as created or found. `None`: a merge's other parent has no lease yet.
    async fn create_children(
        &mut self,
        children: &[ChildShard],
    ) -> Result<Option<Vec<Lease>>, TableError> {
        let table = &self.context.table;
        let parent = self.lease.copy().await;
        let (mut leases, mut lacking) = (Vec::new(), Vec::new());
        for child in children {
            match table.read(&parent.key.sibling(&child.id)).await? {
                Some(found) => leases.push(found),
                None => lacking.push(child.clone()),
            }
        }
        let mut parents = vec![parent.clone()];
        for id in lacking.iter().flat_map(|child| &child.parents) {
            if *id != parent.key.shard
                && let Some(lease) = table.read(&parent.key.sibling(id)).await?
            {
                parents.push(lease);
            }
        }
        if let Some(absent) = shard_sync::absent_merge_parent(&lacking, &parents)
            && may_come(&self.stream, absent).await
        {
            return Ok(None);
        }
        let mut created = Vec::new();
        for child in shard_sync::children(&parent, &lacking) {
            // A process that was stopped here for long would bring leases back that were finished
            // and deleted meanwhile.
            if !self.lease.confirm().await {
                return Err(TableError::Conflict(None));
            }
            if table.create(&child).await? {
                created.push(child.key.clone());
                leases.push(child);
            } else if let Some(found) = table.read(&child.key).await? {
                leases.push(found);
            }
        }
        if !created.is_empty() {
            self.context
                .report(Event::LeasesCreated { shards: created });
        }
        if !children.is_empty() {
            let ids = children.iter().map(|child| child.id.clone()).collect();
            table.set_children(&parent.key, &ids).await?;
        }
        Ok(Some(leases))
    }
}

/// May the shard still get a lease? By an audit or at its parent's end, unless the stream has
/// forgotten it.
async fn may_come(stream: &Stream, shard: &ShardId) -> bool {
    match stream.kinesis.list_shards(ShardFilter::All).await {
        Ok(shards) => shards.iter().any(|listed| listed.id == *shard),
        Err(error) => {
            stream.call_failed(None, "ListShards", &error);
            true
        }
    }
}
