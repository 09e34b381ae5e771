//! What a worker does about leases, as it is decided: grants, takes, asks; and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    Coordinator,
    looking::Curiosity,
    moves::{Kind, Moved},
};
use crate::{
    decide::{
        assignment::{Action, Has, Limits, challenges, dead_requests, grants, plan, void},
        fleet::{Sight, Told},
        kcl3::Regime,
    },
    edge::lease_table::TableError,
    face::event::Event,
    model::lease::Lease,
    run::shard_consumer::Stop,
};

impl Coordinator {
    pub(super) fn grant(&mut self, leases: &[Lease], now: Instant) {
        let leaving = self.held.iter();
        let leaving = leaving.filter_map(|(key, held)| match &*held.stop.borrow() {
            Some(Stop::HandOver(to)) => Some((key.clone(), to.clone())),
            _ => None,
        });
        let mut leaving: BTreeMap<_, _> = leaving.collect();
        // A batch may take long: who asked before it may have withdrawn or be gone by its end.
        for key in void(leases, &self.observations, &leaving, now) {
            leaving.remove(&key);
            if let Some(held) = self.held.get(&key) {
                held.stop.send_replace(None);
            }
        }
        if let Regime::Led { .. } = self.regime {
            return;
        }
        let (me, held) = (&self.context.config.worker_id, self.held_keys());
        for lease in dead_requests(leases, &self.observations, &held, now) {
            self.moves.push(&self.context, Kind::Refuse, lease.clone());
        }
        for lease in challenges(leases, &self.observations, me, &held, &leaving, now) {
            self.moves
                .push(&self.context, Kind::Challenge, lease.clone());
        }
        for (key, to) in grants(leases, &self.observations, me, &held, &leaving, now) {
            if let Some(held) = self.held.get(&key) {
                held.stop.send_replace(Some(Stop::HandOver(to)));
            }
        }
    }

    /// Begins to take and to ask as planned. Whether there is something to do.
    pub(super) fn act(&mut self, leases: &[Lease], now: Instant) -> bool {
        let config = &self.context.config;
        let max_steals = match self.regime {
            Regime::Taking => config.max_steals,
            Regime::Leaderless => 0,
            Regime::Led { .. } => {
                self.take_given(leases);
                return false;
            }
        };
        let limits = Limits {
            max_leases: config.max_leases,
            max_steals,
        };
        let held = self.held_keys();
        let me = &config.worker_id;
        let mut actions = plan(leases, &self.observations, me, &held, limits, now);
        let sight = Sight::new(leases, &self.observations, me, &held, now);
        let told = Told {
            offered: &std::mem::take(&mut self.offered),
            suggested: &std::mem::take(&mut self.suggested),
            // What others hold changes.
            is_fresh: now <= self.scanned + 2 * config.times().peer_scan_interval,
        };
        let loads = config
            .placement
            .is_by_load()
            .then(|| sight.loads())
            .flatten();
        let takes = actions.iter().any(|it| matches!(it, Action::Take(_)));
        if loads.is_some() {
            actions.retain(|action| !matches!(action, Action::Ask(_)));
        }
        // What was asked for comes as well.
        let coming = loads.as_ref().map_or(0, |_| sight.coming());
        let max_leases = limits.max_leases.saturating_sub(coming);
        sight.adjust(&mut actions, &told, max_leases);
        let load = loads.as_ref().map(|_| sight.load());
        if let Some(loads) = loads.filter(|_| told.is_fresh && !takes) {
            let asks = sight.asks_by_load(loads, limits.max_leases, actions.len());
            let planned: BTreeSet<_> = actions.iter().map(|it| it.key().clone()).collect();
            actions.extend(asks.into_iter().filter(|it| !planned.contains(it.key())));
        }
        // Requests that stand may be refused.
        let is_given = |lease: &&Lease| lease.owner.as_ref() == Some(me) && !lease.is_finished();
        let given = leases.iter().filter(is_given);
        let given = given.filter(|lease| !held.contains(&lease.key)).count();
        let mut has = Has {
            leases: (held.len() + given) as u64,
            load,
        };
        let standing = sight.own_requests(has);
        let is_new = |action: &Action| standing.iter().all(|(lease, _)| lease.key != *action.key());
        actions.retain(is_new);
        for (lease, then) in standing {
            // Who knows too little to judge leaves them.
            let then = then.or((!told.is_fresh).then_some(has));
            let Some(then) = then else {
                self.moves.push(&self.context, Kind::Refuse, lease.clone());
                continue;
            };
            // What it said of itself when it asked is no longer so: others were refused, or it lost
            // some.
            if then.is_overstated(lease) {
                let lease = asking(lease, then);
                self.moves.push(&self.context, Kind::Ask, lease);
            }
            has = has.max(then.with(lease));
        }
        let by_key: BTreeMap<_, _> = leases.iter().map(|lease| (&lease.key, lease)).collect();
        let acts = !actions.is_empty();
        for action in actions {
            let (kind, key) = match action {
                Action::Take(key) => (Kind::Take, key),
                Action::Steal(key) => (Kind::Steal, key),
                Action::Ask(key) => (Kind::Ask, key),
            };
            let Some(lease) = by_key.get(&key) else {
                continue;
            };
            let mut moving = (*lease).clone();
            if kind == Kind::Ask {
                moving = asking(lease, has);
                has = has.with(lease);
            }
            self.moves.push(&self.context, kind, moving);
        }
        acts
    }

