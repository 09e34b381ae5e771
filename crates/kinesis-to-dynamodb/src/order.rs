//! Which of two versions of an item is newer. Pure.
//!
//! Within a shard, its ancestors and its descendants the sequence number decides. Sequence numbers
//! of other shards say nothing of time: there the time of arrival decides, and the sequence number
//! only where that is the same. Times of arrival are not in order within a shard, so a version
//! that replaces an earlier one of its shard is as late as the latest of both: otherwise the
//! outcome would hang on which of them a third shard's version met.

use std::collections::{BTreeMap, BTreeSet};

use kinesis_edge::AttributeValue;

use crate::item::{Item, KINESIS_ARRIVED, KINESIS_POSITION, KINESIS_SHARD};

/// Where a version of an item comes from, as its attributes have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Version {
    pub(crate) position: String,
    /// `None`: an older release wrote it.
    pub(crate) shard: Option<String>,
    /// `None`: an older release wrote it, or AWS did not say.
    pub(crate) arrived: Option<String>,
}

/// What becomes of a new version where another one is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// It replaces the stored one, as of this time of arrival.
    Replace(Option<String>),
    /// It is the stored one.
    Repeated,
    /// The stored one is newer.
    Older,
}

/// The shards of a stream, each with its parents.
pub(crate) type Parents = BTreeMap<String, BTreeSet<String>>;

impl Version {
    /// `None`: it is none of ours.
    pub(crate) fn of(item: &Item) -> Option<Self> {
        let text = |name: &str| match item.get(name) {
            Some(AttributeValue::S(text)) => Some(text.clone()),
            _ => None,
        };
        Some(Self {
            position: text(KINESIS_POSITION)?,
            shard: text(KINESIS_SHARD),
            arrived: text(KINESIS_ARRIVED),
        })
    }

    /// Judges this version where `stored` is in the table. `related`: one's shard is the other's,
    /// or an ancestor of it.
    pub(crate) fn over(&self, stored: &Self, related: bool) -> Decision {
        let same_shard = stored.shard.is_none() || stored.shard == self.shard;
        if same_shard && self.position == stored.position {
            return Decision::Repeated;
        }
        let (is_newer, arrived) = match (&self.arrived, &stored.arrived) {
            (Some(own), Some(other)) if !related => {
                ((own, &self.position) > (other, &stored.position), Some(own))
            }
            (own, other) => (
                self.position > stored.position,
                own.as_ref().max(other.as_ref()),
            ),
        };
        if is_newer {
            Decision::Replace(arrived.cloned())
        } else {
            Decision::Older
        }
    }
}

/// Is one the other, or an ancestor of it?
pub(crate) fn are_related(parents: &Parents, one: &str, other: &str) -> bool {
    one == other || descends(parents, one, other) || descends(parents, other, one)
}

