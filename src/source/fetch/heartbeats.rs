//! Who lives: a lease's counter that moved proves its holder's life, and one that stands proves its
//! death only when it stood for longer than this table's holders take between two renewals.

use std::{collections::HashMap, time::Duration};

use kinesis_consumer::{ShardId, lease::Lease};
use tokio::time::Instant;

/// A holder is dead after so long without a renewal, as long as the table's rhythm is not known.
/// KCL renews three times within the failover time, 10 s by default.
const SILENT: Duration = Duration::from_secs(45);

/// So many of the longest gap are a death. KCL's failover time is three renewals, too.
const GAPS: u32 = 3;

/// No death is proven sooner than this: checkpoints move the counter, too, so that a gap seen
/// while records are read may be shorter than those without.
const SILENT_LEAST: Duration = Duration::from_secs(10);

/// No holder lives that was silent for longer, whatever gaps were seen.
const SILENT_MOST: Duration = Duration::from_secs(900);

/// A gap is remembered for one to two of these: a pause of an hour ago is no rhythm.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// When each lease of one table was last renewed, and how long that takes.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    leases: HashMap<ShardId, Heartbeat>,
    /// The last look, and the time between it and the one before.
    looked: Option<(Instant, Option<Duration>)>,
    rhythm: Rhythm,
}

#[derive(Debug)]
struct Heartbeat {
    holder: Option<String>,
    counter: u64,
    /// When the counter was seen to move, or was first seen.
    moved: Instant,
    /// Was the present holder seen to write it?
    is_confirmed: bool,
}

/// The longest gap since then, and the longest of the time before.
#[derive(Debug, Default)]
struct Rhythm {
    longest: Option<(Instant, Duration)>,
    before: Option<(Instant, Duration)>,
}

impl Heartbeats {
    /// Takes in all leases of the table, as seen now.
    pub(super) fn follow(&mut self, leases: &[Lease], now: Instant) {
        let before = self.looked.map(|(at, _)| at);
        self.rhythm.forget(now);
        let mut known = std::mem::take(&mut self.leases);
        for lease in leases {
            let holder = lease.holder();
            let is_first = before.is_none();
            let beat = match known.remove(&lease.key.shard) {
                Some(beat) if beat.counter == lease.counter && beat.is_of(holder) => beat,
                known => {
                    // Seen to stand in between: else the gap is that of the looks, not its own.
                    if let (Some(beat), Some(before)) = (&known, before)
                        && beat.is_of(holder)
                        && holder.is_some()
                        && beat.moved < before
                    {
                        self.rhythm.note(now.duration_since(beat.moved), now);
                    }
                    Heartbeat {
                        holder: holder.map(str::to_owned),
                        counter: lease.counter,
                        moved: now,
                        is_confirmed: !is_first && holder.is_some(),
                    }
                }
            };
            self.leases.insert(lease.key.shard.clone(), beat);
        }
        let between = before.map(|before| now.duration_since(before));
        self.looked = Some((now, between));
    }

    /// Does the lease's holder live, as of the last look?
    pub(super) fn is_live(&self, lease: &Lease) -> bool {
        lease.holder().is_some() && self.silence(lease).is_some_and(|it| it < self.most())
    }

    /// Was its holder seen to renew it, or to take it?
    pub(super) fn is_confirmed(&self, lease: &Lease) -> bool {
        let beat = self.leases.get(&lease.key.shard);
        beat.is_some_and(|beat| beat.is_confirmed)
    }

    /// For how long the lease's counter has stood, as of the last look.
    pub(super) fn silence(&self, lease: &Lease) -> Option<Duration> {
        let (at, _) = self.looked?;
        let beat = self.leases.get(&lease.key.shard)?;
        Some(at.saturating_duration_since(beat.moved))
    }

    /// Was there one look only, and did it show holders? Then whether they live is not known.
    pub(super) fn is_first_look(&self) -> bool {
        let is_first = matches!(self.looked, Some((_, None)));
        is_first && self.leases.values().any(|beat| beat.holder.is_some())
    }

    /// The longest time between two renewals, where looks were dense enough to tell.
    pub(super) fn rhythm(&self) -> Option<Duration> {
        self.rhythm.longest()
    }

    /// A holder that was silent for so long is dead.
    fn most(&self) -> Duration {
        let by_rhythm = self.rhythm().map_or(SILENT, |gap| gap * GAPS);
        // Between two looks at the least: what stood at one may have moved since.
        let between = self.looked.and_then(|(_, between)| between);
        by_rhythm
            .max(SILENT_LEAST)
            .max(between.unwrap_or_default() * 2)
            .min(SILENT_MOST)
    }
}

