//! Are the positions in the lease table of the stream that this worker reads?
//!
//! A lease of this library's says so (`nativeStream`). One of Java's is believed on proof: it
//! stands at a sentinel, the record at its checkpoint comes back, or the oldest record is later
//! than the checkpoint, which retention has taken. While nothing shows that the table is of this
//! stream, nothing is written to it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    decide::shard_sync,
    model::{
        identity::{StreamName, readable},
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::SequenceNumber,
        shard::Shard,
    },
};

/// No stream keeps records for less than 24 hours; half of that is left to clocks.
pub(crate) const SURELY_KEPT: Duration = Duration::from_hours(12);

#[derive(Debug)]
pub(crate) struct Ownership {
    stream: StreamName,
    /// The leases' keys say which stream they are of: no proof is needed.
    by_key: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As listed, each with its identity.
    shards: HashMap<ShardId, (Shard, String)>,
    proven: HashSet<LeaseKey>,
    /// Nothing was left in these shards when this position was to be proven, and when that was by
    /// AWS's clock: this machine's may have stood still since, while it was suspended.
    empty: HashMap<LeaseKey, (SequenceNumber, Option<Timestamp>)>,
    table_is_ours: bool,
}

/// Whose a lease is, without asking Kinesis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// This stream's.
    Ours,
    /// It has no identity and is not proven.
    Unproven,
    /// An older stream's of this name.
    Older,
    /// Another stream's, of that name.
    Other(String),
}

impl Ownership {
    pub(crate) fn new(stream: StreamName) -> Self {
        Self {
            stream,
            by_key: false,
            state: Mutex::default(),
        }
    }

    /// Of a stream that its leases' keys name.
    pub(crate) fn by_key(stream: StreamName) -> Self {
        let state = State {
            table_is_ours: true,
            ..State::default()
        };
        Self {
            stream,
            by_key: true,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a list of shards.
    pub(crate) fn learn(&self, shards: &[Shard]) {
        let known = shards.iter().map(|shard| {
            let identity = self.stream.identity(shard);
            (shard.id.clone(), (shard.clone(), identity))
        });
        self.state().shards.extend(known);
    }

    /// What the shard's lease is to remember, where the shard was listed.
    pub(crate) fn identity(&self, shard: &ShardId) -> Option<String> {
        let state = self.state();
        state
            .shards
            .get(shard)
            .map(|(_, identity)| identity.clone())
    }

    /// Is that the identity of this shard?
    pub(crate) fn is_of(&self, identity: &str, shard: &Shard) -> bool {
        self.stream.identity(shard) == identity
    }

    /// Makes the lease say of its shard what the stream says, where the shard was listed.
    pub(crate) fn correct(&self, lease: &mut Lease) {
        if let Some((shard, _)) = self.state().shards.get(&lease.key.shard) {
            shard_sync::correct(lease, shard);
        }
    }

    pub(crate) fn judge(&self, lease: &Lease) -> Owner {
        let state = self.state();
        let listed = state.shards.get(&lease.key.shard);
        if let Some(identity) = &lease.stream_identity {
            return if !self.stream.has(identity) {
                Owner::Other(readable(identity).to_owned())
            } else if listed.is_some_and(|(_, listed)| listed != identity) {
                Owner::Older
            } else {
                Owner::Ours
            };
        }
        let Some(done) = lease.checkpoint.position() else {
            return Owner::Ours;
        };
        match listed {
            Some((shard, _)) if shard.starting_sequence_number > done.sequence_number => {
                Owner::Older
            }
            _ if self.by_key || state.proven.contains(&lease.key) => Owner::Ours,
            _ => Owner::Unproven,
        }
    }

    pub(crate) fn proved(&self, key: &LeaseKey) {
        let mut state = self.state();
        state.proven.insert(key.clone());
        state.table_is_ours = true;
    }

    /// The lease's shard holds nothing `now`.
    pub(crate) fn saw_empty(&self, lease: &Lease, now: Option<Timestamp>) {
        if let Some(done) = lease.checkpoint.position() {
            let seen = (done.sequence_number.clone(), now);
            self.state().empty.insert(lease.key.clone(), seen);
        }
    }

    pub(crate) fn was_empty(&self, key: &LeaseKey) -> bool {
        self.state().empty.contains_key(key)
    }

    /// Did all that comes after that record come after the shard was seen to be empty, and is it
    /// still there? Not where another worker went on meanwhile, or after so long that the retention
    /// may have taken some of it. Told once. `age`: of a time.
    pub(crate) fn take_empty(
        &self,
        key: &LeaseKey,
        done: &SequenceNumber,
        age: impl Fn(Timestamp) -> Option<Duration>,
    ) -> bool {
        let seen = self.state().empty.remove(key);
        let is_kept = |when| age(when).is_some_and(|age| age < SURELY_KEPT);
        seen.is_some_and(|(at, when)| at == *done && when.is_some_and(is_kept))
    }

    pub(crate) fn table_is_ours(&self) -> bool {
        self.state().table_is_ours
    }

    pub(crate) fn set_table_is_ours(&self) {
        self.state().table_is_ours = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sequence::{Checkpoint, Position};

    fn number(digits: &str) -> SequenceNumber {
        digits.parse().expect("digits")
    }

    /// It says that nothing can be missing, so it must not outlive what it was seen of.
    #[test]
    fn an_empty_shard_hides_no_gap_but_its_own() {
        let ownership = Ownership::new(StreamName::new("orders", None));
        let done = Checkpoint::At(Position {
            sequence_number: number("7"),
            sub_sequence_number: 0,
        });
        let lease = Lease::new("0", done);
        let key = lease.key.clone();
        let seen = Some(Timestamp::UNIX_EPOCH);
        let take = |number, ago| ownership.take_empty(&key, &number, |_| ago);
        let (now, later) = (Some(Duration::ZERO), Some(SURELY_KEPT));
        ownership.saw_empty(&lease, seen);
        assert!(ownership.was_empty(&key));
        assert!(take(number("7"), now));
        assert!(!take(number("7"), now), "once");
        ownership.saw_empty(&lease, seen);
        assert!(!take(number("9"), now), "another worker went on meanwhile");
        ownership.saw_empty(&lease, seen);
        assert!(!take(number("7"), later), "too long ago");
        ownership.saw_empty(&lease, None);
        assert!(!take(number("7"), None), "nobody knows when");
    }
}