fn descends(parents: &Parents, shard: &str, ancestor: &str) -> bool {
    let mut open = vec![shard];
    let mut seen = BTreeSet::new();
    while let Some(shard) = open.pop() {
        for parent in parents.get(shard).into_iter().flatten() {
            if parent == ancestor {
                return true;
            }
            if seen.insert(parent) {
                open.push(parent);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn parents() -> Parents {
        let child = |shard: &str, of: &[&str]| {
            let of = of.iter().map(|parent| (*parent).to_owned()).collect();
            (shard.to_owned(), of)
        };
        [
            child("0", &[]),
            child("1", &["0"]),
            child("2", &[]),
            child("3", &["1", "2"]),
        ]
        .into()
    }

    #[test]
    fn ancestors_are_related_however_far_and_siblings_are_not() {
        let are_related = |one, other| super::are_related(&parents(), one, other);
        assert!(are_related("0", "0") && are_related("0", "3") && are_related("3", "0"));
        assert!(are_related("2", "3") && !are_related("1", "2") && !are_related("0", "2"));
        assert!(!are_related("0", "unknown"));
    }

    fn version(shard: usize, position: usize, arrived: usize) -> Version {
        Version {
            position: format!("{position:04}"),
            shard: Some(shard.to_string()),
            arrived: Some(format!("{arrived:04}")),
        }
    }

    #[test]
    fn a_version_of_an_older_release_is_judged_by_its_position() {
        let stored = Version {
            shard: None,
            arrived: None,
            ..version(0, 5, 0)
        };
        let over = |position| version(1, position, 1).over(&stored, false);
        assert_eq!(over(4), Decision::Older);
        assert_eq!(over(5), Decision::Repeated);
        assert_eq!(over(6), Decision::Replace(Some("0001".to_owned())));
    }

    /// One key's records in each of four shards, in order: shard 1 is 0's child, 2 and 3 are on
    /// their own. Sequence numbers of the shards do not compare. A time is taken by one record
    /// only, as ties would leave open which of a shard's records counts.
    fn shards() -> impl Strategy<Value = Vec<Vec<Version>>> {
        (vec(0..5usize, 4), any::<u64>()).prop_map(|(counts, seed)| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut times: Vec<_> = (0..counts.iter().sum()).collect();
            random.shuffle(&mut times);
            let mut shards = Vec::new();
            for (shard, count) in counts.into_iter().enumerate() {
                let base = [0, 100, 50, 5][shard];
                let record = |nth| version(shard, base + nth, times.pop().unwrap_or_default());
                shards.push((0..count).map(record).collect());
            }
            shards
        })
    }

    /// The newest record, as late as the latest of its shard and its ancestors.
    fn oracle(shards: &[Vec<Version>]) -> Option<Version> {
        let family: Vec<_> = shards[0].iter().chain(&shards[1]).collect();
        let families = [
            family,
            shards[2].iter().collect(),
            shards[3].iter().collect(),
        ];
        let newest = families.iter().filter_map(|family| {
            let latest = family.iter().map(|version| &version.arrived).max()?;
            Some((latest, *family.last()?))
        });
        newest
            .max_by_key(|(latest, version)| (*latest, &version.position))
            .map(|(_, version)| version.clone())
    }

    proptest! {
        /// Shards are read side by side, a child after its parent; what was read comes again, from
        /// any point on.
        #[test]
        fn the_table_ends_with_the_newest_however_deliveries_interleave(
            shards in shards(),
            steps in vec((any::<Index>(), 0..10u8), 0..60),
        ) {
            let mut parents = parents();
            parents.insert("3".to_owned(), BTreeSet::new());
            let mut next = [0; 4];
            let mut stored: Option<Version> = None;
            let mut step = |shard: usize, next: &mut [usize; 4], back: usize| {
                let parent_is_done = shard != 1 || next[0] == shards[0].len();
                if !parent_is_done {
                    return;
                }
                next[shard] = next[shard].saturating_sub(back);
                let Some(new) = shards[shard].get(next[shard]) else { return };
                next[shard] += 1;
                let Some(old) = &stored else {
                    stored = Some(new.clone());
                    return;
                };
                let of = |version: &Version| version.shard.clone().unwrap_or_default();
                let decision = new.over(old, are_related(&parents, &of(new), &of(old)));
                // What is written without a look at the stored one must be right.
                if new.position > old.position && new.arrived >= old.arrived {
                    assert_eq!(decision, Decision::Replace(new.arrived.clone()));
                }
                if let Decision::Replace(arrived) = decision {
                    stored = Some(Version { arrived, ..new.clone() });
                }
            };
            for (shard, back) in steps {
                // One in five comes again. A parent that is done is not read again.
                let shard = shard.index(4);
                let back = if shard == 0 && next[0] == shards[0].len() { 0 } else { back };
                step(shard, &mut next, usize::from(back.saturating_sub(7)));
            }
            for shard in 0..4 {
                while next[shard] < shards[shard].len() {
                    step(shard, &mut next, 0);
                }
            }
            let stored = stored.map(|version| (version.shard, version.position));
            let newest = oracle(&shards).map(|version| (version.shard, version.position));
            prop_assert_eq!(stored, newest);
        }
    }
}
