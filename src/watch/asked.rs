//! When a source was asked about, and so whether anybody still cares.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Who asks seldom is given three of his own intervals.
const INTERVALS: u32 = 3;

#[derive(Debug)]
pub(super) struct Asked {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    /// The longest time between two questions: KEDA asks two of them right after each other, then pauses.
    interval: Duration,
    /// Open push streams.
    followers: usize,
}

impl Asked {
    /// Asked now, for the first time.
    pub(super) fn new() -> Self {
        Self {
            seen: Mutex::new(Seen {
                last: Instant::now(),
                interval: Duration::ZERO,
                followers: 0,
            }),
        }
    }

    pub(super) fn now(&self) {
        self.lock().touch();
    }

    pub(super) fn follow(&self) {
        self.lock().followers += 1;
    }

    pub(super) fn unfollow(&self) {
        let mut seen = self.lock();
        seen.followers -= 1;
        // A push stream asks all the time that it is open.
        seen.last = Instant::now();
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
