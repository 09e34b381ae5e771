//! When a source was asked about, and so whether anybody still cares.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Who asks seldom is given three of his own intervals.
const INTERVALS: u32 = 3;

#[derive(Debug)]
pub(super) struct Demand {
    seen: Mutex<Seen>,
    /// More is wanted than before: look at once.
    pub(super) more: Notify,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    /// The longest time between two questions: KEDA asks two of them right after each other, then pauses.
    interval: Duration,
    /// Open push streams.
    followers: usize,
    /// The last time that somebody asked for lag.
    lag: Option<Instant>,
    /// Open push streams that wait for lag.
    lag_followers: usize,
}

impl Demand {
    /// Demand now, for the first time.
    pub(super) fn new(lag: bool) -> Self {
        let now = Instant::now();
        Self {
            seen: Mutex::new(Seen {
                last: now,
                interval: Duration::ZERO,
                followers: 0,
                lag: lag.then_some(now),
                lag_followers: 0,
            }),
            more: Notify::new(),
        }
    }

    pub(super) fn now(&self, lag: bool) {
        let mut seen = self.lock();
        seen.touch();
        if lag && seen.lag.replace(Instant::now()).is_none() {
            self.more.notify_one();
        }
    }

    pub(super) fn follow(&self, lag: bool) {
        let mut seen = self.lock();
        seen.followers += 1;
        if lag {
            seen.lag_followers += 1;
            if seen.lag_followers == 1 {
                self.more.notify_one();
            }
        }
    }

    pub(super) fn unfollow(&self, lag: bool) {
        let mut seen = self.lock();
        seen.followers -= 1;
        // A push stream asks all the time that it is open.
        seen.last = Instant::now();
        if lag {
            seen.lag_followers -= 1;
            seen.lag = Some(Instant::now());
        }
    }

    /// Did nobody stop caring about lag?
    pub(super) fn wants_lag(&self, idle: Duration) -> bool {
        let mut seen = self.lock();
        let last = seen
            .lag
            .filter(|last| last.elapsed() <= idle.max(seen.interval * INTERVALS));
        seen.lag = last;
        last.is_some() || seen.lag_followers > 0
    }

    /// Does a push stream wait for a first record?
    pub(super) fn has_lag_followers(&self) -> bool {
        self.lock().lag_followers > 0
    }

    /// The last time that somebody asked: now, as long as a push stream is open.
    pub(super) fn last(&self) -> Instant {
        let seen = self.lock();
        if seen.followers > 0 {
            Instant::now()
        } else {
            seen.last
        }
    }

    /// Did nobody ask for `idle`, or three intervals where they are longer?
    pub(super) fn is_idle(&self, idle: Duration) -> bool {
        let last = self.last();
        last.elapsed() > idle.max(self.lock().interval * INTERVALS)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn touch(&mut self) {
        // As long as a push stream is open there is no pause between questions.
        if self.followers == 0 {
            self.interval = self.interval.max(self.last.elapsed());
        }
        self.last = Instant::now();
    }
}
