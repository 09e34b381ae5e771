//! What Kubernetes' HPA and KEDA make of an answer, as pure functions: the HPA's arithmetic for an
//! external metric of type `AverageValue`, its scale-up policies, its scale-down stabilisation, and
//! KEDA's own steps between zero and one.
//!
//! Times are since any start, the caller's own.

use std::{collections::VecDeque, time::Duration};

/// The part of a ScaledObject that decides replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// `minReplicaCount`: 0 lets KEDA scale to zero.
    pub min: u32,
    /// `maxReplicaCount`.
    pub max: u32,
    /// How far value / target may be from the replicas, as a part of one, before anything changes.
    /// The HPA's default is 0.1.
    pub tolerance: f64,
    /// The HPA scales down to the highest wish of this long. Its default is 5 min.
    pub stabilisation: Duration,
    /// KEDA goes to zero when a trigger has been inactive for so long. Its default is 5 min.
    pub cooldown: Duration,
    /// The HPA at most doubles the replicas in this long, or adds [`PODS_PER_PERIOD`], whichever is
    /// more. Its default is 15 s.
    pub scale_up_period: Duration,
}

impl Limits {
    /// The defaults of KEDA 2.21 and Kubernetes, between `min` and `max`.
    pub fn defaults(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            tolerance: 0.1,
            stabilisation: Duration::from_secs(300),
            cooldown: Duration::from_secs(300),
            scale_up_period: Duration::from_secs(15),
        }
    }
}

/// The HPA may add so many pods in a period, even when that is more than double.
pub const PODS_PER_PERIOD: u32 = 4;

/// What one tick decided, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The replicas to run now.
    pub replicas: u32,
    /// What the metric alone asks for, within min and max.
    pub wanted: u32,
    /// What came between the wish and the replicas.
    pub why: Why,
}

/// Why the replicas are what they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// They are what the metric asks for.
    Metric,
    /// The ratio is within the tolerance: they stay.
    Tolerance,
    /// A higher wish is younger than the stabilisation window, for so long yet.
    Stabilising(Duration),
    /// More are wished than the HPA may add in a period.
    ScaleUpPolicy,
    /// At zero and nothing active, or inactive for the whole cooldown.
    Idle,
    /// At zero and active: KEDA starts the first ones, the HPA goes on from there.
    Activated,
}

/// The memory between ticks: the HPA's recent wishes and KEDA's last active time.
#[derive(Debug)]
pub struct Autoscaling {
    limits: Limits,
    wishes: VecDeque<(Duration, u32)>,
    /// When pods were added, and how many.
    added: VecDeque<(Duration, u32)>,
    last_active: Option<Duration>,
}

/// `ceil(value / target)`, unless the ratio to `current` replicas is within `tolerance`: then
/// `None`.
pub fn average_value(value: f64, target: f64, current: u32, tolerance: f64) -> Option<u32> {
    let ratio = value / (target * f64::from(current));
    // Written as Kubernetes has it: `(1 - ratio).abs() <= tolerance` rounds differently at the
    // edges.
    if (1.0 - tolerance..=1.0 + tolerance).contains(&ratio) {
        return None;
    }
    // Positive and far below 2^32: a number of pods. The cast saturates in any case.
    Some((value / target).ceil() as u32)
}