    pub(super) fn moved(&mut self, moved: Moved) {
        let Moved {
            kind,
            lease,
            began,
            answer,
        } = moved;
        if answer.is_ok() {
            self.context.succeeded(kind.operation());
        }
        match answer {
            Ok(Some(taken)) => {
                if kind == Kind::Steal {
                    self.observations.stole(&lease.key, began);
                }
                self.start(taken, lease.holder().map(str::to_owned), began);
            }
            Ok(None) if kind == Kind::Ask => {
                self.note(&Lease {
                    handover_to: Some(self.context.config.worker_id.clone()),
                    ..lease.clone()
                });
                self.await_coming(Instant::now());
                self.context.report(Event::HandoverAsked {
                    holder: lease.holder().unwrap_or_default().to_owned(),
                    shard: lease.key,
                });
            }
            Ok(None) if kind == Kind::Refuse => {
                let lease = Lease {
                    handover_to: None,
                    handover_has: None,
                    handover_load: None,
                    ..lease
                };
                self.observations.observe_some([&lease], Instant::now());
                self.note(&lease);
            }
            Ok(None) if kind == Kind::Challenge => {
                let asker = lease.handover_to.as_deref().unwrap_or_default();
                self.observations
                    .challenged(asker, &lease.key, Instant::now());
                let soon = Instant::now() + self.context.config.times().peer_scan_interval;
                self.next_scan = self.next_scan.min(soon);
            }
            Ok(None) => {}
            Err(error) => {
                // It may be ours all the same: then a scan shows it, or it is given up at the end.
                let now = Instant::now();
                let soon = now + self.context.config.times().peer_scan_interval;
                if let TableError::Conflict(Some(current)) = &error {
                    // A race was lost.
                    self.observations.observe_some([&**current], now);
                    self.note(current);
                    self.next_act = Some(now);
                } else {
                    // The table is not as it was planned.
                    self.next_scan = self.next_scan.min(soon);
                    if !matches!(kind, Kind::Refuse | Kind::Challenge) {
                        self.coming.insert(lease.key.clone());
                        let key = lease.key.clone();
                        self.curious.entry(key).or_insert(Curiosity::new(soon));
                    }
                }
                if !matches!(error, TableError::Conflict(_)) {
                    let shard = Some(&lease.key);
                    self.context.table_failed(shard, kind.operation(), &error);
                }
            }
        }
    }
}

/// The lease, with what its next asker says of itself.
fn asking(lease: &Lease, has: Has) -> Lease {
    Lease {
        handover_has: Some(has.leases),
        handover_load: has.load,
        ..lease.clone()
    }
}
