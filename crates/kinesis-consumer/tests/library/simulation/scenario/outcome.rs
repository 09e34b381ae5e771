//! What must be true in the end.

use std::collections::BTreeMap;

use super::Scenario;

impl Scenario {
    pub(super) fn is_settled(&self) -> Result<(), String> {
        let ledger = self.ledger.lock();
        for shard in ledger.stream.ids() {
            if let Some(ordinal) = ledger.unprocessed(&shard) {
                return Err(format!("record {ordinal} of {shard} was not processed"));
            }
        }
        if let Some(life) = ledger.in_hand() {
            return Err(format!("{life} has records in hand"));
        }
        let owners = self.owners();
        let live = || self.nodes.iter().filter(|node| !node.is_terminating());
        let mut counts: BTreeMap<_, _> = live().map(|node| (node.worker.clone(), 0)).collect();
        for (shard, owner) in &owners {
            if ledger.stream.is_closed(shard) {
                return Err(format!("{shard} is closed but not finished"));
            }
            match owner.as_ref().and_then(|owner| counts.get_mut(owner)) {
                Some(count) => *count += 1,
                // The retention took every record that could prove its position: it waits for one.
                None if ledger.has_lost_all(shard) => continue,
                None => return Err(format!("{shard} is {owner:?}'s, who is gone")),
            }
            let alive = ledger.alive.get(shard).map_or(0, |alive| alive.len());
            if alive != 1 {
                return Err(format!("{shard} has {:?} at work", ledger.alive.get(shard)));
            }
        }
        let open = ledger.stream.open().len();
        if owners.len() != open {
            return Err(format!(
                "{} unfinished leases for {open} open shards",
                owners.len()
            ));
        }
        let (least, most) = (counts.values().min(), counts.values().max());
        if most > least.map(|least| least + 1).as_ref() {
            return Err(format!("shares are uneven: {counts:?}"));
        }
        Ok(())
    }

    pub(super) fn is_exactly_once(&self) -> Result<(), String> {
        let ledger = self.ledger.lock();
        for shard in ledger.stream.ids() {
            for ordinal in 0..ledger.stream.users(&shard) {
                let times = ledger.times(&shard, ordinal);
                if times != 1 {
                    return Err(format!(
                        "nothing went wrong, yet record {ordinal} of {shard} was processed {times} times"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_released(&self) -> Result<(), String> {
        let ledger = self.ledger.lock();
        for lease in self.table.leases() {
            // Who finishes a shard and is killed leaves its name behind: that keeps nobody waiting.
            if let (Some(owner), false) = (&lease.owner, lease.is_finished()) {
                return Err(format!("{owner} stopped and still has {}", lease.key));
            }
            let covered = ledger.stream.covered(&lease.key.shard, &lease.checkpoint);
            if covered != Some(ledger.stream.users(&lease.key.shard)) {
                return Err(format!(
                    "{} is checkpointed at {covered:?}, not at its end",
                    lease.key
                ));
            }
        }
        Ok(())
    }
}
