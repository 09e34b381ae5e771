//! The walk from open shards up to what has leases: which of the shards between must get one.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    decide::shard_sync::{OpenChildOfOpenParent, new_lease},
    face::config::InitialPosition,
    model::{keys::ShardId, lease::Lease, sequence::Checkpoint, shard::Shard},
};

/// The stream's family tree, its leases, and the leases found wanting. No walk recurses: a stream
/// that was resharded often has lines of thousands of generations.
pub(super) struct Lineage<'a> {
    shards: HashMap<&'a ShardId, &'a Shard>,
    leases: HashMap<&'a ShardId, &'a Lease>,
    position: InitialPosition,
    created: BTreeMap<&'a ShardId, (&'a Shard, Checkpoint)>,
}

impl<'a> Lineage<'a> {
    pub(super) fn new(shards: &'a [Shard], leases: &'a [Lease], position: InitialPosition) -> Self {
        Self {
            shards: shards.iter().map(|shard| (&shard.id, shard)).collect(),
            leases: leases
                .iter()
                .map(|lease| (&lease.key.shard, lease))
                .collect(),
            position,
            created: BTreeMap::new(),
        }
    }

    /// Finds the leases without which the `open` shards would never be read.
    pub(super) fn complete(&mut self, open: &[&'a Shard]) -> Result<(), OpenChildOfOpenParent> {
        for shard in open {
            if let Some(parent) = self.parents(shard).find(|parent| !parent.closed) {
                return Err(OpenChildOfOpenParent {
                    child: shard.id.clone(),
                    parent: parent.id.clone(),
                });
            }
        }
        let lines = self.oldest_first(open);
        let descendants = self.descendants(&lines);
        let walked = self.walk_up(open, &descendants);
        for shard in lines {
            if walked.contains(&shard.id) && descendants.contains(&shard.id) {
                self.complete_descendant(shard);
            }
        }
        Ok(())
    }

    /// The leases to create, oldest shards first.
    pub(super) fn into_created(self) -> Vec<Lease> {
        let mut created: Vec<_> = self.created.into_values().collect();
        created.sort_by_key(|(shard, _)| (&shard.starting_sequence_number, &shard.id));
        created
            .into_iter()
            .map(|(shard, checkpoint)| new_lease(shard, checkpoint))
            .collect()
    }

    /// These shards and all of their ancestors, parents before children.
    fn oldest_first(&self, open: &[&'a Shard]) -> Vec<&'a Shard> {
        let mut lines = Vec::new();
        let mut seen = HashSet::new();
        let mut stack: Vec<_> = open.iter().map(|shard| (*shard, false)).collect();
        while let Some((shard, parents_are_in)) = stack.pop() {
            if parents_are_in {
                lines.push(shard);
            } else if seen.insert(&shard.id) {
                stack.push((shard, true));
                stack.extend(self.parents(shard).map(|parent| (parent, false)));
            }
        }
        lines
    }

    /// Those that have a lease, or an ancestor with one. Also if the stream has forgotten that
    /// ancestor.
    fn descendants(&self, oldest_first: &[&'a Shard]) -> HashSet<&'a ShardId> {
        let mut descendants = HashSet::new();
        for shard in oldest_first {
            let has = |id| self.leases.contains_key(id) || descendants.contains(id);
            if has(&shard.id) || shard.parents.iter().any(has) {
                descendants.insert(&shard.id);
            }
        }
        descendants
    }

    /// From the open shards up to the first leases. A shard that no lease leads to starts where the
    /// application starts: itself, or from its oldest ancestors on. (Of a merge, that may be one
    /// side, of which nothing was ever read.) Gives the shards walked through.
    fn walk_up(
        &mut self,
        open: &[&'a Shard],
        descendants: &HashSet<&'a ShardId>,
    ) -> HashSet<&'a ShardId> {
        let mut walked = HashSet::new();
        let mut stack = open.to_vec();
        while let Some(shard) = stack.pop() {
            // Repeated resizes make meshes, with more paths than shards.
            if self.leases.contains_key(&shard.id) || !walked.insert(&shard.id) {
                continue;
            }
            let parents: Vec<_> = self.parents(shard).collect();
            let starts = parents.is_empty() || self.position == InitialPosition::Latest;
            if starts && !descendants.contains(&shard.id) {
                self.created
                    .insert(&shard.id, (shard, self.position.checkpoint()));
            } else {
                stack.extend(parents);
            }
        }
        walked
    }

    /// A shard below some lease. Its own lease comes at its parents' end; what must be there is
    /// whatever leads to that end.
    ///
    /// Parents that the stream has forgotten do not hold it up; those that are still to be read do.
    fn complete_descendant(&mut self, shard: &'a Shard) {
        let parents_leased = self.parents(shard).all(|parent| self.has_lease(&parent.id));
        let mut leases = shard
            .parents
            .iter()
            .filter_map(|parent| self.leases.get(parent));
        if parents_leased && leases.any(|lease| lease.is_finished()) {
            self.created
                .insert(&shard.id, (shard, Checkpoint::TrimHorizon));
        }
    }

    fn has_lease(&self, id: &ShardId) -> bool {
        self.leases.contains_key(id) || self.created.contains_key(id)
    }

    /// The parents that the stream still knows.
    fn parents(&self, shard: &'a Shard) -> impl Iterator<Item = &'a Shard> + use<'_, 'a> {
        shard
            .parents
            .iter()
            .filter_map(|parent| self.shards.get(parent).copied())
    }
}
