//! One knob: what a worker costs, against how soon it notices.

use std::{fmt, str::FromStr, time::Duration};

/// What a worker costs, against how soon it notices: the default of each time in [`Times`].
///
/// Almost all that a worker costs is its renewals, each of which is a write. `Thrifty` writes 40 %
/// of what `Balanced` does, and `Fast` twice as much. Workers of different paces share an
/// application: each lease says how long its holder may be silent.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Pace {
    /// Fewest calls: the leases of a worker that died go on after 25 s.
    Thrifty,
    /// As KCL: after 10 s.
    #[default]
    Balanced,
    /// Soonest: after 5 s, and at the tip a shard is read four times a second.
    Fast,
}

/// The times that trade cost for speed: each as [`Config`](crate::Config) says, or else as its
/// [`Pace`] has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Times {
    /// [`Config::failover_time`](crate::Config::failover_time).
    pub failover_time: Duration,
    /// [`Config::peer_scan_interval`](crate::Config::peer_scan_interval).
    pub peer_scan_interval: Duration,
    /// [`Config::scan_interval`](crate::Config::scan_interval).
    pub scan_interval: Duration,
    /// [`Config::shard_sync_interval`](crate::Config::shard_sync_interval).
    pub shard_sync_interval: Duration,
    /// [`Config::idle_between_reads`](crate::Config::idle_between_reads).
    pub idle_between_reads: Duration,
    /// [`Config::tip_read_interval`](crate::Config::tip_read_interval).
    pub tip_read_interval: Duration,
    /// [`Config::checkpoint_interval`](crate::Config::checkpoint_interval).
    pub checkpoint_interval: Duration,
}

/// The time after which a lease counts as free whose holder does not say another: KCL's default.
pub(crate) const UNSAID_FAILOVER: Duration = Duration::from_secs(10);

/// The time between renewals of a lease whose holder may be silent for so long: 35 % of it, so that
/// two attempts may fail. KCL takes a third; the rest pays for the scans and for the look-out for
/// KCL 3.
pub(crate) fn renew_interval(failover: Duration) -> Duration {
    failover.mul_f64(0.35)
}

impl Pace {
    /// All paces, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Thrifty, Self::Balanced, Self::Fast];

    /// Its times.
    pub fn times(self) -> Times {
        let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
        match self {
            Self::Thrifty => Times {
                // Renewed each 8.75 s: KCL and earlier versions, which expect that within 10 s,
                // see it in time.
                failover_time: seconds(25),
                peer_scan_interval: seconds(4),
                // Less than for how long finished leases are kept.
                scan_interval: seconds(80),
                shard_sync_interval: seconds(300),
                idle_between_reads: seconds(2),
                tip_read_interval: seconds(1),
                // Longer than the time between renewals, which carry checkpoints.
                checkpoint_interval: seconds(10),
            },
            Self::Balanced => Times {
                failover_time: UNSAID_FAILOVER,
                peer_scan_interval: seconds(2),
                scan_interval: seconds(40),
                shard_sync_interval: seconds(120),
                idle_between_reads: seconds(1),
                tip_read_interval: millis(400),
                checkpoint_interval: seconds(5),
            },
            Self::Fast => Times {
                failover_time: seconds(5),
                peer_scan_interval: seconds(1),
                scan_interval: seconds(20),
                shard_sync_interval: seconds(60),
                idle_between_reads: millis(500),
                // Of the quota, which is five, one is left for others.
                tip_read_interval: millis(250),
                checkpoint_interval: seconds(2),
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Thrifty => "thrifty",
            Self::Balanced => "balanced",
            Self::Fast => "fast",
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|pace| pace.name() == text);
        named.ok_or_else(|| "want thrifty, balanced or fast".to_owned())
    }
}
