//! The leases as this worker last saw them, of other workers too: what a table that was deleted, or
//! a row, is made anew from.
//!
//! A lease is only ever deleted when it is finished and nobody needs it. One that was unfinished
//! and is gone was deleted by somebody else. What was seen last is where its application stood, or
//! a little before: no record is skipped from there, and a new lease's initial position could skip
//! some.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    edge::lease_table::Scan,
    model::{keys::LeaseKey, lease::Lease, sequence::Checkpoint},
};

#[derive(Debug)]
pub(crate) struct Known {
    leases: BTreeMap<LeaseKey, Lease>,
    seen: Instant,
    /// The table was missing when it was last asked.
    is_missing: bool,
    /// The time after which what was seen is worth nothing: a lease may have been finished and
    /// deleted by the book since.
    trusted_for: Duration,
}

impl Known {
    pub(crate) fn new(trusted_for: Duration) -> Self {
        Self {
            leases: BTreeMap::new(),
            seen: Instant::now(),
            is_missing: false,
            trusted_for,
        }
    }

    /// From now on what was seen is worth something for so long.
    pub(crate) fn trust_for(&mut self, time: Duration) {
        self.trusted_for = time;
    }

    /// Was it that worker's when it was last seen?
    pub(crate) fn was_held_by(&self, key: &LeaseKey, worker: &str) -> bool {
        let lease = self.leases.get(key);
        lease.is_some_and(|lease| lease.owner.as_deref() == Some(worker))
    }

    /// Takes in a scan that began at `began`.
    pub(crate) fn observe(&mut self, scanned: &[Lease], began: Instant) {
        if began > self.seen + self.trusted_for {
            self.leases.clear();
        }
        self.seen = began;
        self.is_missing = false;
        let there: BTreeSet<_> = scanned.iter().map(|lease| &lease.key).collect();
        self.leases
            .retain(|key, lease| there.contains(key) || !lease.is_finished());
        scanned.iter().for_each(|lease| self.learn(lease));
    }

    /// A lease as a write of ours left it, or as a scan shows it.
    pub(crate) fn learn(&mut self, lease: &Lease) {
        match self.leases.get_mut(&lease.key) {
            // Scans lag behind.
            Some(known)
                if lease.counter < known.counter && lease.checkpoint <= known.checkpoint => {}
            Some(known) => known.clone_from(lease),
            None => drop(self.leases.insert(lease.key.clone(), lease.clone())),
        }
    }

    /// There is no table: nobody deletes leases by the book.
    pub(crate) fn table_is_missing(&mut self) {
        self.seen = Instant::now();
        self.is_missing = true;
    }

    /// Is what is known all that anybody has?
    pub(crate) fn is_table_missing(&self) -> bool {
        self.is_missing
    }

    /// Unfinished leases that `scan` lacks, as they are to be put back. One that is there but
    /// cannot be read is not lost.
    pub(crate) fn lost(&self, scan: &Scan) -> Vec<Lease> {
        let there: BTreeSet<_> = scan.leases.iter().map(|lease| &lease.key).collect();
        let broken: BTreeSet<_> = scan.broken.iter().map(|(key, _)| key.as_str()).collect();
        let is_there =
            |key: &LeaseKey| there.contains(key) || broken.contains(key.to_string().as_str());
        let lost = self.leases.values();
        lost.filter(|lease| !lease.is_finished() && !is_there(&lease.key))
            .map(put_back)
            .collect()
    }

    /// The key's lease is not wanted back: its shard is gone.
    pub(crate) fn forget(&mut self, key: &LeaseKey) {
        self.leases.remove(key);
    }
}

fn put_back(known: &Lease) -> Lease {
    // Since when a Java worker reads from LATEST is not known.
    let checkpoint = match known.checkpoint {
        Checkpoint::Latest if known.latest_since.is_none() => Checkpoint::TrimHorizon,
        ref checkpoint => checkpoint.clone(),
    };
    Lease {
        parents: known.parents.clone(),
        children: known.children.clone(),
        hash_range: known.hash_range,
        latest_since: known.latest_since,
        stream_identity: known.stream_identity.clone(),
        ..Lease::new(known.key.clone(), checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sequence::Position;

    const TRUSTED: Duration = Duration::from_secs(120);

    fn at(key: &str, number: &str) -> Lease {
        let position = Position {
            sequence_number: number.parse().expect("digits"),
            sub_sequence_number: 0,
        };
        Lease::new(key, Checkpoint::At(position))
    }

    fn scan(leases: impl IntoIterator<Item = Lease>) -> Scan {
        Scan {
            leases: leases.into_iter().collect(),
            ..Scan::default()
        }
    }

    #[test]
    fn what_was_unfinished_and_is_gone_comes_back_where_it_stood() {
        let mut known = Known::new(TRUSTED);
        let start = Instant::now();
        let finished = Lease::new("2", Checkpoint::ShardEnd);
        known.observe(&[at("0", "7"), at("1", "5"), finished], start);
        let renewed = Lease {
            counter: 1,
            ..at("0", "9")
        };
        known.learn(&renewed);
        known.observe(&[at("0", "8"), at("1", "6")], start);
        known.observe(&[at("1", "6")], start);
        assert_eq!(
            known.lost(&scan([at("1", "6")])),
            [at("0", "9")],
            "not the older one, not the end"
        );
        let others = [Lease::new("0", Checkpoint::Latest), at("1", "6")];
        assert_eq!(known.lost(&scan(others)), []);
        let broken = Scan {
            broken: vec![("0".to_owned(), "no checkpoint (S)".to_owned())],
            ..scan([at("1", "6")])
        };
        assert_eq!(known.lost(&broken), [], "it is there");
    }

    #[test]
    fn a_process_that_stood_still_for_long_knows_nothing() {
        let mut known = Known::new(TRUSTED);
        let start = Instant::now();
        known.observe(&[at("0", "7")], start);
        known.observe(&[], start + TRUSTED);
        assert_eq!(known.lost(&scan([])).len(), 1);
        known.observe(&[], start + 3 * TRUSTED);
        assert_eq!(known.lost(&scan([])), []);
    }

    #[test]
    fn latest_without_its_time_becomes_the_oldest_record() {
        let mut known = Known::new(TRUSTED);
        let pinned = Lease {
            latest_since: Some(jiff::Timestamp::UNIX_EPOCH),
            ..Lease::new("0", Checkpoint::Latest)
        };
        let java = Lease::new("1", Checkpoint::Latest);
        known.observe(&[pinned.clone(), java], Instant::now());
        let oldest = Lease::new("1", Checkpoint::TrimHorizon);
        assert_eq!(known.lost(&scan([])), [pinned, oldest]);
    }
}
