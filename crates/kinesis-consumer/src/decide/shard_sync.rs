//! Which leases must exist: pure functions of the stream's shards and the table's leases.
//!
//! KCL's rules (`leases/HierarchicalShardSyncer.java`), with one more: the child of a finished
//! lease gets its lease here if whoever finished the parent did not live to create it. It starts at
//! TRIM_HORIZON whatever the initial position, so nothing is skipped.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    edge::kinesis::ShardFilter,
    face::config::InitialPosition,
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::{ChildShard, HashRange, Shard},
    },
};

mod lineage;
mod readability;
#[cfg(test)]
mod tests;

use lineage::Lineage;
pub use readability::{Readability, readability};

/// The shards do not cover the hash keys exactly once: `ListShards` raced a reshard. List again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Hole {
    /// No shard takes these hash keys.
    #[error("no shard takes hash keys {} to {}", .0.start, .0.end)]
    Missing(HashRange),
    /// Two shards take these hash keys.
    #[error("two shards take hash keys {} to {}", .0.start, .0.end)]
    Overlap(HashRange),
}

/// `ListShards` raced a reshard. List again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("shard {child} and its parent {parent} are both open")]
pub struct OpenChildOfOpenParent {
    /// The child.
    pub child: ShardId,
    /// The parent.
    pub parent: ShardId,
}

/// The filter of the `ListShards` call whose answer [`initial`] wants.
pub(crate) fn initial_filter(position: InitialPosition) -> ShardFilter {
    match position {
        InitialPosition::TrimHorizon => ShardFilter::AtTrimHorizon,
        InitialPosition::Latest => ShardFilter::AtLatest,
        InitialPosition::AtTimestamp(time) => ShardFilter::AtTimestamp(time),
    }
}

/// The leases of an empty table, one for each shard listed with [`initial_filter`].
pub fn initial(shards: &[Shard], position: InitialPosition) -> Result<Vec<Lease>, Hole> {
    let mut shards: Vec<_> = shards.iter().collect();
    shards.sort_by_key(|shard| shard.hash_range);
    // The first hash key that no shard has taken yet; none after the last one.
    let mut next = Some(0);
    for shard in &shards {
        let HashRange { start, end } = shard.hash_range;
        match next {
            Some(next) if start > next => {
                return Err(Hole::Missing(HashRange {
                    start: next,
                    end: start - 1,
                }));
            }
            Some(next) if start == next => {}
            Some(next) => {
                return Err(Hole::Overlap(HashRange {
                    start,
                    end: end.min(next - 1),
                }));
            }
            None => return Err(Hole::Overlap(shard.hash_range)),
        }
        next = end.checked_add(1);
    }
    match next {
        Some(start) => Err(Hole::Missing(HashRange {
            start,
            end: u128::MAX,
        })),
        None => {
            shards.sort_by_key(|shard| (&shard.starting_sequence_number, &shard.id));
            Ok(shards
                .into_iter()
                .map(|shard| new_lease(shard, position.checkpoint()))
                .collect())
        }
    }
}

/// The leases that a table that is not empty lacks, oldest shards first. `shards`: all of them
/// ([`ShardFilter::All`]).
pub(crate) fn missing(
    shards: &[Shard],
    leases: &[Lease],
    position: InitialPosition,
) -> Result<Vec<Lease>, OpenChildOfOpenParent> {
    let mut lineage = Lineage::new(shards, leases, position);
    let open: Vec<_> = shards.iter().filter(|shard| !shard.closed).collect();
    lineage.complete(&open)?;
    Ok(lineage.into_created())
}

/// Where a shard starts that no lease leads to, in a table that has leases. Of an application that
/// got going somebody deleted that lease: LATEST would skip what came since. One that is only just
/// starting may have its first leases from another worker.
pub(crate) fn late_position(leases: &[Lease], position: InitialPosition) -> InitialPosition {
    let got_going =
        |lease: &Lease| matches!(lease.checkpoint, Checkpoint::At(_) | Checkpoint::ShardEnd);
    match position {
        InitialPosition::Latest if leases.iter().any(got_going) => InitialPosition::TrimHorizon,
        position => position,
    }
}

/// The children of a closed shard, where `GetRecords` listed none.
pub fn child_shards(parent: &ShardId, shards: &[Shard]) -> Vec<ChildShard> {
    let of_parent = shards.iter().filter(|shard| shard.parents.contains(parent));
    of_parent.map(ChildShard::from).collect()
}