impl Autoscaling {
    /// No wish yet. As the HPA does, the first tick counts the replicas it finds as a wish.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            wishes: VecDeque::new(),
            added: VecDeque::new(),
            last_active: None,
        }
    }

    /// One tick: the metric's `value` and `target`, whether KEDA was told `active`, and the
    /// `current` replicas.
    pub fn decide(
        &mut self,
        now: Duration,
        current: u32,
        value: f64,
        target: f64,
        active: bool,
    ) -> Decision {
        let Limits {
            min,
            max,
            tolerance,
            stabilisation,
            cooldown,
            scale_up_period,
        } = self.limits;
        if active {
            self.last_active = Some(now);
        }
        if current == 0 {
            // At zero the HPA is off: only activity counts, not the metric.
            let (replicas, why) = if active {
                (min.max(1), Why::Activated)
            } else {
                (0, Why::Idle)
            };
            return Decision {
                replicas,
                wanted: replicas,
                why,
            };
        }
        let since = *self.last_active.get_or_insert(now);
        if !active && min == 0 && now.saturating_sub(since) >= cooldown {
            self.wishes.clear();
            return Decision {
                replicas: 0,
                wanted: 0,
                why: Why::Idle,
            };
        }

        let asked = average_value(value, target, current, tolerance);
        let wanted = asked.unwrap_or(current).clamp(min.max(1), max);
        if self.wishes.is_empty() {
            self.wishes.push_back((now, current));
        }
        // A wish older than the window no longer holds.
        self.wishes
            .retain(|(at, _)| now.saturating_sub(*at) <= stabilisation);
        self.wishes.push_back((now, wanted));
        let highest = self
            .wishes
            .iter()
            .map(|(_, wish)| *wish)
            .max()
            .unwrap_or(wanted);
        self.added
            .retain(|(at, _)| now.saturating_sub(*at) < scale_up_period);
        let before = current.saturating_sub(self.added.iter().map(|(_, pods)| pods).sum());
        let most = (before + PODS_PER_PERIOD).max(before * 2).max(current);
        let replicas = if wanted < current {
            highest.min(current)
        } else {
            wanted.min(most)
        };
        if replicas > current {
            self.added.push_back((now, replicas - current));
        }
        let why = if replicas < wanted {
            Why::ScaleUpPolicy
        } else if replicas > wanted {
            let youngest = self
                .wishes
                .iter()
                .rev()
                .find(|(_, wish)| *wish > wanted)
                .map_or(now, |(at, _)| *at);
            Why::Stabilising(stabilisation.saturating_sub(now.saturating_sub(youngest)))
        } else if asked.is_none() {
            Why::Tolerance
        } else {
            Why::Metric
        };
        Decision {
            replicas,
            wanted,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        min: 1,
        max: 10,
        tolerance: 0.1,
        stabilisation: Duration::from_secs(6),
        cooldown: Duration::from_secs(6),
        scale_up_period: Duration::from_secs(1),
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn average_value_is_the_ceiling_outside_the_tolerance() {
        // value, target, current → replicas; None: within 10 % of what runs.
        let table = [
            (2.0, 1.0, 1, Some(2)),
            (3.0, 1.0, 2, Some(3)),
            (3.0, 1.0, 3, None),
            (3.0, 3.0, 3, Some(1)),
            (2.0, 3.0, 2, Some(1)),
            (4.0, 3.0, 1, Some(2)),
            (0.0, 1.0, 1, Some(0)),
            (21.0, 1.0, 20, None),     // 5 % more
            (22.0, 1.0, 20, None),     // 10 % more: still within
            (23.0, 1.0, 20, Some(23)), // 15 % more
            (18.0, 1.0, 20, None),
            (17.0, 1.0, 20, Some(17)),
            (5.0, 2.0, 1, Some(3)),
        ];
        for (value, target, current, want) in table {
            let got = average_value(value, target, current, 0.1);
            assert_eq!(
                got, want,
                "value {value}, target {target}, current {current}"
            );
        }
    }

    #[test]
    fn scaling_up_is_at_once_and_within_max() {
        let mut autoscaling = Autoscaling::new(LIMITS);
        let now = Duration::ZERO;
        let decision = autoscaling.decide(now, 1, 3.0, 1.0, true);
        assert_eq!(
            decision,
            Decision {
                replicas: 3,
                wanted: 3,
                why: Why::Metric
            }
        );
        let decision = autoscaling.decide(now + seconds(1), 3, 8.0, 1.0, true);
        assert_eq!((decision.replicas, decision.wanted), (7, 8));
        let decision = autoscaling.decide(now + seconds(2), 7, 500.0, 1.0, true);
        assert_eq!((decision.replicas, decision.wanted), (10, 10));
    }

    #[test]
    fn pods_at_most_double_or_come_by_fours_in_a_period() {
        let limits = Limits::defaults(1, 100);
        // second, current → replicas, for 100 wished. Pods added earlier in the same 15 s count.
        let table = [
            (0, 1, 5),
            (5, 5, 5),
            (14, 5, 5),
            (15, 5, 10),
            (30, 10, 20),
            (45, 20, 40),
        ];
        let mut autoscaling = Autoscaling::new(limits);
        for (second, current, replicas) in table {
            let decision = autoscaling.decide(seconds(second), current, 100.0, 1.0, true);
            assert_eq!(
                (decision.replicas, decision.why),
                (replicas, Why::ScaleUpPolicy),
                "second {second}"
            );
        }
    }

    #[test]
    fn scaling_down_waits_for_the_window_and_stops_at_min() {
        let mut autoscaling = Autoscaling::new(LIMITS);
        let start = Duration::ZERO;
        assert_eq!(
            autoscaling.decide(start, 3, 3.0, 1.0, true).why,
            Why::Tolerance
        );
        let table = [
            (1, 2.0, 3, 2, Why::Stabilising(seconds(5))),
            (5, 2.0, 3, 2, Why::Stabilising(seconds(1))),
            (6, 2.0, 3, 2, Why::Stabilising(seconds(0))),
            (7, 2.0, 2, 2, Why::Metric),
        ];
        for (second, value, replicas, wanted, why) in table {
            let decision = autoscaling.decide(start + seconds(second), 3, value, 1.0, true);
            assert_eq!(
                decision,
                Decision {
                    replicas,
                    wanted,
                    why
                },
                "second {second}"
            );
        }
        // From two to what min allows: the wishes for two hold for a window first.
        assert_eq!(
            autoscaling
                .decide(start + seconds(8), 2, 0.0, 1.0, true)
                .replicas,
            2
        );
        assert_eq!(
            autoscaling
                .decide(start + seconds(14), 2, 0.0, 1.0, true)
                .replicas,
            1
        );
    }

    #[test]
    fn the_replicas_found_first_hold_for_a_window() {
        let mut autoscaling = Autoscaling::new(LIMITS);
        let start = Duration::ZERO;
        assert_eq!(
            autoscaling.decide(start, 4, 2.0, 1.0, true).why,
            Why::Stabilising(seconds(6))
        );
        assert_eq!(
            autoscaling
                .decide(start + seconds(7), 4, 2.0, 1.0, true)
                .replicas,
            2
        );
    }

    #[test]
    fn a_short_dip_changes_nothing() {
        let mut autoscaling = Autoscaling::new(LIMITS);
        let start = Duration::ZERO;
        for (second, value) in [(0, 3.0), (1, 2.0), (2, 2.0), (3, 3.0), (7, 2.0), (8, 3.0)] {
            let decision = autoscaling.decide(start + seconds(second), 3, value, 1.0, true);
            assert_eq!(decision.replicas, 3, "second {second}");
        }
    }

    #[test]
    fn activity_alone_decides_between_zero_and_one() {
        let mut autoscaling = Autoscaling::new(Limits { min: 0, ..LIMITS });
        let start = Duration::ZERO;
        // The metric is far over target, and still nothing runs while inactive.
        assert_eq!(autoscaling.decide(start, 0, 50.0, 1.0, false).replicas, 0);
        let decision = autoscaling.decide(start, 0, 0.0, 1.0, true);
        assert_eq!((decision.replicas, decision.why), (1, Why::Activated));
        // Inactive: one replica stays for the cooldown, the HPA has nothing below one.
        assert_eq!(
            autoscaling
                .decide(start + seconds(1), 1, 0.0, 1.0, false)
                .replicas,
            1
        );
        assert_eq!(
            autoscaling
                .decide(start + seconds(5), 1, 0.0, 1.0, false)
                .replicas,
            1
        );
        let decision = autoscaling.decide(start + seconds(6), 1, 0.0, 1.0, false);
        assert_eq!((decision.replicas, decision.why), (0, Why::Idle));
    }

    #[test]
    fn activation_starts_min_replicas() {
        let mut autoscaling = Autoscaling::new(Limits { min: 3, ..LIMITS });
        assert_eq!(
            autoscaling
                .decide(Duration::ZERO, 0, 1.0, 1.0, true)
                .replicas,
            3
        );
    }
}
