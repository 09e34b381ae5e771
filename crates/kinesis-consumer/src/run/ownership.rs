//! Are the positions in the lease table of the stream that this worker reads?
//!
//! A lease of this library's says so (`nativeStream`). One of Java's is believed on proof: it
//! stands at a sentinel, the record at its checkpoint comes back, or the oldest record is later
//! than the checkpoint, which retention has taken. While nothing shows that the table is of this
//! stream, nothing is written to it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::model::{
    identity::{StreamName, readable},
    keys::{LeaseKey, ShardId},
    lease::Lease,
    sequence::{Checkpoint, SequenceNumber},
    shard::Shard,
};

#[derive(Debug)]
pub(crate) struct Ownership {
    stream: StreamName,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    shards: HashMap<ShardId, (SequenceNumber, String)>,
    proven: HashSet<LeaseKey>,
    /// Nothing was left in these shards when their position was to be proven.
    empty: HashSet<LeaseKey>,
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
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a list of shards.
    pub(crate) fn learn(&self, shards: &[Shard]) {
        let known = shards.iter().map(|shard| {
            let start = shard.starting_sequence_number.clone();
            (shard.id.clone(), (start, self.stream.identity(shard)))
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
        match &lease.checkpoint {
            Checkpoint::At(done) => match listed {
                Some((start, _)) if *start > done.sequence_number => Owner::Older,
                _ if state.proven.contains(&lease.key) => Owner::Ours,
                _ => Owner::Unproven,
            },
            _ => Owner::Ours,
        }
    }

    pub(crate) fn proved(&self, key: &LeaseKey) {
        let mut state = self.state();
        state.proven.insert(key.clone());
        state.table_is_ours = true;
    }

    pub(crate) fn saw_empty(&self, key: &LeaseKey) {
        self.state().empty.insert(key.clone());
    }

    pub(crate) fn was_empty(&self, key: &LeaseKey) -> bool {
        self.state().empty.contains(key)
    }

    /// Whatever its shard has, came after it was seen to be empty. Told once.
    pub(crate) fn take_empty(&self, key: &LeaseKey) -> bool {
        self.state().empty.remove(key)
    }

    pub(crate) fn table_is_ours(&self) -> bool {
        self.state().table_is_ours
    }

    pub(crate) fn set_table_is_ours(&self) {
        self.state().table_is_ours = true;
    }
}
