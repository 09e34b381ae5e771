//! Who holds a lease: a worker from now on, or nobody.

use super::{
    DynamoDbTable,
    item::{number, string},
    writes::{OF_THE_HOLDER, REMOVE_SHARE, REQUEST, SET_SHARE, as_moved, beat, fraction, kib},
};
use crate::{edge::lease_table::TableError, model::lease::Lease};

impl DynamoDbTable {
    /// Makes `worker` the owner. `process`: of the new owner, where that is this one.
    pub(super) async fn own(
        &self,
        lease: &Lease,
        worker: &str,
        process: Option<&str>,
        condition: &str,
    ) -> Result<Lease, TableError> {
        let throughput = lease.throughput.filter(|_| process.is_some()).map(kib);
        let mut remove = String::new();
        let mut set = String::new();
        match process {
            Some(_) => set.push_str(", nativeProcess = :process, nativeClock = :clock"),
            None => remove.push_str(", nativeProcess, nativeClock"),
        }
        let failover = lease.failover_millis.filter(|_| process.is_some());
        match failover {
            Some(_) => set.push_str(", failover = :failover"),
            None => remove.push_str(", failover"),
        }
        match throughput {
            Some(_) => set.push_str(", throughputKBps = :throughput"),
            None => remove.push_str(", throughputKBps"),
        }
        match lease.share_permille {
            Some(_) => set.push_str(SET_SHARE),
            None => remove.push_str(REMOVE_SHARE),
        }
        if process.is_some() && lease.stream_identity.is_some() {
            set.push_str(", nativeStream = :stream");
        }
        let mut change = format!(
            "SET leaseOwner = :worker, leaseCounter = :next, nativeCounter = :next{set} \
             REMOVE checkpointOwner, {REQUEST}, news, busy{remove}"
        );
        let mut write = beat(lease).value(":worker", string(worker));
        if let Some(throughput) = throughput {
            write = write.value(":throughput", throughput);
        }
        if let Some(failover) = failover {
            write = write.value(":failover", number(failover));
        }
        if let Some(share) = lease.share_permille {
            write = write.value(":share", fraction(share));
        }
        if let Some(process) = process {
            let clock = self.began.elapsed().as_millis();
            write = write.value(":process", string(process));
            write = write.value(":clock", number(clock));
            if let Some(identity) = &lease.stream_identity {
                write = write.value(":stream", string(identity));
            }
        }
        if lease.owner.as_deref().is_some_and(|owner| owner != worker) {
            change.push_str(" ADD ownerSwitchesSinceCheckpoint :one");
            write = write.value(":one", number(1));
        }
        self.update(&lease.key, write.change(change).on(condition))
            .await
    }

    pub(super) async fn release_as_read(&self, lease: &Lease) -> Result<(), TableError> {
        // A KCL 3 leader gives it to somebody: leaseOwner is the next one.
        let is_moved = lease.checkpoint_owner.is_some();
        let (owner, switch) = match is_moved {
            false => ("leaseOwner", ""),
            true => ("checkpointOwner", " ADD ownerSwitchesSinceCheckpoint :one"),
        };
        // Who takes it next knows what it gets.
        let share = lease
            .share_permille
            .map_or("", |_| ", shareCounter = :next");
        let change = format!(
            "SET leaseCounter = :next{share} \
             REMOVE {owner}, nativeCounter, nativeProcess, nativeClock, {OF_THE_HOLDER}{switch}"
        );
        let mut write = as_moved(beat(lease).change(change), lease);
        if is_moved {
            write = write.value(":one", number(1));
        }
        self.update(&lease.key, write).await.map(drop)
    }
}
