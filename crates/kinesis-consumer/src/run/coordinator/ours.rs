//! Which leases of a scan may be worked on, and which nobody can read.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{Coordinator, moves::Proved};
use crate::{
    face::{error::Error, event::Event},
    model::lease::Lease,
    run::{ownership::Owner, proof::Proof},
};

impl Coordinator {
    /// Leaves out the leases whose positions are not known to be of this stream, and looks into
    /// them. Returns their keys, with why nobody reads them.
    pub(super) fn keep_ours(
        &mut self,
        leases: &mut Vec<Lease>,
    ) -> Result<Vec<(String, String)>, Error> {
        let context = &self.context;
        let mut unproven = BTreeSet::new();
        for lease in leases.iter_mut() {
            if self.held.contains_key(&lease.key) {
                continue;
            }
            match context.ownership.judge(lease) {
                Owner::Ours if lease.stream_identity.is_none() => {
                    lease.stream_identity = context.ownership.identity(&lease.key.shard);
                }
                Owner::Ours => {}
                Owner::Unproven => {
                    unproven.insert(lease.key.clone());
                    self.moves.prove(context, lease.clone());
                }
                Owner::Older => return Err(context.stream_recreated(lease.key.shard.clone())),
                Owner::Other(name) => return Err(context.other_stream_of(lease, &name)),
            }
        }
        leases.retain(|lease| !unproven.contains(&lease.key));
        let waits = unproven
            .iter()
            .filter(|key| context.ownership.was_empty(key));
        let why = "no record of its shard shows yet that its checkpoint is of this stream";
        Ok(waits.map(|key| (key.to_string(), why.to_owned())).collect())
    }

    pub(super) fn proved(&mut self, (lease, proof): Proved) -> Result<(), Error> {
        let (context, key) = (&self.context, &lease.key);
        match proof {
            Ok(Proof::Foreign(why)) => return Err(context.other_stream(why)),
            Ok(Proof::Nothing) => context.ownership.saw_empty(&lease),
            Ok(Proof::Over) if !context.ownership.table_is_ours() => {
                context.ownership.saw_empty(&lease);
            }
            Ok(Proof::Ours | Proof::Over) => {
                context.ownership.proved(key);
                self.next_scan = Instant::now();
            }
            Err(error) => context.kinesis_failed(Some(key), "GetRecords", &error),
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
