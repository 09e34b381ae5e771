//! What is known of a source at one moment: values. Fetchers make them; decisions, RPCs and
//! `/explain` read them.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kinesis_consumer::{Checkpoint, ShardId, shards::Readability};
use tokio::time::Instant;

use super::{failure::Failure, probe::Verdict};

/// Clocks that differ by less are taken to agree.
const CLOCK_NOISE: SignedDuration = SignedDuration::from_millis(1500);

/// What is known of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamSnapshot {
    /// When AWS said it.
    pub at: Instant,
    /// The open shards.
    pub open_shards: i64,
}

/// What is known of the work of an application on one stream.
#[derive(Clone, Debug)]
pub struct ApplicationSnapshot {
    /// When shards and leases were read.
    pub at: Instant,
    /// The same in wall time, of the clock that `aws_ahead` is told against.
    pub time: Timestamp,
    /// By how much AWS's clock is ahead of that; `None`: no answer of AWS said its time.
    pub aws_ahead: Option<SignedDuration>,
    /// The lease table.
    pub table: Table,
    /// Since when there is no lease of the stream, as far as was seen; `None`: there are some.
    pub no_leases_since: Option<Instant>,
    /// The longest time between two renewals of a lease; `None`: not known.
    pub rhythm: Option<Duration>,
    /// Was the table looked at only once, and had holders? Then whether they live shows at the next
    /// look, which comes soon.
    pub is_first_look: bool,
    /// Every shard within the retention period, as ListShards has them.
    pub shards: Vec<ShardSnapshot>,
    /// What is known of records that nobody has checkpointed; `None`: nobody asked for it.
    pub lag: Option<Lag>,
}

/// The lease table, as far as it concerns the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Table {
    /// There is no such table.
    Missing,
    /// It is there.
    Read {
        /// Leases of this stream.
        leases: usize,
        /// Of them: of shards that the stream has forgotten.
        unlisted: usize,
        /// Rows of other entities and other streams.
        others: usize,
        /// Of them: leases of a stream that was deleted and made anew since.
        older: usize,
        /// Rows left out because they are broken: key, and what is wrong. Some of them.
        malformed: Vec<(String, String)>,
    },
}

impl Table {
    /// Has the application yet to begin?
    pub(super) fn is_new(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Read { leases, older, .. } => leases + older == 0,
        }
    }
}

/// One shard.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    /// Its id.
    pub id: ShardId,
    /// Does it take no more records?
    pub closed: bool,
    /// The shards that it was made of.
    pub parents: BTreeSet<ShardId>,
    /// Its lease, where the table has one.
    pub lease: Option<LeaseSnapshot>,
    /// Has the table a row for it that cannot be read?
    pub malformed: bool,
    /// May the application read it now?
    pub readability: Readability,
    /// What is there after the checkpoint, where the shard was probed.
    pub probe: Option<ProbeSnapshot>,
}

/// One lease.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSnapshot {
    /// Who holds it.
    pub owner: Option<String>,
    /// Does the holder still renew it? One seen for the first time is believed to.
    pub live: bool,
    /// Was it seen to renew it?
    pub confirmed: bool,
    /// How far the application is.
    pub checkpoint: Checkpoint,
    /// The share of its time that the holder works on it, 0 to 1, where the table says so.
    pub busy: Option<f64>,
}

/// What is there to read after a shard's checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSnapshot {
    /// The last verdict; `None`: there is none yet, or it is certain that it can no longer be had.
    pub verdict: Option<Verdict>,
    /// The checkpoint that the verdict is about.
    pub about: Option<Checkpoint>,
    /// Since when the verdict may be outdated, because later probes brought none: when it was last
    /// known to hold.
    pub as_of: Option<Timestamp>,
    /// At LATEST without a checkpoint: records that arrived from then on count, as far as was seen
    /// from outside.
    pub counted_since: Option<Timestamp>,
    /// Why, or what is in the way of one, in words.
    pub why: Cow<'static, str>,
    /// When the last page came.
    pub asked: Option<Instant>,
}