impl Heartbeat {
    fn is_of(&self, holder: Option<&str>) -> bool {
        self.holder.as_deref() == holder
    }
}

impl Rhythm {
    fn note(&mut self, gap: Duration, now: Instant) {
        let (_, longest) = self.longest.get_or_insert((now, gap));
        *longest = gap.max(*longest);
    }

    fn forget(&mut self, now: Instant) {
        let is_older = |(since, _): &(Instant, Duration), than| now.duration_since(*since) > than;
        if let Some(longest) = self.longest.take_if(|it| is_older(it, REMEMBERED)) {
            self.before = Some(longest);
        }
        self.before.take_if(|it| is_older(it, REMEMBERED * 2));
    }

    fn longest(&self) -> Option<Duration> {
        let both = self.longest.into_iter().chain(self.before);
        both.map(|(_, longest)| longest).max()
    }
}

#[cfg(test)]
mod tests {
    use kinesis_consumer::Checkpoint;
    use rstest::rstest;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(holder: &str, counter: u64) -> Lease {
        let mut lease = Lease::new("0", Checkpoint::TrimHorizon);
        lease.owner = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
        lease.counter = counter;
        lease
    }

    /// For how long each of these looks, `apart`, sees the holder that renews every `renewal`
    /// seconds dead.
    fn dead(renewal: u64, looks: u64, apart: u64) -> u64 {
        let mut beats = Heartbeats::default();
        let begin = Instant::now();
        let dead = (0..looks).filter(|look| {
            let seconds = look * apart;
            let lease = lease("pod", seconds / renewal);
            let now = begin + Duration::from_secs(seconds);
            beats.follow(std::slice::from_ref(&lease), now);
            !beats.is_live(&lease)
        });
        dead.count() as u64 * apart
    }

    #[rstest]
    #[case::kcl(3, 15)]
    #[case::slow_looks(3, 120)]
    #[case::failover_60_s(20, 15)]
    #[case::failover_60_s_slow_looks(20, 60)]
    #[test]
    fn a_holder_that_renews_never_dies(#[case] renewal: u64, #[case] apart: u64) {
        assert_eq!(dead(renewal, 1000, apart), 0);
    }

    #[test]
    fn a_slow_rhythm_is_learned_by_the_first_gap() {
        // 300 s of failover time: silent for 100 s, which is a death until it is known to be none.
        assert_eq!(dead(100, 1000, 15), 60);
    }

    #[test]
    fn a_lease_that_changes_hands_is_no_gap_and_a_pause_is_forgotten() {
        let mut beats = Heartbeats::default();
        let begin = Instant::now();
        let mut look = |seconds: u64, holder: &str, counter| {
            let lease = lease(holder, counter);
            beats.follow(
                std::slice::from_ref(&lease),
                begin + SECOND * seconds as u32,
            );
            (
                beats.is_live(&lease),
                beats.is_confirmed(&lease),
                beats.rhythm(),
            )
        };
        assert_eq!(look(0, "one", 1), (true, false, None), "believed");
        assert_eq!(look(30, "one", 1), (true, false, None));
        assert_eq!(look(45, "one", 1), (false, false, None));
        assert_eq!(look(60, "two", 2), (true, true, None), "taken by another");
        assert_eq!(look(75, "two", 2), (true, true, None));
        assert_eq!(look(180, "two", 3).2, Some(SECOND * 120));
        for minute in 4..130 {
            let (live, _, rhythm) = look(minute * 60, "two", minute);
            assert!(live);
            assert_eq!(rhythm.is_some(), minute < 124, "{minute}");
        }
    }

    #[test]
    fn nobody_lives_who_was_silent_for_a_quarter_of_an_hour() {
        let mut beats = Heartbeats::default();
        let begin = Instant::now();
        // Long gaps, and looks an hour apart.
        for (look, counter) in [(0, 1), (600, 1), (1200, 2), (4800, 2)] {
            let lease = lease("pod", counter);
            beats.follow(std::slice::from_ref(&lease), begin + SECOND * look);
            assert_eq!(beats.is_live(&lease), look < 4800, "{look}");
        }
    }

    #[test]
    fn one_look_that_shows_holders_calls_for_a_second() {
        for (holder, first) in [("pod", true), ("", false)] {
            let mut beats = Heartbeats::default();
            let lease = lease(holder, 1);
            beats.follow(std::slice::from_ref(&lease), Instant::now());
            assert_eq!(beats.is_first_look(), first);
            beats.follow(std::slice::from_ref(&lease), Instant::now() + SECOND);
            assert!(!beats.is_first_look());
        }
    }
}
