//! The walk from open shards up to what has leases: which of the shards between must get one.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    decide::shard_sync::{OpenChildOfOpenParent, new_lease},
    face::config::InitialPosition,
    model::{keys::ShardId, lease::Lease, sequence::Checkpoint, shard::Shard},
};

/// The stream's family tree, its leases, and the leases found wanting so far.
pub(super) struct Lineage<'a> {
    shards: HashMap<&'a ShardId, &'a Shard>,
    leases: HashMap<&'a ShardId, &'a Lease>,
    position: InitialPosition,
    /// Shards that have a lease, or an ancestor with one, also if the stream has forgotten that.
    descendants: HashSet<&'a ShardId>,
    /// Shards walked through: repeated resizes make meshes, with more paths than shards.
    walked: HashSet<&'a ShardId>,
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
            descendants: descendants(shards, leases),
            walked: HashSet::new(),
            created: BTreeMap::new(),
        }
    }

    /// Finds the leases without which `shard`, an open one, would never be read.
    pub(super) fn complete(&mut self, shard: &'a Shard) -> Result<(), OpenChildOfOpenParent> {
        if let Some(parent) = self.parents(shard).find(|parent| !parent.closed) {
            return Err(OpenChildOfOpenParent {
                child: shard.id.clone(),
                parent: parent.id.clone(),
            });
        }
        if self.descendants.contains(&shard.id) {
            self.complete_descendant(shard);
        } else {
            self.start_anew(shard);
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

    /// A shard below some lease. Its own lease comes at its parents' end; what must be there is
    /// whatever leads to that end. Parents are completed first. A lineage may be as deep as the
    /// stream was resharded often, so it is walked without recursion.
    fn complete_descendant(&mut self, shard: &'a Shard) {
        let mut path = vec![(shard, false)];
        while let Some((shard, parents_are_complete)) = path.pop() {
            if parents_are_complete {
                self.follow_parents(shard);
                continue;
            }
            if self.has_lease(&shard.id) || !self.walked.insert(&shard.id) {
                continue;
            }
            path.push((shard, true));
            for parent in self.parents(shard).collect::<Vec<_>>() {
                if self.descendants.contains(&parent.id) {
                    path.push((parent, false));
                } else {
                    // The other side of a merge, of which nothing was ever read.
                    self.start_anew(parent);
                }
            }
        }
    }

    /// Gives a shard its lease whose parents were read to their end.
    fn follow_parents(&mut self, shard: &'a Shard) {
        // Parents that the stream has forgotten do not hold it up; those that are still to be read
        // do.
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

    /// A shard that no lease leads to starts where the application starts: itself, or from its
    /// oldest ancestors on.
    fn start_anew(&mut self, shard: &'a Shard) {
        let mut ancestors = vec![shard];
        while let Some(shard) = ancestors.pop() {
            if !self.walked.insert(&shard.id) {
                continue;
            }
            let parents: Vec<_> = self.parents(shard).collect();
            if parents.is_empty() || self.position == InitialPosition::Latest {
                self.created
                    .insert(&shard.id, (shard, self.position.checkpoint()));
            } else {
                ancestors.extend(parents);
            }
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

/// Whatever has a lease, and all shards below.
fn descendants<'a>(shards: &'a [Shard], leases: &'a [Lease]) -> HashSet<&'a ShardId> {
    let mut children: HashMap<&ShardId, Vec<&ShardId>> = HashMap::new();
    for shard in shards {
        for parent in &shard.parents {
            children.entry(parent).or_default().push(&shard.id);
        }
    }
    let mut found = HashSet::new();
    let mut next: Vec<_> = leases.iter().map(|lease| &lease.key.shard).collect();
    while let Some(id) = next.pop() {
        if found.insert(id) {
            next.extend(children.get(id).into_iter().flatten());
        }
    }
    found
}
