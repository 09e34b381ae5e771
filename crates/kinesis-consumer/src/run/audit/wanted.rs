//! Which leases are wanted, and what stands in their way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Audit, Trouble, put_back};
use crate::{
    decide::shard_sync,
    edge::kinesis::ShardFilter,
    face::config::InitialPosition,
    model::{keys::ShardId, lease::Lease, sequence::Checkpoint, shard::Shard},
    run::ownership::Owner,
};

/// The longest that `ListShards` may lag behind a reshard.
const LISTING_LAG: Duration = Duration::from_secs(60);
/// How long a lost lease is left to the worker that held it.
const HOLDERS_TURN: Duration = Duration::from_secs(30);

/// The shards of a stream, and the leases that are to be created.
type Wanted = (Vec<Shard>, Vec<Lease>);

impl Audit {
    /// The shards of a stream without leases, and its first leases; those at LATEST since it was
    /// found, where that is known.
    pub(super) async fn first_leases(&self, found: Option<Timestamp>) -> Result<Wanted, Trouble> {
        let (stream, position) = (&self.stream, self.context.config.initial_position);
        let mut filters = vec![shard_sync::initial_filter(position)];
        // Those that were open then, so that a reshard since skips nothing. Of a stream that is
        // hardly older there may be none.
        filters.extend(found.map(ShardFilter::AtTimestamp));
        loop {
            let filter = filters.pop().unwrap_or(ShardFilter::AtLatest);
            let shards = stream.kinesis.list_shards(filter).await?;
            stream.ownership.learn(&shards);
            match shard_sync::initial(&shards, position) {
                Ok(mut leases) => {
                    for lease in &mut leases {
                        lease.latest_since = found;
                    }
                    return Ok((shards, leases));
                }
                Err(_) if !filters.is_empty() => {}
                Err(hole) => return Err(Trouble::race(hole)),
            }
        }
    }

    /// The shards of a stream that has leases, and the leases that lack. Those that were `lost` are
    /// put back, and come to the others.
    pub(super) async fn missing_leases(
        &mut self,
        leases: &mut Vec<Lease>,
        mut lost: Vec<Lease>,
        began: Instant,
    ) -> Result<Wanted, Trouble> {
        let (context, stream) = (Arc::clone(&self.context), Arc::clone(&self.stream));
        let shards = stream.kinesis.list_shards(ShardFilter::All).await?;
        stream.ownership.learn(&shards);
        if !stream.ownership.table_is_ours() {
            return Err(Trouble::race(
                "no checkpoint is known to be of this stream yet: its shards hold no record",
            ));
        }
        lost.retain(|lease| {
            let is_listed = shards.iter().any(|shard| shard.id == lease.key.shard);
            if !is_listed {
                context.known().forget(&lease.key);
            }
            is_listed
        });
        leases.extend(lost.iter().cloned());
        self.judge(leases, &shards, began)?;
        // Before leases at the initial position, which could be LATEST, can take their place.
        let others = self.leave_to_holders(&mut lost, leases, &shards);
        let mut position = context.config.initial_position;
        if !lost.is_empty() {
            put_back(&context, lost).await?;
            position = InitialPosition::TrimHorizon;
        }
        if let Some(shard) = others {
            return Err(Trouble::race(format!(
                "the lease of {shard} is for its holder to put back"
            )));
        }
        position = shard_sync::late_position(leases, position);
        let mut wanted = shard_sync::missing(&shards, leases, position).map_err(Trouble::race)?;
        let since = leases.iter().filter_map(|lease| lease.latest_since).min();
        for lease in &mut wanted {
            // As the others, however late this one comes.
            lease.latest_since = since.filter(|_| lease.checkpoint == Checkpoint::Latest);
        }
        Ok((shards, wanted))
    }

    /// Judges leases that the shards contradict: the stream was made anew, `ListShards` lags
    /// behind, or somebody else finished them, which is told.
    fn judge(
        &mut self,
        leases: &mut [Lease],
        shards: &[Shard],
        began: Instant,
    ) -> Result<(), Trouble> {
        let stream = Arc::clone(&self.stream);
        let is_older = |lease: &&Lease| stream.ownership.judge(lease) == Owner::Older;
        let by_identity = || {
            leases
                .iter()
                .find(is_older)
                .map(|lease| lease.key.shard.clone())
        };
        if let Some(shard) = shard_sync::recreated(leases, shards).or_else(by_identity) {
            return Err(Trouble::fatal(stream.impossible(leases, shard)));
        }
        let ended = shard_sync::ended_by_nobody(leases, shards);
        self.tell_ended(&ended, leases, shards);
        for lease in &mut *leases {
            // It stands still, which is told; the others go on.
            if ended.contains(&lease.key.shard) {
                lease.checkpoint = Checkpoint::TrimHorizon;
            }
        }
        let Some(shard) = shard_sync::open_but_finished(leases, shards) else {
            self.contradicted = None;
            return Ok(());
        };
        let since = *self.contradicted.get_or_insert(began);
        if since.elapsed() >= LISTING_LAG {
            return Err(Trouble::fatal(stream.recreated(shard)));
        }
        Err(Trouble::race(format!(
            "{shard} is open, but its lease is finished"
        )))
    }

    /// Tells which open shards nobody reads, as their leases say that they are finished; and where
    /// one of them was resharded without being read, what that skips.
    fn tell_ended(&self, ended: &BTreeSet<ShardId>, leases: &[Lease], shards: &[Shard]) {
        let before = self.stream.set_ended_by_nobody(ended.clone());
        if before == *ended {
            return;
        }
        self.context.rescan.notify_one();
        let is_open = |shard: &ShardId| shards.iter().any(|it| it.id == *shard && !it.closed);
        for shard in before.difference(ended).filter(|shard| !is_open(shard)) {
            let mut leases = leases.iter();
            let lease = leases.find(|lease| lease.key.shard == *shard && lease.is_finished());
            // Where this worker finds that they have no leases, it tells it with theirs.
            if let Some(lease) = lease.filter(|lease| lease.stream_identity.is_none()) {
                self.context.tell_skipped(lease.key.clone());
            }
        }
    }

    /// Leaves out those that other workers held, for a while: they know better where they stand,
    /// and what is finished. Returns one of them.
    fn leave_to_holders(
        &mut self,
        lost: &mut Vec<Lease>,
        leases: &[Lease],
        shards: &[Shard],
    ) -> Option<ShardId> {
        let (known, me) = (self.context.known(), &self.context.config.worker_id);
        let is_ours = |lease: &Lease| known.was_held_by(&lease.key, me);
        let is_lone = self.context.fleet.workers() == 1;
        let other = lost.iter().find(|lease| !is_lone && !is_ours(lease));
        let Some(other) = other.map(|lease| lease.key.shard.clone()) else {
            self.lacking = None;
            return None;
        };
        let since = *self.lacking.get_or_insert_with(Instant::now);
        if since.elapsed() < HOLDERS_TURN {
            lost.retain(is_ours);
            return Some(other);
        }
        // Its children's leases come just before its end.
        let is_lost = |lease: &Lease| lost.iter().any(|it| it.key == lease.key);
        let there = leases.iter().filter(|lease| !is_lost(lease));
        let there: BTreeSet<_> = there.map(|lease| lease.key.shard.clone()).collect();
        let has_children = |lease: &Lease| {
            let is_child = |shard: &&Shard| shard.parents.contains(&lease.key.shard);
            let mut children = shards.iter().filter(is_child);
            children.any(|child| there.contains(&child.id))
        };
        lost.retain(|lease| is_ours(lease) || !has_children(lease));
        None
    }
}
