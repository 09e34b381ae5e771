//! Which leases of a scan may be worked on, and which nobody can read.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{Coordinator, moves::Proved};
use crate::{
    face::{error::Error, event::Event},
    model::{keys::LeaseKey, lease::Lease},
    run::{ownership::Owner, proof::Proof},
};

impl Coordinator {
    /// Leaves out the leases whose positions are not known to be of their stream, and looks into
    /// them; and those of streams that cannot be read now. Returns their keys, with why nobody
    /// reads them.
    pub(super) fn keep_ours(
        &mut self,
        leases: &mut Vec<Lease>,
    ) -> Result<Vec<(String, String)>, Error> {
        let context = &self.context;
        let mut unproven = BTreeSet::new();
        let mut left = BTreeSet::new();
        for lease in leases.iter_mut() {
            if self.held.contains_key(&lease.key) {
                continue;
            }
            let Some(stream) = context.streams.of(&lease.key) else {
                continue;
            };
            if !context.streams.may_take(&lease.key) {
                left.insert(lease.key.clone());
                continue;
            }
            match stream.ownership.judge(lease) {
                Owner::Ours if lease.stream_identity.is_none() => {
                    lease.stream_identity = stream.ownership.identity(&lease.key.shard);
                }
                Owner::Ours => {}
                Owner::Unproven => {
                    unproven.insert(lease.key.clone());
                    self.moves.prove(context, stream, lease.clone());
                }
                Owner::Older => {
                    stream.give_up(stream.recreated(lease.key.shard.clone()))?;
                    left.insert(lease.key.clone());
                }
                Owner::Other(name) => {
                    stream.give_up(stream.other_by_lease(lease, &name))?;
                    left.insert(lease.key.clone());
                }
            }
        }
        leases.retain(|lease| !unproven.contains(&lease.key) && !left.contains(&lease.key));
        let is_empty = |key: &&LeaseKey| {
            let stream = context.streams.of(key);
            stream.is_some_and(|stream| stream.ownership.was_empty(key))
        };
        let waits = unproven.iter().filter(is_empty);
        let why = "no record of its shard shows yet that its checkpoint is of this stream";
        Ok(waits.map(|key| (key.to_string(), why.to_owned())).collect())
    }

    pub(super) fn proved(&mut self, (lease, proof): Proved) -> Result<(), Error> {
        let key = &lease.key;
        let Some(stream) = self.context.streams.of(key) else {
            return Ok(());
        };
        match proof {
            Ok(Proof::Foreign(why)) => return Err(stream.other(why)),
            Ok(Proof::Nothing) => stream.ownership.saw_empty(&lease, stream.kinesis.now()),
            Ok(Proof::Over) if !stream.ownership.table_is_ours() => {
                stream.ownership.saw_empty(&lease, stream.kinesis.now());
            }
            Ok(Proof::Ours | Proof::Over) => {
                stream.ownership.proved(key);
                self.next_scan = Instant::now();
            }
            Err(error) => stream.call_failed(Some(key), "GetRecords", &error),
        }
        Ok(())
    }

    /// Tells which leases nobody can read, whenever that changes.
    pub(super) fn tell_unreadable(&mut self, found: impl Iterator<Item = (String, String)>) {
        let found: BTreeMap<_, _> = found.collect();
        if found != self.unreadable {
            self.unreadable.clone_from(&found);
            let leases = found.into_iter().collect();
            self.context.report(Event::Unreadable { leases });
        }
    }
}
