//! What a KCL 3 leader wants of this worker.

use tokio::time::Instant;

use super::{Coordinator, Kind};
use crate::{
    decide::kcl3::{Regime, given, signs},
    model::lease::Lease,
    run::{following::announce, shard_consumer::Stop},
};

impl Coordinator {
    /// Who rules, as these leases show it.
    pub(super) fn judge_regime(&self, leases: &[Lease], now: Instant) -> Regime {
        let context = &self.context;
        let leader = context.leadership.leader();
        let held = |key: &_| self.held.contains_key(key);
        let signs = signs(leases, &self.observations, leader.as_deref(), &held, now);
        let (regime, is_new) =
            context
                .leadership
                .judge(&signs, context.config.unsaid_failover(), now);
        if is_new {
            announce(context, &regime);
        }
        regime
    }

    /// Stops the shards whose leases a leader moves to somebody else: the batch in work ends first.
    pub(super) fn let_go(&self, leases: &[Lease]) {
        let me = &self.context.config.worker_id;
        for lease in leases {
            let (Some(held), Some(next)) = (self.held.get(&lease.key), lease.moves_from(me)) else {
                continue;
            };
            held.stop.send_if_modified(|stop| {
                let is_free = !matches!(stop, Some(Stop::Shutdown(_)));
                let wanted = Some(Stop::HandOver(next.to_owned()));
                is_free && std::mem::replace(stop, wanted.clone()) != wanted
            });
        }
    }

    /// Begins to work on the leases that a leader gave to this worker.
    pub(super) fn take_given(&mut self, leases: &[Lease]) {
        let me = &self.context.config.worker_id;
        let keys = self.held_keys();
        let held = |key: &_| keys.contains(key);
        for lease in given(leases, me, &held) {
            let throughput = lease.throughput.or(Some(0));
            let lease = Lease {
                throughput,
                ..lease.clone()
            };
            self.moves.push(&self.context, Kind::Take, lease);
        }
    }
}
