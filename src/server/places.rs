//! Places for what clients hold open. Their number is bounded; when all are taken, the largest
//! holder's newest makes room for whoever holds less than a fair share.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    metrics::Metrics,
    trigger::tenant::Tenant,
    watch::{NoRoom, Shares},
};

/// A flood is told once a minute, not once for each of its connections.
const TOLD: Duration = Duration::from_secs(60);

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    limit: &'static str,
    most: usize,
    held: Mutex<Held>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    next: u64,
    shares: Shares,
    /// By age.
    places: HashMap<Tenant, BTreeMap<u64, CancellationToken>>,
    told: Option<Instant>,
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
    pub(super) fn new(limit: &'static str, most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            most,
            held: Mutex::default(),
            metrics,
        })
    }

    /// A place; the largest holder may lose one for it.
    pub(super) fn take(self: &Arc<Self>, tenant: Tenant) -> Result<Place, NoRoom> {
        let mut held = self.lock();
        if held.count >= self.most {
            let victim = held.shares.yields_to(&tenant, self.most);
            self.metrics.limited(self.limit);
            held.tell(self.limit, self.most, &tenant, victim.as_ref().ok());
            let victim = victim?;
            let newest = held.places.get(&victim).and_then(|its| its.keys().last());
            if let Some(number) = newest.copied()
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

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn tell(&mut self, limit: &str, most: usize, newcomer: &Tenant, victim: Option<&Tenant>) {
        if self.told.is_some_and(|told| told.elapsed() < TOLD) {
            return;
        }
        self.told = Some(Instant::now());
        let peer = &*newcomer.peer;
        match victim {
            Some(Tenant { peer: largest, .. }) => {
                warn!(
                    "all {most} of {limit} are taken: {largest} holds most and makes room for {peer}"
                );
            }
            None => warn!("all {most} of {limit} are taken: {peer} is refused"),
        }
    }
}

impl Place {
    /// Counts that a bound ends what holds this place.
    pub(super) fn count(&self, limit: &'static str) {
        self.places.metrics.limited(limit);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(&self.tenant, self.number);
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
        let places = Places::new("connections", 3, Arc::default());
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
}
