//! Which shards an application can read now, which later, and which never: shared by whoever works
//! on the leases and whoever only counts the work.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    decide::shard_sync::{OpenChildOfOpenParent, late_position, missing},
    face::config::InitialPosition,
    model::{keys::ShardId, lease::Lease, sequence::Checkpoint, shard::Shard},
};

/// May an application read this shard?
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Readability {
    /// It has: the lease is at SHARD_END.
    Finished,
    /// A worker can read it now, from its lease's checkpoint. Without a lease: from `start`, where
    /// its lease will be created.
    Readable {
        /// Set where the table has no lease yet.
        start: Option<Checkpoint>,
    },
    /// Only after these parents are at SHARD_END.
    WaitsFor(BTreeSet<ShardId>),
    /// It has no lease and gets none: the application started below it.
    NotWanted,
}

/// What can be read of the stream's `shards` (all of them,
/// [`crate::edge::kinesis::ShardFilter::All`]), given the table's `leases`.
///
/// KCL's rule (`lifecycle/BlockOnParentShardTask.java`): a shard may start when the lease of each
/// of its parents is absent or at SHARD_END. Leases that workers would create are taken as created:
/// with `position` where the application starts, TRIM_HORIZON if that is not known (it matters only
/// for shards that no lease leads to). A lease whose shard is not listed holds nobody up, although
/// KCL would wait for it: the stream has forgotten the shard, so whoever holds the lease writes
/// SHARD_END at once. Such leases are left out.
pub fn readability(
    shards: &[Shard],
    leases: &[Lease],
    position: InitialPosition,
) -> Result<BTreeMap<ShardId, Readability>, OpenChildOfOpenParent> {
    let listed: HashSet<_> = shards.iter().map(|shard| &shard.id).collect();
    let position = late_position(leases, position);
    let mut leases = leases.to_vec();
    for lease in &mut leases {
        if !listed.contains(&lease.key.shard) {
            lease.checkpoint = Checkpoint::ShardEnd;
        }
    }
    let created = missing(shards, &leases, position)?;
    let existing: HashMap<_, _> = leases
        .iter()
        .map(|lease| (&lease.key.shard, lease))
        .collect();
    let created: HashMap<_, _> = created
        .iter()
        .map(|lease| (&lease.key.shard, lease))
        .collect();
    let lease = |id: &ShardId| existing.get(id).or_else(|| created.get(id)).copied();
    let coming = coming(shards, &lease);
    let unfinished = |parents: &BTreeSet<ShardId>| {
        let holds_up = |parent: &&ShardId| match lease(parent) {
            Some(lease) => !lease.is_finished(),
            None => coming.contains(parent),
        };
        parents
            .iter()
            .filter(holds_up)
            .cloned()
            .collect::<BTreeSet<_>>()
    };

    let verdict = |shard: &Shard| {
        let Some(lease) = lease(&shard.id) else {
            return if coming.contains(&shard.id) {
                Readability::WaitsFor(unfinished(&shard.parents))
            } else {
                Readability::NotWanted
            };
        };
        // A lease's parents without leases do not hold it up, whether theirs come or not; nor do
        // shards that are none.
        let mut parents = unfinished(&lease.parents);
        parents.retain(|parent| !coming.contains(parent) && shard.parents.contains(parent));
        if lease.is_finished() {
            Readability::Finished
        } else if parents.is_empty() {
            let start = created.get(&shard.id).map(|lease| lease.checkpoint.clone());
            Readability::Readable { start }
        } else {
            Readability::WaitsFor(parents)
        }
    };
    Ok(shards
        .iter()
        .map(|shard| (shard.id.clone(), verdict(shard)))
        .collect())
}

/// The shards without a lease below an unfinished one: theirs come at their parents' end.
fn coming<'a>(
    shards: &'a [Shard],
    lease: &impl Fn(&ShardId) -> Option<&'a Lease>,
) -> HashSet<&'a ShardId> {
    let mut children: HashMap<&ShardId, Vec<&ShardId>> = HashMap::new();
    for shard in shards {
        for parent in &shard.parents {
            children.entry(parent).or_default().push(&shard.id);
        }
    }
    let is_unfinished = |id: &&ShardId| lease(id).is_some_and(|lease| !lease.is_finished());
    let mut parents: Vec<_> = shards
        .iter()
        .map(|shard| &shard.id)
        .filter(is_unfinished)
        .collect();
    let mut coming = HashSet::new();
    while let Some(parent) = parents.pop() {
        for child in children.get(parent).into_iter().flatten().copied() {
            if lease(child).is_none() && coming.insert(child) {
                parents.push(child);
            }
        }
    }
    coming
}
