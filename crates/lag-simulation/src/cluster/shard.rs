//! A shard, its records and its lease.

use super::NOTHING;

/// What a shard takes of its pod is told over about so many seconds, as by the library.
const MEMORY: f64 = 15.0;
/// Before so much of that is seen, in about ten seconds, nothing is told.
const LEAST_SEEN: f64 = 0.49;

/// A shard and its lease.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its id as AWS writes it.
    pub id: String,
    /// Its part of the key space, 0 to 1.
    pub keys: (f64, f64),
    pub(super) parents: Vec<usize>,
    /// Records that had arrived by the end of each second since the stream began.
    pub(super) arrived: Vec<f64>,
    pub(super) open: bool,
    pub(super) finished: bool,
    pub(super) read: f64,
    pub(super) checkpoint: f64,
    pub(super) owner: Option<u32>,
    /// Read by nobody until then.
    pub(super) paused_until: u64,
    /// The first second whose records are not all read, or not all checkpointed: where to look
    /// from.
    pub(super) read_second: usize,
    pub(super) checkpoint_second: usize,
    pub(super) phase: u64,
    /// Its processor fails on a record: nothing is read between these times.
    pub stuck: Option<(u64, u64)>,
    /// What it takes of its pod, 0 to 1, and what is read of it a second, over half a minute or so.
    pub(super) share: f64,
    pub(super) rate: f64,
    /// What its holder has seen: how long, as a part of its memory, and the two, not yet divided by
    /// it.
    pub(super) seen: (f64, f64, f64),
    /// When its lease moved last.
    pub(super) moved: Option<u64>,
}

impl Shard {
    /// Whether records can still arrive.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// As its holder writes it into the lease: what the one before wrote, until it knows.
    pub(super) fn weigh(&mut self, read: f64, capacity: f64) {
        let seen = &mut self.seen;
        seen.0 += (1.0 - seen.0) / MEMORY;
        seen.1 += (read / capacity - seen.1) / MEMORY;
        seen.2 += (read - seen.2) / MEMORY;
        if seen.0 >= LEAST_SEEN {
            (self.share, self.rate) = (seen.1 / seen.0, seen.2 / seen.0);
        }
    }

    /// Its checkpoint becomes what had arrived by that second.
    pub(super) fn set_back(&mut self, second: u64) {
        self.finished = false;
        self.checkpoint = self.checkpoint.min(self.arrived_by(second));
        self.read = self.checkpoint;
        (self.read_second, self.checkpoint_second) = (0, 0);
    }

    pub(super) fn arrived_by(&self, second: u64) -> f64 {
        match second {
            0 => 0.0,
            n => self.arrived[(n as usize - 1).min(self.arrived.len() - 1)],
        }
    }

    /// Records not yet read.
    pub fn backlog(&self) -> f64 {
        if self.finished {
            return 0.0;
        }
        self.arrived
            .last()
            .map_or(0.0, |all| (all - self.read).max(0.0))
    }
}

/// The first second by whose end more than `amount` had arrived, looked for from `from` on.
pub(super) fn first_after(arrived: &[f64], amount: f64, from: usize) -> usize {
    let mut second = from;
    while second < arrived.len() && arrived[second] <= amount + NOTHING {
        second += 1;
    }
    second
}
