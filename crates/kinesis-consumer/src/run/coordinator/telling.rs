//! What this worker tells others: by the `news` of leases that they hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Coordinator, moves::CONCURRENCY};
use crate::{
    decide::fleet::{Role, Sight},
    edge::lease_table::TableError,
    model::{keys::LeaseKey, lease::Lease},
    run::context::Context,
};

/// Leases, with what their holders are to look at.
pub(super) type News = Vec<(Lease, BTreeSet<LeaseKey>)>;

impl Coordinator {
    /// As the warden: who is to take what is free, and who is to ask for what. Until
    /// all have as many it looks soon what came of it.
    pub(super) fn tell_shares(&mut self, leases: &[Lease], now: Instant) {
        let held = self.held_keys();
        let sight = Sight::new(
            leases,
            &self.observations,
            &self.context.config.worker_id,
            &held,
            now,
        );
        if sight.role() != Role::Warden || sight.has_java() {
            return;
        }
        let free: Vec<_> = sight.free().map(|lease| lease.key.clone()).collect();
        let shares = match free.is_empty() {
            true => sight.even_out(),
            false => Some(sight.share_out(&free)),
        };
        let is_even = shares.as_ref().is_some_and(BTreeMap::is_empty);
        let news = address(&sight, shares.unwrap_or_default());
        let times = self.context.config.times();
        if is_even {
            self.uneven_wait = 2 * times.peer_scan_interval;
        } else if free.is_empty() {
            self.next_scan = self.next_scan.min(now + self.uneven_wait);
            self.uneven_wait = (2 * self.uneven_wait).min(times.scan_interval);
        }
        self.send(news);
    }

    /// As the warden: who watches it. They may have seen the table long ago. News of the very lease
    /// in which they stand are that its holder is a deputy.
    pub(super) fn tell_deputies(&mut self, leases: &[Lease], now: Instant) {
        let held = self.held_keys();
        let sight = Sight::new(
            leases,
            &self.observations,
            &self.context.config.worker_id,
            &held,
            now,
        );
        let deputies = match sight.role() {
            Role::Warden => sight.deputies(),
            Role::Deputy(_) | Role::Member | Role::Spare => Vec::new(),
        };
        if self.deputies != deputies {
            let boards = deputies.iter().flat_map(|deputy| sight.boards(deputy));
            let news = boards.map(|lease| (lease.clone(), [lease.key.clone()].into()));
            let news = news.collect();
            self.deputies = deputies.into_iter().map(str::to_owned).collect();
            self.send(news);
        }
    }

    /// This worker holds its first lease: the warden watches it from now on.
    pub(super) fn announce(&mut self, lease: &LeaseKey, now: Instant) {
        let me = self.context.config.worker_id.as_str();
        let first = self.first_lease(now).filter(|first| {
            let owner = first.owner.as_deref();
            owner.is_some_and(|owner| owner != me) && first.is_native()
        });
        let news = first.map(|first| (first.clone(), [lease.clone()].into()));
        self.send(news.into_iter().collect());
    }

    /// The first lease is finished, so that another worker is the warden now.
    pub(super) fn tell_next_warden(&mut self, now: Instant) {
        let Some(first) = self.first_lease(now).cloned() else {
            return;
        };
        let earlier = self.leases.iter().map(|lease| &lease.key);
        let earlier = earlier.filter(|key| **key < first.key).max().cloned();
        if let Some(key) = earlier {
            self.send(vec![(first, [key].into())]);
        }
    }

    fn first_lease(&self, now: Instant) -> Option<&Lease> {
        let is_at_work =
            |lease: &&Lease| !lease.is_finished() && !self.observations.is_available(lease, now);
        let at_work = self.leases.iter().filter(is_at_work);
        at_work.min_by_key(|lease| &lease.key)
    }

    fn send(&mut self, news: News) {
        if !news.is_empty() {
            let context = Arc::clone(&self.context);
            let telling = tokio::spawn(async move { tell(&context, news).await });
            self.telling.retain(|telling| !telling.is_finished());
            self.telling.push(AbortOnDropHandle::new(telling));
        }
    }
}

/// To each worker by leases that it holds.
pub(super) fn address(sight: &Sight<'_>, shares: BTreeMap<String, BTreeSet<LeaseKey>>) -> News {
    let mut news = News::new();
    for (worker, keys) in shares {
        let boards = sight.boards(&worker);
        news.extend(
            boards
                .into_iter()
                .map(|board| (board.clone(), keys.clone())),
        );
    }
    news
}

/// Writes the news. Where that fails, the warden's next scan finds what they are about.
pub(super) async fn tell(context: &Context, news: News) {
    let told = stream::iter(news).for_each_concurrent(CONCURRENCY, |(lease, keys)| async move {
        match context.table.tell(&lease, &keys).await {
            Ok(()) => context.succeeded("tell"),
            Err(TableError::Conflict(_)) => {}
            Err(error) => context.table_failed(Some(&lease.key), "tell", &error),
        }
    });
    told.await;
}