/// The leases of a finished parent's children. They start at TRIM_HORIZON: the parent was read to
/// its end.
pub(crate) fn children(parent: &Lease, children: &[ChildShard]) -> Vec<Lease> {
    children
        .iter()
        .map(|child| {
            let mut lease = Lease::new(parent.key.sibling(&child.id), Checkpoint::TrimHorizon);
            lease.parents.clone_from(&child.parents);
            lease.parents.insert(parent.key.shard.clone());
            lease.hash_range = Some(child.hash_range);
            lease
        })
        .collect()
}

/// The parent that a merge has to wait for: it has no lease yet, although another parent has one.
/// Its lease comes by [`missing`] or at its own parent's end; if `ListShards` does not list it any
/// more, go on without.
pub(crate) fn absent_merge_parent<'a>(
    children: &'a [ChildShard],
    leases: &[Lease],
) -> Option<&'a ShardId> {
    let leased: HashSet<_> = leases.iter().map(|lease| &lease.key.shard).collect();
    children
        .iter()
        .filter(|child| child.parents.iter().any(|parent| leased.contains(parent)))
        .flat_map(|child| &child.parents)
        .find(|parent| !leased.contains(parent))
}

/// The finished leases that nobody needs any more: no parent's lease is left, and each child has
/// its lease and got going. A lease whose shard is gone from the stream does not wait for its
/// children to get going.
pub(crate) fn deletable(leases: &[Lease], listed: &[Shard]) -> Vec<Lease> {
    let by_key: HashMap<_, _> = leases
        .iter()
        .map(|lease| (&lease.key.shard, lease))
        .collect();
    let listed_ids: HashSet<_> = listed.iter().map(|shard| &shard.id).collect();
    let mut children: HashMap<&ShardId, BTreeSet<&ShardId>> = HashMap::new();
    for lease in leases {
        children
            .entry(&lease.key.shard)
            .or_default()
            .extend(&lease.children);
    }
    let parents_of_shards = listed.iter().map(|shard| (&shard.id, &shard.parents));
    let parents_of_leases = leases
        .iter()
        .map(|lease| (&lease.key.shard, &lease.parents));
    for (child, parents) in parents_of_shards.chain(parents_of_leases) {
        for parent in parents {
            children.entry(parent).or_default().insert(child);
        }
    }

    let needed = |lease: &Lease| {
        let is_listed = listed_ids.contains(&lease.key.shard);
        let children = &children[&lease.key.shard];
        let child_needs_it = |child: &&ShardId| match by_key.get(child) {
            Some(child) => {
                is_listed
                    && matches!(
                        child.checkpoint,
                        Checkpoint::TrimHorizon | Checkpoint::AtTimestamp
                    )
            }
            None => listed_ids.contains(*child),
        };
        lease
            .parents
            .iter()
            .any(|parent| by_key.contains_key(parent))
            || children.iter().any(child_needs_it)
            || (children.is_empty() && is_listed)
    };
    // An empty list is more likely an answer gone wrong than a stream without shards.
    let candidates = leases
        .iter()
        .filter(|lease| lease.is_finished() && !listed.is_empty());
    candidates.filter(|lease| !needed(lease)).cloned().collect()
}

/// The hash keys that no unfinished lease covers. None while an unfinished lease lacks its range.
pub(crate) fn holes(leases: &[Lease]) -> Vec<HashRange> {
    let unfinished = leases.iter().filter(|lease| !lease.is_finished());
    let Some(mut ranges) = unfinished
        .map(|lease| lease.hash_range)
        .collect::<Option<Vec<_>>>()
    else {
        return Vec::new();
    };
    ranges.sort_unstable();
    let mut holes = Vec::new();
    let mut next = Some(0);
    for HashRange { start, end } in ranges {
        let Some(first) = next else { return holes };
        if start > first {
            holes.push(HashRange {
                start: first,
                end: start - 1,
            });
        }
        // Unfinished parents overlap with children that wait for another parent.
        next = end.checked_add(1).map(|after| after.max(first));
    }
    holes.extend(next.map(|start| HashRange {
        start,
        end: u128::MAX,
    }));
    holes
}

/// The hash ranges to write into leases that lack them, or have others.
pub(crate) fn hash_ranges(leases: &[Lease], shards: &[Shard]) -> Vec<(LeaseKey, HashRange)> {
    let ranges: HashMap<_, _> = shards
        .iter()
        .map(|shard| (&shard.id, shard.hash_range))
        .collect();
    let range = |lease: &Lease| {
        let range = ranges.get(&lease.key.shard).copied();
        range.filter(|range| lease.hash_range != Some(*range))
    };
    leases
        .iter()
        .filter_map(|lease| Some((lease.key.clone(), range(lease)?)))
        .collect()
}

