//! By what pods say of themselves: more of them before anything is late, and fewer without trials.

use super::{Digest, MINUTE, PAUSE_MS, State, next_per_pod, per_replica};
use crate::{decision::Step, observation::Settings, reason::Reason};

/// Fewer pods after so long without a lease moved or a wish changed.
pub(super) const QUIET_MS: u64 = 5 * MINUTE;
/// Busier pods than this are too few, in thousandths.
const TOO_BUSY_MILLI: u64 = 950;
/// A change of pods shall leave them at most this busy, in thousandths.
const AFTERWARDS_MILLI: u64 = 850;

impl State {
    /// Nothing is late, but a pod says that it will be: more pods.
    pub(super) fn relieve_busy(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> Option<(Step, Reason)> {
        let (holds, busy_milli, _) = digest
            .busiest
            .filter(|(_, busy, _)| *busy > TOO_BUSY_MILLI)?;
        // A pod that reads a backlog is busy, and that ends.
        let calm_for = self.calm_since_ms.map_or(0, |since| digest.at - since);
        if calm_for.min(digest.at - self.wished_ms) < 2 * PAUSE_MS {
            return None;
        }
        let per_pod = ((u64::from(holds) * AFTERWARDS_MILLI / busy_milli) as u32)
            .min(per_replica(digest.shards, wish))
            .min(holds - 1)
            .max(settings.shard_count)
            .max(1);
        let replicas = digest.shards.div_ceil(per_pod);
        if replicas <= wish {
            return None;
        }
        self.trial_from = None;
        self.change_wish(replicas, digest.at);
        let reason = Reason::TooBusy {
            holds,
            busy_milli,
            per_pod,
        };
        Some((Step::Out, reason))
    }

    /// Fewer pods, if that does not make them too busy.
    pub(super) fn reduce_by_busy(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> (Step, Reason) {
        let limit = digest
            .busiest
            .map(|(holds, _, busy)| u64::from(holds) * AFTERWARDS_MILLI / busy.max(1));
        let lease_limit = self.orphans.limit();
        let allowed = |per_pod: &u32| {
            limit.is_none_or(|limit| u64::from(*per_pod) <= limit)
                && lease_limit.is_none_or(|limit| *per_pod <= limit)
        };
        let choices = next_per_pod(digest, settings, wish);
        let Some(per_pod) = choices.into_iter().find(allowed) else {
            return (Step::Hold, Reason::FewerTooBusy { pods: wish });
        };
        let pods = digest.shards.div_ceil(per_pod);
        self.change_wish(pods, digest.at);
        (Step::In, Reason::NotBusy { pods })
    }

    /// Whether every pod says how busy it is.
    pub(super) fn every_pod_is_measured(&self, at: u64) -> bool {
        !self.pods.is_empty() && self.pods.values().all(|pod| pod.busy_milli(at).is_some())
    }
}