/// What is known of the application's unread records.
#[derive(Clone, Debug)]
pub struct Lag {
    /// When the shards were last probed, in wall time of the same clock as of the whole.
    pub time: Timestamp,
    /// Readable shards without a verdict yet.
    pub undecided: usize,
    /// Is a shard in the middle of empty pages, so that fetching again soon is worth it?
    pub under_way: bool,
    /// Was there no time to ask every shard that was to be asked?
    pub cut_short: bool,
    /// Shards at LATEST without a checkpoint, and since when what is unread there is known, at the
    /// latest.
    pub latest: Option<(usize, Timestamp)>,
    /// The longest-standing failure of a probe; throttling is none.
    pub failure: Option<Failure>,
    /// Outcomes of all probes since the application is watched.
    pub probes: Probes,
}

/// How often a probe for an unread record brought what, since the application is watched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Probes {
    /// A record.
    pub record: u64,
    /// An empty page.
    pub empty: u64,
    /// The end of a closed shard.
    pub end: u64,
    /// The shard's readers had used up its quota.
    pub throttled: u64,
    /// No answer of use.
    pub failed: u64,
}

impl Probes {
    /// Each count with the name of its outcome.
    pub fn by_outcome(self) -> [(&'static str, u64); 5] {
        let Self {
            record,
            empty,
            end,
            throttled,
            failed,
        } = self;
        [
            ("record", record),
            ("empty", empty),
            ("end", end),
            ("throttled", throttled),
            ("failed", failed),
        ]
    }
}

impl ApplicationSnapshot {
    /// The shards that the application can work on now.
    pub fn readable(&self) -> impl Iterator<Item = &ShardSnapshot> {
        self.shards.iter().filter(|shard| shard.is_readable())
    }

    /// How many shards the application can work on now.
    pub fn readable_count(&self) -> i64 {
        i64::try_from(self.readable().count()).unwrap_or(i64::MAX)
    }

    /// Are and were there no leases, so that nobody knows how far the application got?
    pub fn is_new(&self) -> bool {
        self.table.is_new()
    }

    /// What is known of unread records, where there are leases and their holders are known.
    pub fn known_lag(&self) -> Option<&Lag> {
        let lag = self.lag.as_ref()?;
        (!self.is_new() && !self.is_first_look).then_some(lag)
    }

    /// Does a worker live that holds a lease, as far as is known?
    pub fn has_workers(&self) -> bool {
        let mut leases = self.shards.iter().filter_map(|shard| shard.lease.as_ref());
        leases.any(|lease| lease.live)
    }

    /// That moment in wall time, of the same clock as all times of the snapshot.
    pub fn time_at(&self, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.at);
        self.time.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    /// For how long something is there that arrived at `since`, at `now` of the snapshot's clock:
    /// by AWS's clock, which said when it arrived.
    pub fn age(&self, since: Timestamp, now: Timestamp) -> Duration {
        let ahead = self.aws_ahead.unwrap_or_default();
        // AWS says its time in whole seconds.
        let ahead = match ahead.abs() > CLOCK_NOISE {
            true => ahead,
            false => SignedDuration::ZERO,
        };
        let age = now.duration_since(since).saturating_add(ahead);
        age.try_into().unwrap_or(Duration::ZERO)
    }

    /// Is everything read and checkpointed, as far as is known?
    pub fn is_idle(&self) -> bool {
        self.lag.is_some()
            && self
                .readable()
                .all(|shard| shard.verdict() == Some(&Verdict::CaughtUp))
    }
}

impl ShardSnapshot {
    /// Can the application work on it now?
    pub fn is_readable(&self) -> bool {
        matches!(self.readability, Readability::Readable { .. })
    }

    /// The last verdict on what is there after its checkpoint.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.probe.as_ref()?.verdict.as_ref()
    }

    /// Since when its oldest unread record is there.
    pub fn unread_since(&self) -> Option<Timestamp> {
        match self.verdict()? {
            Verdict::Unread { since, .. } => Some(*since),
            Verdict::CaughtUp | Verdict::Drained => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod examples;