/// Makes the lease say of its shard what the stream says: the hash keys that it takes, and no
/// parent that is none. Who waited for such a one would wait for ever.
pub(crate) fn correct(lease: &mut Lease, shard: &Shard) {
    lease.hash_range = Some(shard.hash_range);
    lease
        .parents
        .retain(|parent| shard.parents.contains(parent));
}

/// A shard whose lease is of an older stream of the same name, which was deleted: it starts after
/// its lease's checkpoint; or the stream has none of the leased shards and has older ones, although
/// its retention takes the oldest first.
pub fn recreated(leases: &[Lease], shards: &[Shard]) -> Option<ShardId> {
    let starts: HashMap<_, _> = shards
        .iter()
        .map(|shard| (&shard.id, &shard.starting_sequence_number))
        .collect();
    let older = |lease: &&Lease| match (&lease.checkpoint, starts.get(&lease.key.shard)) {
        (Checkpoint::At(position), Some(start)) => position.sequence_number < **start,
        _ => false,
    };
    let leased = || leases.iter().map(|lease| &lease.key.shard);
    let newest_of_none = || {
        let is_listed = |shard: &ShardId| starts.contains_key(shard);
        let newest = leased().max().filter(|_| !leased().any(is_listed));
        newest.filter(|newest| starts.keys().any(|listed| listed < newest))
    };
    let older = leases.iter().find(older).map(|lease| &lease.key.shard);
    older.or_else(newest_of_none).cloned()
}

/// Shards that are open although their leases say that they are processed to the end. For a moment
/// that is `ListShards` lagging behind a reshard; if it lasts, the leases are of an older stream of
/// the same name.
pub fn open_but_finished(leases: &[Lease], shards: &[Shard]) -> Option<ShardId> {
    let open: HashSet<_> = shards
        .iter()
        .filter(|shard| !shard.closed)
        .map(|shard| &shard.id)
        .collect();
    leases
        .iter()
        .find(|lease| lease.is_finished() && open.contains(&lease.key.shard))
        .map(|lease| lease.key.shard.clone())
}

/// The shards that are open although their leases are finished, and that no worker finished: those
/// write the children's leases first. Somebody else wrote SHARD_END there, and nobody reads them.
pub(crate) fn ended_by_nobody(leases: &[Lease], shards: &[Shard]) -> BTreeSet<ShardId> {
    let open = shards.iter().filter(|shard| !shard.closed);
    let open: HashSet<_> = open.map(|shard| &shard.id).collect();
    let ended = leases.iter().filter(|lease| {
        lease.is_finished()
            && open.contains(&lease.key.shard)
            && !has_children(&lease.key.shard, leases)
    });
    ended.map(|lease| lease.key.shard.clone()).collect()
}

/// The `wanted` leases whose parents were finished by nobody: each with that parent's. What the
/// parent's lease does not say was read of it may be skipped.
pub(crate) fn below_ended_by_nobody(
    leases: &[Lease],
    wanted: &[Lease],
) -> Vec<(LeaseKey, LeaseKey)> {
    let ended: BTreeSet<_> = leases
        .iter()
        // Of Java's older versions the children's leases came later.
        .filter(|lease| lease.is_finished() && lease.stream_identity.is_some())
        .map(|lease| &lease.key.shard)
        .filter(|shard| !has_children(shard, leases))
        .collect();
    let below = wanted.iter().flat_map(|lease| {
        let parents = lease.parents.iter().filter(|parent| ended.contains(parent));
        parents.map(|parent| (lease.key.sibling(parent), lease.key.clone()))
    });
    below.collect()
}

fn has_children(shard: &ShardId, leases: &[Lease]) -> bool {
    let is_child = |lease: &Lease| lease.parents.contains(shard);
    let says_so = |lease: &Lease| lease.key.shard == *shard && !lease.children.is_empty();
    leases.iter().any(|lease| is_child(lease) || says_so(lease))
}

/// A shard whose lease, one without an identity, cannot be of this stream unless `ListShards` lags
/// behind a reshard: the lease is finished and the shard open, or the lease is unfinished and the
/// stream has only older shards.
pub(crate) fn of_another(leases: &[Lease], shards: &[Shard]) -> Option<ShardId> {
    let newest = shards.iter().map(|shard| &shard.id).max()?;
    let is_ahead = |lease: &&Lease| !lease.is_finished() && lease.key.shard > *newest;
    let ahead = || leases.iter().find(is_ahead);
    let finished = open_but_finished(leases, shards);
    finished.or_else(|| ahead().map(|lease| lease.key.shard.clone()))
}

fn new_lease(shard: &Shard, checkpoint: Checkpoint) -> Lease {
    let mut lease = Lease::new(shard.id.clone(), checkpoint);
    lease.parents.clone_from(&shard.parents);
    lease.hash_range = Some(shard.hash_range);
    lease
}
