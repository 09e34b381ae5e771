//! What is read of the table between two scans: single leases, when there is a reason.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{Coordinator, moves::Kind, retries};
use crate::{
    decide::{
        fleet::{Role, Sight, member_interval},
        kcl3::Regime,
    },
    edge::lease_table::TableError,
    face::error::Error,
    model::{keys::LeaseKey, lease::Lease},
};

/// How long a request of ours is looked after; then it is taken back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a lease is looked at, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curiosity {
    next: Instant,
    since: Instant,
    /// Somebody said that this worker should.
    told: bool,
}

impl Curiosity {
    pub(super) fn new(next: Instant) -> Self {
        Self {
            next,
            since: next,
            told: false,
        }
    }
}

impl Coordinator {
    /// When something is to be read, or done with what was.
    pub(super) fn wake(&self) -> Instant {
        let looks = self.curious.values().map(|curiosity| curiosity.next);
        let looks = looks.chain(self.watched.iter().map(|(due, _)| *due));
        let looks = looks.min().map(|due| due.max(self.no_look_before));
        let earliest = [looks, self.next_act].into_iter().flatten().min();
        earliest.map_or(self.next_scan, |earliest| earliest.min(self.next_scan))
    }

    /// Reads what is due.
    pub(super) async fn read_table(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        if began >= self.next_scan {
            let scanned = self.context.table.scan().await;
            return self.scanned(scanned, began);
        }
        let keys = self.due_looks(began);
        if keys.is_empty() {
            self.next_act = None;
            return self.judge(began);
        }
        let looked = self.context.table.look(&keys).await;
        self.looked(&keys, looked)
    }

    fn due_looks(&self, now: Instant) -> Vec<LeaseKey> {
        if now < self.no_look_before {
            return Vec::new();
        }
        let curious = self.curious.iter();
        let curious = curious.filter(|(_, curiosity)| curiosity.next <= now);
        let mut keys: BTreeSet<_> = curious.map(|(key, _)| key.clone()).collect();
        // Those that are due soon come along: one call for several.
        if self.watched.iter().any(|(due, _)| *due <= now) {
            let soon = now + self.context.failover() / 20;
            let watched = self.watched.iter().filter(|(due, _)| *due <= soon);
            keys.extend(watched.map(|(_, key)| key.clone()));
        }
        keys.into_iter().collect()
    }

