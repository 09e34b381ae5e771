//! Who asks about a source, when, and with which settings: whether it is fetched, and what of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use right_sizing::Settings;
use tokio::{sync::Notify, time::Instant};

/// An infrequent caller keeps the watcher for three of its intervals.
const INTERVALS: u32 = 3;

/// A longer pause says no more of how often somebody asks: nobody did for a while.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Questions that are closer than this are one: KEDA asks for value and activity.
const ONE_QUESTION: Duration = Duration::from_secs(1);

/// Settings that one application is decided with at a time. ScaledObjects rarely share an
/// application, let alone differ about it.
const MOST_SETTINGS: usize = 16;

/// Settings that nobody asked with for this long make room for others.
const IDLE_SETTINGS: Duration = Duration::from_secs(600);

/// Settings that nobody asked with for this long are forgotten.
const FORGOTTEN_SETTINGS: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Demand {
    /// How long a source is watched that nobody asks about.
    idle: Duration,
    seen: Mutex<Seen>,
    /// Lag is asked for which nobody asked for before, or a first push stream waits for it: fetch
    /// at once.
    pub(super) more: Notify,
    /// Somebody asks with new settings: decide at once.
    pub(super) settings: Notify,
}

#[derive(Debug)]
struct Seen {
    any: Interest,
    /// The longest time between two questions: KEDA asks two right after each other, then pauses.
    interval: Duration,
    /// In lag, which is decided with these settings.
    lag: Vec<(Settings, Interest)>,
}

/// How somebody is interested.
#[derive(Clone, Copy, Debug)]
struct Interest {
    /// The last question.
    last: Instant,
    /// Open push streams, each of which asks all the time.
    followers: usize,
}

impl Interest {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            followers: 0,
        }
    }

    /// The last time that somebody asked: now, as long as a push stream is open.
    fn last(&self) -> Instant {
        match self.followers {
            0 => self.last,
            _ => Instant::now(),
        }
    }

    fn lasts(&self, time: Duration) -> bool {
        self.last().elapsed() <= time
    }

    fn unfollow(&mut self) {
        self.followers -= 1;
        self.last = Instant::now();
    }
}

impl Demand {
    /// Nobody asked yet.
    pub(super) fn new(idle: Duration) -> Self {
        Self {
            idle,
            seen: Mutex::new(Seen {
                any: Interest::new(),
                interval: Duration::ZERO,
                lag: Vec::new(),
            }),
            more: Notify::new(),
            settings: Notify::new(),
        }
    }

    /// Asked now. `settings`: for lag, which is decided with them.
    pub(super) fn ask(&self, settings: Option<Settings>) {
        let mut seen = self.lock();
        // As long as a push stream is open there is no pause between questions.
        if seen.any.followers == 0 {
            let pause = seen.any.last.elapsed().min(LONGEST_INTERVAL);
            seen.interval = seen.interval.max(pause);
        }
        seen.any.last = Instant::now();
        if let Some(interest) = self.interest(&mut seen, settings) {
            interest.last = Instant::now();
        }
    }

    /// A push stream opens. Says with which settings it ends.
    pub(super) fn follow(&self, settings: Option<Settings>) -> Option<Settings> {
        let mut seen = self.lock();
        seen.any.followers += 1;
        if settings.is_some() && !seen.has_lag_followers() {
            self.more.notify_one();
        }
        let interest = self.interest(&mut seen, settings)?;
        interest.followers += 1;
        settings
    }

    /// A push stream ends.
    pub(super) fn unfollow(&self, settings: Option<Settings>) {
        let mut seen = self.lock();
        seen.any.unfollow();
        let mut lag = seen.lag.iter_mut();
        if let Some((_, interest)) = lag.find(|(its, _)| Some(*its) == settings) {
            interest.unfollow();
        }
    }

    /// Is lag asked for, and was it within the idle time?
    pub(super) fn wants_lag(&self) -> bool {
        self.lock().wants_lag(self.idle)
    }

    /// Is a push stream open?
    pub(super) fn has_followers(&self) -> bool {
        self.lock().any.followers > 0
    }

    /// Does a push stream wait for a first record?
    pub(super) fn has_lag_followers(&self) -> bool {
        self.lock().has_lag_followers()
    }

    /// The settings to decide with.
    pub(super) fn settings(&self) -> Vec<Settings> {
        let mut seen = self.lock();
        let kept = seen.kept(FORGOTTEN_SETTINGS);
        seen.lag.retain(|(_, interest)| interest.lasts(kept));
        seen.lag.iter().map(|(settings, _)| *settings).collect()
    }

    /// The last time that somebody asked: now, as long as a push stream is open.
    pub(super) fn last(&self) -> Instant {
        self.lock().any.last()
    }

    /// Is it known that somebody asks as often as this?
    pub(super) fn is_asked_each(&self, interval: Duration) -> bool {
        (ONE_QUESTION..=interval).contains(&self.lock().interval)
    }

    /// Did nobody ask for so long?
    pub(super) fn is_unasked_for(&self, time: Duration) -> bool {
        !self.lock().any.lasts(time)
    }

    /// Did nobody ask within the idle time?
    pub(super) fn is_idle(&self) -> bool {
        let seen = self.lock();
        !seen.any.lasts(seen.kept(self.idle))
    }

    /// The interest in lag with these settings. `None`: none, or somebody asks with ever new
    /// settings and gets a first decision each time, while the others keep their memories.
    fn interest<'a>(
        &self,
        seen: &'a mut Seen,
        settings: Option<Settings>,
    ) -> Option<&'a mut Interest> {
        let settings = settings?;
        if !seen.wants_lag(self.idle) {
            self.more.notify_one();
        }
        let lag = &mut seen.lag;
        let known = lag.iter().position(|(its, _)| *its == settings);
        if known.is_none() {
            if lag.len() >= MOST_SETTINGS {
                let longest_unasked = (0..lag.len()).min_by_key(|at| lag[*at].1.last())?;
                if lag[longest_unasked].1.lasts(IDLE_SETTINGS) {
                    return None;
                }
                lag.swap_remove(longest_unasked);
            }
            self.settings.notify_one();
            lag.push((settings, Interest::new()));
        }
        let at = known.unwrap_or(lag.len() - 1);
        Some(&mut lag[at].1)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn kept(&self, idle: Duration) -> Duration {
        idle.max(self.interval * INTERVALS)
    }

    fn wants_lag(&self, idle: Duration) -> bool {
        let kept = self.kept(idle);
        self.lag.iter().any(|(_, interest)| interest.lasts(kept))
    }

    fn has_lag_followers(&self) -> bool {
        self.lag.iter().any(|(_, interest)| interest.followers > 0)
    }
}
