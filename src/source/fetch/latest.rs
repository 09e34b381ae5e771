//! Leases at LATEST without a checkpoint: since when records count for them.
//!
//! KCL starts such a lease at the tip, whoever takes it, and writes down nothing of where that was.
//! So a record counts that came after the present holder was first seen, or after the holder before
//! it was gone: at zero replicas it is what wakes the application.

use std::collections::HashMap;

use jiff::Timestamp;
use kinesis_consumer::{Checkpoint, ShardId, lease::Lease};

use super::heartbeats::Heartbeats;

/// What was seen of the leases at LATEST.
#[derive(Debug, Default)]
pub(super) struct Latest(HashMap<ShardId, Seen>);

#[derive(Debug)]
struct Seen {
    holder: Option<String>,
    /// When this holder was first seen, or the lease without any.
    since: Timestamp,
    /// When the lease had no living holder any more.
    gone: Option<Timestamp>,
}

impl Latest {
    /// Writes into each lease at LATEST since when records count, where its workers did not.
    /// `now`: AWS's time.
    pub(super) fn follow(&mut self, leases: &mut [Lease], beats: &Heartbeats, now: Timestamp) {
        let mut before = std::mem::take(&mut self.0);
        let at_latest = |lease: &&mut Lease| {
            lease.checkpoint == Checkpoint::Latest && lease.latest_since.is_none()
        };
        for lease in leases.iter_mut().filter(at_latest) {
            let id = lease.key.shard.clone();
            let holder = lease.holder();
            let known = before.remove(&id);
            let known = known.filter(|seen| seen.holder.as_deref() == holder);
            let mut seen = known.unwrap_or_else(|| Seen {
                holder: holder.map(str::to_owned),
                since: now,
                gone: None,
            });
            if holder.is_some() && !beats.is_live(lease) && seen.gone.is_none() {
                // Nobody reads since the last renewal, not since that was noticed.
                let silence = beats.silence(lease).unwrap_or_default();
                seen.gone = Some(now.checked_sub(silence).unwrap_or(now));
            }
            lease.latest_since = Some(seen.gone.map_or(seen.since, |gone| gone.max(seen.since)));
            self.0.insert(id, seen);
        }
    }

    /// Is what counts of this shard known from looking on alone?
    pub(super) fn contains(&self, id: &ShardId) -> bool {
        self.0.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// Looks 15 s apart at one lease: holder and counter.
    fn counted(looks: &[(&str, u64)]) -> Vec<i64> {
        let (mut beats, mut latest) = (Heartbeats::default(), Latest::default());
        let begin = Instant::now();
        let look = |(number, (holder, counter)): (usize, &(&str, u64))| {
            let mut lease = Lease::new("0", Checkpoint::Latest);
            lease.owner = Some((*holder).to_owned()).filter(|holder| !holder.is_empty());
            lease.counter = *counter;
            let seconds = 15 * number as u64;
            let now = Timestamp::from_second(1_700_000_000 + seconds as i64).unwrap();
            beats.follow(
                std::slice::from_ref(&lease),
                begin + Duration::from_secs(seconds),
            );
            latest.follow(std::slice::from_mut(&mut lease), &beats, now);
            lease.latest_since.unwrap().as_second() - 1_700_000_000
        };
        looks.iter().enumerate().map(look).collect()
    }

    #[test]
    fn what_came_since_nobody_reads_counts() {
        assert_eq!(counted(&[("", 1), ("", 1), ("", 1)]), [0, 0, 0]);
        // A holder reads from where it was first seen.
        assert_eq!(
            counted(&[("", 1), ("", 1), ("one", 2), ("one", 3)]),
            [0, 0, 30, 30]
        );
        // The next one starts at the tip.
        assert_eq!(counted(&[("one", 1), ("one", 2), ("two", 3)]), [0, 0, 30]);
        // One that gave its lease up.
        assert_eq!(
            counted(&[("one", 1), ("one", 2), ("", 3), ("", 3)]),
            [0, 0, 30, 30]
        );
        // One that died after its renewal at 15 s.
        let dies = [("one", 1), ("one", 2), ("one", 2), ("one", 2), ("one", 2)];
        assert_eq!(counted(&dies), [0, 0, 0, 0, 15]);
    }
}