    fn looked(
        &mut self,
        keys: &[LeaseKey],
        looked: Result<Vec<Lease>, TableError>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                self.context.table_failed(None, "look", &error);
                self.no_look_before = now + self.next_try();
                return Ok(());
            }
        };
        self.context.succeeded("look");
        self.read_failures = retries(&self.context);
        self.observations.observe_some(&found, now);
        let mut stirs = false;
        for key in keys {
            match found.iter().find(|lease| lease.key == *key) {
                Some(lease) => stirs |= self.saw(lease, now),
                None => {
                    if let Ok(index) = self.place(key) {
                        self.leases.remove(index);
                    }
                    self.curious.remove(key);
                    stirs = true;
                }
            }
        }
        if stirs {
            return self.judge(now);
        }
        self.is_arranged = false;
        Ok(())
    }

    /// Takes in one lease as just read. Whether that calls for something.
    fn saw(&mut self, lease: &Lease, now: Instant) -> bool {
        let key = &lease.key;
        if self.held.contains_key(key) {
            self.curious.remove(key);
            return false;
        }
        let before = self.place(key).ok().map(|index| &self.leases[index]);
        let is_as_before = before.is_some_and(|before| {
            before.owner == lease.owner
                && before.handover_to == lease.handover_to
                && before.is_finished() == lease.is_finished()
        });
        let was_held = before.is_some_and(|before| before.owner.is_some());
        let owner = lease.owner.as_ref();
        if self.role == Role::Warden
            && owner.is_some()
            && !self
                .leases
                .iter()
                .any(|known| known.owner.as_ref() == owner)
        {
            self.settled = now + 2 * self.context.config.times().peer_scan_interval;
            self.next_scan = self.next_scan.min(self.settled);
        }
        self.note(lease);
        let me = self.context.config.worker_id.as_str();
        let is_free = !lease.is_finished() && self.observations.is_available(lease, now);
        let is_left = is_free && lease.is_native();
        let curiosity = self.curious.get(key).copied();
        if curiosity.is_none() && (is_left || is_free && was_held) {
            // A worker that is watched is gone: what else was its?
            self.next_scan = now;
        }
        let Some(curiosity) = curiosity else {
            return !is_as_before;
        };
        let waits = lease.handover_to.as_deref() == Some(me)
            || lease.is_native() && lease.native_process.is_none();
        if is_free || lease.is_finished() || lease.owner.as_deref() == Some(me) || !waits {
            self.curious.remove(key);
            if curiosity.told && is_free {
                self.offered.insert(key.clone());
            } else if curiosity.told && !is_free && !lease.is_finished() {
                self.suggested.insert(key.clone());
            }
            return true;
        }
        if now > curiosity.since + PATIENCE && lease.handover_to.as_deref() == Some(me) {
            self.curious.remove(key);
            self.moves.push(&self.context, Kind::Refuse, lease.clone());
            return false;
        }
        let pause = self.context.config.times().peer_scan_interval / 4;
        let waited = now.saturating_duration_since(curiosity.since);
        let next = now + pause.max(waited / 8);
        if let Some(curiosity) = self.curious.get_mut(key) {
            curiosity.next = next;
        }
        !is_as_before
    }

    /// The lease is known to be so.
    pub(super) fn note(&mut self, lease: &Lease) {
        match self.place(&lease.key) {
            Ok(index) => self.leases[index].clone_from(lease),
            Err(index) => self.leases.insert(index, lease.clone()),
        }
    }

    /// Where the lease is among the others, or belongs.
    fn place(&self, key: &LeaseKey) -> Result<usize, usize> {
        self.leases.binary_search_by(|known| known.key.cmp(key))
    }

    /// Takes in what the renewals returned of our leases.
    pub(super) fn refresh(&mut self, now: Instant) {
        let own = self.held.values().filter_map(|held| held.lease.try_copy());
        let mut newer: Vec<_> = own.collect();
        newer.retain(|own| {
            let known = self.place(&own.key);
            known.is_err() || known.is_ok_and(|index| self.leases[index].counter < own.counter)
        });
        newer.iter().for_each(|own| self.note(own));
        self.observations.observe_some(&newer, now);
    }

    /// What other tasks of this worker found out.
    pub(super) fn read_mail(&mut self) -> Result<(), Error> {
        let (now, mail) = (Instant::now(), self.context.fleet.take_mail());
        for key in mail.news {
            if !self.held.contains_key(&key) {
                let mut curiosity = Curiosity::new(now);
                curiosity.told = true;
                self.curious.insert(key, curiosity);
            }
        }
        if mail.is_deputy {
            let held = self.held_keys();
            let sight = Sight::new(
                &self.leases,
                &self.observations,
                &self.context.config.worker_id,
                &held,
                now,
            );
            for key in sight.before_ours() {
                let curiosity = Curiosity::new(now);
                self.curious.entry(key.clone()).or_insert(curiosity);
            }
        }
        if !mail.requests.is_empty() {
            // What our leases weigh now decides, not what they did at the last scan.
            self.refresh(now);
            self.observations.observe_some(&mail.requests, now);
            mail.requests.iter().for_each(|lease| self.note(lease));
            self.look_who_counts(&mail.requests, now);
            let leases = std::mem::take(&mut self.leases);
            self.grant(&leases, now);
            self.leases = leases;
        }
        match mail.scan {
            Some((scan, began)) if self.moves.is_empty() && now < self.next_scan => {
                self.scanned(Ok(scan), began)
            }
            _ => Ok(()),
        }
    }

    /// Who asks by load has seen that all deal so. If we saw somebody who does not, that was long
    /// ago, and requests would be judged by two rules.
    fn look_who_counts(&mut self, requests: &[Lease], now: Instant) {
        let config = &self.context.config;
        let is_old = now > self.scanned + 2 * config.times().peer_scan_interval;
        let asks_by_load = requests.iter().any(|lease| lease.handover_load.is_some());
        if is_old && asks_by_load && config.placement.is_by_load() {
            let held = self.held_keys();
            let me = &config.worker_id;
            let sight = Sight::new(&self.leases, &self.observations, me, &held, now);
            if !sight.is_by_load() {
                self.next_scan = self.next_scan.min(now);
            }
        }
    }

    // === when to read next ===

    /// What to look at, and which part this worker has.
    pub(super) fn arrange(&mut self, now: Instant) {
        let held = self.held_keys();
        let config = &self.context.config;
        let sight = Sight::new(
            &self.leases,
            &self.observations,
            &config.worker_id,
            &held,
            now,
        );
        let (role, workers) = (sight.role(), sight.workers());
        self.is_arranged = true;
        self.watched = sight.watches();
        let over = self.observations.next_over(&self.leases, now);
        self.next_act = match (self.next_act, over) {
            (Some(act), Some(over)) => Some(act.min(over)),
            (act, over) => act.or(over),
        };
        let is_warden = role == Role::Warden;
        self.context.fleet.set(workers, is_warden);
        let is_heeded = !sight.has_heedless() && self.regime == Regime::Taking;
        self.context.fleet.set_heeded(is_heeded);
        self.context.known().trust_for(self.context.kept());
        let takes = self.regime == Regime::Taking && !sight.has_java();
        let is_short = takes && sight.is_short(config.max_leases);
        let by_load = config.placement.is_by_load() && is_short;
        let loads = by_load.then(|| sight.loads()).flatten();
        if is_short && loads.is_none_or(|loads| sight.gains(loads)) {
            let soon = now + config.times().peer_scan_interval / 2;
            self.next_scan = self.next_scan.min(soon);
        }
        let before = std::mem::replace(&mut self.role, role);
        if is_warden && before != Role::Warden {
            self.next_scan = now;
        } else if !is_warden && before == Role::Warden {
            self.tell_next_warden(now);
        }
    }

    /// The time to the next scan, after one that found nothing to do, or something.
    pub(super) fn scan_interval(&mut self, leases: &[Lease], acted: bool, now: Instant) -> Instant {
        let held = self.held_keys();
        let config = &self.context.config;
        let (failover, peer) = (self.context.failover(), config.times().peer_scan_interval);
        let sight = Sight::new(leases, &self.observations, &config.worker_id, &held, now);
        let next_expiry = self.observations.next_expiry(&config.worker_id, now);
        let or_expiry = |regular: Instant| next_expiry.map_or(regular, |it| it.min(regular));
        self.restless = acted || self.restless && !self.coming.is_empty();
        let has_free = sight.free().next().is_some();
        if !has_free {
            self.free_wait = peer;
        }
        if let Regime::Led { .. } = self.regime {
            return now + self.context.renew_interval();
        }
        if leases.is_empty() || self.observations.awaits_answers(now) {
            return now + peer;
        }
        if self.restless {
            // What is coming is looked at by itself.
            let waits = if self.coming.is_empty() {
                peer
            } else {
                2 * peer
            };
            return or_expiry(now + waits);
        }
        let role = sight.role();
        match role {
            Role::Warden if sight.has_java() => or_expiry(now + 2 * peer),
            Role::Warden if has_free => {
                let wait = self.free_wait;
                self.free_wait = (2 * wait).min(4 * peer);
                now + wait.min(config.times().scan_interval)
            }
            Role::Warden => now + config.times().scan_interval,
            // It stands in for a worker that cannot tell it anything.
            Role::Spare if sight.others() == 1 => or_expiry(now + peer),
            Role::Spare => now + 2 * failover,
            Role::Deputy(_) | Role::Member if sight.has_java() => now + 2 * failover,
            Role::Deputy(_) | Role::Member => {
                let interval = member_interval(config.unsaid_failover(), sight.workers());
                now + interval.mul_f64(0.8 + 0.15 * fastrand::f64())
            }
        }
    }
}
