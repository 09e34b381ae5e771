//! What the tasks of a worker tell each other of the other workers.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    edge::lease_table::Scan,
    model::{keys::LeaseKey, lease::Lease},
};

#[derive(Debug)]
pub(crate) struct Fleet {
    /// Does this worker audit for all?
    audits: watch::Sender<bool>,
    workers: AtomicUsize,
    /// All others heed for how long a lease says that its holder may be silent.
    heeded: AtomicBool,
    mail: Mutex<Mail>,
    arrived: Notify,
}

/// What the coordinator is to know.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Leases that somebody wants this worker to have, if it can.
    pub(crate) news: BTreeSet<LeaseKey>,
    /// The warden says that this worker is one of its deputies.
    pub(crate) is_deputy: bool,
    /// Leases of ours that somebody asked for, or does not ask for any more, as a write of ours
    /// left them.
    pub(crate) requests: Vec<Lease>,
    /// The auditor's, and when it began.
    pub(crate) scan: Option<(Scan, Instant)>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self {
            audits: watch::Sender::new(false),
            workers: AtomicUsize::new(1),
            heeded: AtomicBool::new(true),
            mail: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// So many workers hold leases, this one counted, and whether it audits for all.
    pub(crate) fn set(&self, workers: usize, audits: bool) {
        self.workers.store(workers, Ordering::Relaxed);
        self.audits
            .send_if_modified(|before| std::mem::replace(before, audits) != audits);
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// Do all who hold leases heed for how long a lease says that its holder may be silent?
    pub(crate) fn set_heeded(&self, heeded: bool) {
        self.heeded.store(heeded, Ordering::Relaxed);
    }

    pub(crate) fn is_heeded(&self) -> bool {
        self.heeded.load(Ordering::Relaxed)
    }

    pub(crate) fn audits(&self) -> watch::Receiver<bool> {
        self.audits.subscribe()
    }

    // === the coordinator's mail ===

    /// News that stood in the lease `of`.
    pub(crate) fn tell(&self, of: &LeaseKey, news: &BTreeSet<LeaseKey>) {
        let mut mail = self.mail();
        mail.is_deputy |= news.contains(of);
        mail.news
            .extend(news.iter().filter(|key| *key != of).cloned());
        drop(mail);
        self.arrived.notify_one();
    }

    pub(crate) fn request(&self, lease: Lease) {
        self.mail().requests.push(lease);
        self.arrived.notify_one();
    }

    pub(crate) fn share(&self, scan: Scan, began: Instant) {
        self.mail().scan = Some((scan, began));
        self.arrived.notify_one();
    }

    /// Waits for mail.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(crate) fn take_mail(&self) -> Mail {
        std::mem::take(&mut *self.mail())
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
