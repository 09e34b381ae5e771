//! Places for what clients hold open. Their number is bounded; when all are taken, the largest
//! holder's newest makes room for whoever holds less than a fair share.
//!
//! Where an honest client stays for moments only, as in a handshake, the oldest makes room, and for
//! its own peer, too: whoever takes all places and stays locks nobody out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    metrics::Metrics,
    telemetry::Seldom,
    trigger::tenant::Tenant,
    watch::{NoRoom, Shares},
};

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    limit: &'static str,
    most: usize,
    stay: Stay,
    held: Mutex<Held>,
    freed: Notify,
    metrics: Arc<Metrics>,
    told: Seldom,
}

/// For how long an honest client holds a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stay {
    /// For long: the newest makes room, and the others stay.
    Long,
    /// For moments: the oldest makes room.
    Short,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    next: u64,
    shares: Shares,
    /// By age.
    places: HashMap<Tenant, BTreeMap<u64, CancellationToken>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    tenant: Tenant,
    number: u64,
    /// Cancelled when somebody else needs it more.
    pub(super) taken: CancellationToken,
}

impl Places {
    /// `limit`: what bounds them, for log and metrics.
    pub(super) fn new(
        limit: &'static str,
        most: usize,
        stay: Stay,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            limit,
            most,
            stay,
            held: Mutex::default(),
            freed: Notify::new(),
            metrics: Arc::clone(metrics),
            told: Seldom::default(),
        })
    }

    /// A place; the largest holder may lose one for it.
    pub(super) fn take(self: &Arc<Self>, tenant: Tenant) -> Result<Place, NoRoom> {
        let mut held = self.lock();
        if held.count >= self.most {
            let victim = held.shares.yields_to(&tenant, self.most);
            let victim = match self.stay {
                Stay::Long => victim,
                Stay::Short => victim.or_else(|no_room| held.oldest(&tenant).ok_or(no_room)),
            };
            self.metrics.limited(self.limit);
            self.tell(&tenant, victim.as_ref().ok());
            let victim = victim?;
            let goes = held.places.get(&victim).and_then(|its| match self.stay {
                Stay::Long => its.keys().next_back(),
                Stay::Short => its.keys().next(),
            });
            if let Some(number) = goes.copied()
                && let Some(taken) = held.remove(&victim, number)
            {
                taken.cancel();
            }
        }
        let (number, taken) = (held.next, CancellationToken::new());
        held.next += 1;
        held.count += 1;
        held.shares.add(&tenant);
        let its = held.places.entry(tenant.clone()).or_default();
        its.insert(number, taken.clone());
        Ok(Place {
            places: Arc::clone(self),
            tenant,
            number,
            taken,
        })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.lock().count
    }

    /// Whoever holds most loses its newest, if it has more than one; whether somebody did.
    pub(super) fn shed(&self) -> bool {
        let mut held = self.lock();
        let most = held.places.iter().max_by_key(|(_, its)| its.len());
        let several = most.filter(|(_, its)| its.len() > 1);
        let newest = several.and_then(|(largest, its)| {
            let number = *its.keys().next_back()?;
            Some((largest.clone(), number))
        });
        let taken = newest.and_then(|(largest, number)| held.remove(&largest, number));
        if let Some(taken) = &taken {
            self.metrics.limited(self.limit);
            taken.cancel();
        }
        taken.is_some()
    }

    /// Until whoever had a place is gone.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Counts that a bound ends what holds a place.
    pub(super) fn count(&self, limit: &'static str) {
        self.metrics.limited(limit);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, newcomer: &Tenant, victim: Option<&Tenant>) {
        let Some(left_out) = self.told.now() else {
            return;
        };
        let Self { limit, most, .. } = self;
        let peer = &*newcomer.peer;
        match victim {
            Some(Tenant { peer: largest, .. }) => {
                warn!(
                    left_out,
                    "all {most} of {limit} are taken: {largest} holds most and makes room for {peer}"
                );
            }
            None => warn!(
                left_out,
                "all {most} of {limit} are taken: {peer} is refused"
            ),
        }
    }
}

impl Held {
    fn remove(&mut self, tenant: &Tenant, number: u64) -> Option<CancellationToken> {
        let its = self.places.get_mut(tenant)?;
        let taken = its.remove(&number)?;
        if its.is_empty() {
            self.places.remove(tenant);
        }
        self.count -= 1;
        self.shares.remove(tenant);
        Some(taken)
    }

    /// Who holds the newcomer's own oldest place; where it has none, the oldest of all.
    fn oldest(&self, newcomer: &Tenant) -> Option<Tenant> {
        if self.places.contains_key(newcomer) {
            return Some(newcomer.clone());
        }
        let oldest = |its: &BTreeMap<u64, CancellationToken>| its.keys().next().copied();
        let holder = self.places.iter().min_by_key(|(_, its)| oldest(its));
        holder.map(|(holder, _)| holder.clone())
    }
}

impl Place {
    /// Counts that a bound ends what holds this place.
    pub(super) fn count(&self, limit: &'static str) {
        self.places.count(limit);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(&self.tenant, self.number);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str) -> Tenant {
        Tenant {
            peer: peer.into(),
            namespace: String::new(),
        }
    }

    #[tokio::test]
    async fn a_newcomer_takes_the_newest_place_of_whoever_holds_most() {
        let places = Places::new("connections", 3, Stay::Long, &Arc::default());
        let mut flood: Vec<_> = (0..3)
            .map(|_| places.take(from("flood")).unwrap())
            .collect();
        places.take(from("flood")).unwrap_err();
        let keda = places.take(from("keda")).unwrap();
        let taken: Vec<_> = flood.iter().map(|it| it.taken.is_cancelled()).collect();
        assert_eq!(taken, [false, false, true]);
        // Whoever lost a place has no claim to another.
        flood.pop();
        places.take(from("flood")).unwrap_err();
        drop(keda);
        places.take(from("flood")).unwrap();
    }

    #[tokio::test]
    async fn whoever_has_several_loses_the_newest_and_nobody_the_only_one() {
        let places = Places::new("connections", 9, Stay::Long, &Arc::default());
        let keda = places.take(from("keda")).unwrap();
        let flood = [(); 3].map(|()| places.take(from("flood")).unwrap());
        assert!(places.shed() && places.shed() && !places.shed());
        let taken = flood.each_ref().map(|it| it.taken.is_cancelled());
        assert_eq!(taken, [false, true, true]);
        assert!(!keda.taken.is_cancelled());
    }

    #[tokio::test]
    async fn where_stays_are_short_the_oldest_makes_room_for_its_own_peer_too() {
        let places = Places::new("handshakes", 3, Stay::Short, &Arc::default());
        let flood: Vec<_> = (0..3)
            .map(|_| places.take(from("keda's node")).unwrap())
            .collect();
        let keda = places.take(from("keda's node")).unwrap();
        let other = places.take(from("elsewhere")).unwrap();
        let taken: Vec<_> = flood.iter().map(|it| it.taken.is_cancelled()).collect();
        assert_eq!(taken, [true, true, false]);
        assert!(!keda.taken.is_cancelled() && !other.taken.is_cancelled());
        // Of more addresses than places each gets in for its moment.
        let strangers: Vec<_> = (0..9)
            .map(|number| places.take(from(&number.to_string())).unwrap())
            .collect();
        assert!(keda.taken.is_cancelled());
        assert!(!strangers[8].taken.is_cancelled());
    }
}
