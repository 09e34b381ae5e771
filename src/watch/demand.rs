//! Who asks about a source, when, and with which settings: whether it is fetched, and what of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use right_sizing::Settings;
use tokio::{sync::Notify, time::Instant};

/// A source is watched for at least three intervals of whoever asks about it.
const INTERVALS: u32 = 3;

/// Settings that one application is decided with at a time. ScaledObjects rarely share an
/// application, let alone differ about it.
const MOST_SETTINGS: usize = 16;

/// Settings that nobody asked with for this long make room for others.
const IDLE_SETTINGS: Duration = Duration::from_secs(600);

/// Settings that nobody asked with for this long are forgotten.
const FORGOTTEN_SETTINGS: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Demand {
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
    /// In lag. `None`: nobody asked for it within the idle time.
    lag: Option<Interest>,
    /// In decisions with these settings.
    settings: Vec<(Settings, Interest)>,
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
        self.followers = self.followers.saturating_sub(1);
        self.last = Instant::now();
    }
}

impl Demand {
    /// Asked now, for the first time. `settings`: for lag, which is decided with them.
    pub(super) fn new(settings: Option<Settings>) -> Self {
        Self {
            seen: Mutex::new(Seen {
                any: Interest::new(),
                interval: Duration::ZERO,
                lag: settings.map(|_| Interest::new()),
                settings: settings
                    .map(|its| (its, Interest::new()))
                    .into_iter()
                    .collect(),
            }),
            more: Notify::new(),
            settings: Notify::new(),
        }
    }

    /// Asked now.
    pub(super) fn ask(&self, settings: Option<Settings>) {
        let mut seen = self.lock();
        // As long as a push stream is open there is no pause between questions.
        if seen.any.followers == 0 {
            seen.interval = seen.interval.max(seen.any.last.elapsed());
        }
        seen.any.last = Instant::now();
        if let Some(settings) = settings {
            self.ask_lag(&mut seen).last = Instant::now();
            if let Some(interest) = self.ask_with(&mut seen, settings) {
                interest.last = Instant::now();
            }
        }
    }

    /// A push stream opens.
    pub(super) fn follow(&self, settings: Option<Settings>) {
        let mut seen = self.lock();
        seen.any.followers += 1;
        if let Some(settings) = settings {
            let lag = self.ask_lag(&mut seen);
            lag.followers += 1;
            if lag.followers == 1 {
                self.more.notify_one();
            }
            if let Some(interest) = self.ask_with(&mut seen, settings) {
                interest.followers += 1;
            }
        }
    }

    /// A push stream ends.
    pub(super) fn unfollow(&self, settings: Option<Settings>) {
        let mut seen = self.lock();
        seen.any.unfollow();
        if let Some(settings) = settings {
            seen.lag.iter_mut().for_each(Interest::unfollow);
            let mut all = seen.settings.iter_mut();
            if let Some((_, interest)) = all.find(|(its, _)| *its == settings) {
                interest.unfollow();
            }
        }
    }

    /// Is lag asked for, and was it within the idle time?
    pub(super) fn wants_lag(&self, idle: Duration) -> bool {
        let mut seen = self.lock();
        let kept = idle.max(seen.interval * INTERVALS);
        seen.lag = seen.lag.filter(|interest| interest.lasts(kept));
        seen.lag.is_some()
    }

    /// Does a push stream wait for a first record?
    pub(super) fn has_lag_followers(&self) -> bool {
        let lag = self.lock().lag;
        lag.is_some_and(|interest| interest.followers > 0)
    }

    /// The settings to decide with.
    pub(super) fn settings(&self) -> Vec<Settings> {
        let mut seen = self.lock();
        seen.settings
            .retain(|(_, interest)| interest.lasts(FORGOTTEN_SETTINGS));
        seen.settings.iter().map(|(its, _)| *its).collect()
    }

    /// The last time that somebody asked: now, as long as a push stream is open.
    pub(super) fn last(&self) -> Instant {
        self.lock().any.last()
    }

    /// Did nobody ask for `idle`, or for three intervals where they are longer?
    pub(super) fn is_idle(&self, idle: Duration) -> bool {
        let seen = self.lock();
        !seen.any.lasts(idle.max(seen.interval * INTERVALS))
    }

    fn ask_lag<'a>(&self, seen: &'a mut Seen) -> &'a mut Interest {
        if seen.lag.is_none() {
            self.more.notify_one();
        }
        seen.lag.get_or_insert_with(Interest::new)
    }

    /// `None`: somebody asks with ever new settings. He gets a first decision each time, and the
    /// others keep their memories.
    fn ask_with<'a>(&self, seen: &'a mut Seen, settings: Settings) -> Option<&'a mut Interest> {
        let all = &mut seen.settings;
        let at = match all.iter().position(|(its, _)| *its == settings) {
            Some(at) => at,
            None => {
                if all.len() >= MOST_SETTINGS {
                    let longest_unasked = (0..all.len()).min_by_key(|at| all[*at].1.last())?;
                    if all[longest_unasked].1.lasts(IDLE_SETTINGS) {
                        return None;
                    }
                    all.swap_remove(longest_unasked);
                }
                self.settings.notify_one();
                all.push((settings, Interest::new()));
                all.len() - 1
            }
        };
        Some(&mut all[at].1)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
