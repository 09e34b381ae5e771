//! Is there a record after a shard's checkpoint, and since when? Pure: says what to ask next, and
//! concludes from the answers.
//!
//! A checkpoint is the pair of a sequence number and a sub-sequence number: what is after the
//! number is not all that is after the checkpoint, which may be within a KPL aggregate. Workers
//! resume at its number; where nobody holds the lease, the checkpointed record itself is looked at,
//! once.
//!
//! A record that is there decides, never MillisBehindLatest alone: it is 0 too when the one record
//! of a page is the last, and stays high for ever where an old checkpoint meets an idle stream.
//! Empty pages are followed as long as they lead somewhere.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use kinesis_consumer::{Checkpoint, lease::Lease, shards::StartFrom};

use crate::source::shards::{Peek, ReadError};

#[cfg(test)]
mod tests;

/// Empty pages in a row that brought us no nearer to the tip, before they are taken for all there
/// is.
const PINNED: u32 = 5;

/// An empty page must bring us this much nearer to the tip, in milliseconds, to count as leading
/// somewhere.
const NEARER: i64 = 1_000;

/// What is there after the checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// A record.
    Unread {
        /// When the oldest one arrived.
        since: Timestamp,
        /// The checkpoint is older than the retention period: records may be lost to the
        /// application.
        expired: bool,
    },
    /// Nothing.
    CaughtUp,
    /// Nothing, and nothing will come: the shard is closed, and somebody must write SHARD_END. One
    /// unit of work.
    Drained,
}

/// The least that a stream keeps its records. A record found unread may expire after this time, and
/// then no checkpoint ever passes it.
const LEAST_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// One shard, as far as it was probed.
#[derive(Clone, Debug)]
pub struct Probe {
    position: Position,
    closed: bool,
    /// Does a worker read the shard? It has the remainder of an aggregate, too.
    held: bool,
    /// The checkpointed record has no remainder, or is gone.
    no_remainder: bool,
    verdict: Option<Verdict>,
    /// The position that the verdict is about.
    about: Option<Position>,
    /// Where the next page is, if the last one was empty.
    iterator: Option<String>,
    from: Where,
    /// The nearest to the tip that empty pages brought us, in milliseconds.
    nearest: Option<i64>,
    pinned: u32,
    in_the_way: Option<&'static str>,
    /// Is the time from which on records count still to come?
    is_to_come: bool,
}

/// Where a walk along pages began.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Where {
    /// At the checkpoint.
    Checkpoint,
    /// At the oldest record: empty pages after the checkpoint led nowhere, as far as this iterator.
    HorizonAfterEmptyPages(String),
    /// At the oldest record: Kinesis takes the checkpoint for none of this shard's, or for older
    /// than what it keeps.
    HorizonAfterRefusal,
}

/// How far the application is, as far as reading is concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Position {
    checkpoint: Checkpoint,
    /// From when on records count, where it is LATEST or AT_TIMESTAMP.
    latest_since: Option<Timestamp>,
}

/// What to ask next about a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// An iterator from there, and then what it points at.
    From(StartFrom),
    /// What this iterator points at.
    At(String),
}

impl Probe {
    /// Nothing asked yet. `start`: where a shard without a lease will be started.
    pub fn new(lease: Option<&Lease>, start: Option<&Checkpoint>, closed: bool) -> Self {
        Self {
            position: Position::from_lease(lease, start),
            closed,
            held: true,
            no_remainder: false,
            verdict: None,
            about: None,
            iterator: None,
            from: Where::Checkpoint,
            nearest: None,
            pinned: 0,
            in_the_way: None,
            is_to_come: false,
        }
    }

    /// What shards and leases say now. A moved checkpoint calls for a new probe; until then the
    /// last verdict holds.
    pub fn follow(&mut self, lease: Option<&Lease>, start: Option<&Checkpoint>, closed: bool) {
        let position = Position::from_lease(lease, start);
        if position != self.position {
            *self = Self {
                verdict: self.verdict.take(),
                about: self.about.take(),
                position,
                held: self.held,
                ..Self::new(None, None, closed)
            };
        }
        self.closed = closed;
    }

    /// Does a worker hold the lease? Assumed so until it is said.
    pub fn hold(&mut self, held: bool) {
        let was_held = std::mem::replace(&mut self.held, held);
        if was_held && self.wants_remainder() && !self.is_outdated() {
            // Read from the record after the checkpoint's on.
            self.begin(Where::Checkpoint);
        }
    }

    fn wants_remainder(&self) -> bool {
        let is_a_record = self.position.checkpoint.position().is_some();
        is_a_record && !self.held && !self.no_remainder
    }

    /// The page has the checkpointed record: is it all processed? Then the next page is what
    /// counts.
    pub fn pass(&mut self, peek: &mut Peek) -> Option<Next> {
        let (number, _) = peek.record.as_ref()?;
        let done = self.position.checkpoint.position()?;
        if *number != done.sequence_number || peek.last_sub > done.sub_sequence_number {
            return None;
        }
        self.no_remainder = true;
        peek.record = None;
        peek.next_iterator.clone().map(Next::At)
    }

    /// The last verdict.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The checkpoint that the last verdict is about.
    pub fn about(&self) -> Option<&Checkpoint> {
        self.about.as_ref().map(|about| &about.checkpoint)
    }

    /// Is the verdict older than the last probe, because that brought none?
    pub fn is_stale(&self) -> bool {
        self.is_outdated() || self.in_the_way.is_some()
    }

    fn is_outdated(&self) -> bool {
        self.about.as_ref() != Some(&self.position)
    }

    /// What to ask now, by AWS's time; `None`: the verdict stands until the checkpoint moves.
    pub fn ask(&mut self, now: Timestamp) -> Option<Next> {
        let stands = match &self.verdict {
            Some(Verdict::Unread { since, .. }) => now.duration_since(*since) < LEAST_RETENTION,
            Some(Verdict::Drained) => true,
            Some(Verdict::CaughtUp) | None => false,
        };
        if stands && !self.is_outdated() {
            return None;
        }
        if let Some(iterator) = &self.iterator {
            return Some(Next::At(iterator.clone()));
        }
        if self.from != Where::Checkpoint {
            return Some(Next::From(StartFrom::TrimHorizon));
        }
        let Position {
            checkpoint,
            latest_since,
        } = &self.position;
        match (checkpoint, latest_since) {
            // Only the application's configuration has the time, unless the trigger repeats it.
            // Reading from the oldest record on may report too much, never too little.
            (Checkpoint::TrimHorizon, _) | (Checkpoint::AtTimestamp, None) => {
                Some(Next::From(StartFrom::TrimHorizon))
            }
            // Kinesis has no iterator for a time to come.
            (Checkpoint::AtTimestamp, Some(since)) if *since > now => {
                self.conclude(Verdict::CaughtUp);
                self.is_to_come = true;
                None
            }
            (Checkpoint::Latest | Checkpoint::AtTimestamp, Some(since)) => {
                Some(Next::From(StartFrom::AtTimestamp(*since)))
            }
            (Checkpoint::At(position), _) if self.wants_remainder() => Some(Next::From(
                StartFrom::AtSequenceNumber(position.sequence_number.clone()),
            )),
            (Checkpoint::At(position), _) => Some(Next::From(StartFrom::AfterSequenceNumber(
                position.sequence_number.clone(),
            ))),
            // Only what arrives while a worker reads counts: nothing is unread by definition.
            (Checkpoint::Latest, None) | (Checkpoint::ShardEnd, _) => {
                self.conclude(Verdict::CaughtUp);
                None
            }
        }
    }

    /// The iterator at hand is too old to be used: the next probe starts at the checkpoint.
    pub fn forget_iterator(&mut self) {
        self.begin(Where::Checkpoint);
    }

    /// Starts a new walk along pages.
    fn begin(&mut self, from: Where) {
        self.from = from;
        self.iterator = None;
        self.nearest = None;
        self.pinned = 0;
    }

    /// Is this shard in the middle of empty pages, without any verdict? Then it is worth asking
    /// again soon.
    pub fn is_under_way(&self) -> bool {
        self.verdict.is_none() && self.iterator.is_some()
    }

    /// What asking for an iterator from the checkpoint brought. `true`: it was refused, ask
    /// [`Probe::ask`] again at once.
    pub fn no_iterator(&mut self, error: &ReadError) -> bool {
        if matches!(error, ReadError::InvalidPosition) && self.from == Where::Checkpoint {
            if self.position.latest_since.is_some() {
                // Of times Kinesis refuses none but those to come, by its own clock.
                self.in_the_way = Some(
                    "Kinesis refuses the time from which on records count (InvalidArgument), as if it were to come: it is asked again",
                );
                return false;
            }
            self.begin(Where::HorizonAfterRefusal);
            return true;
        }
        self.failed(error);
        false
    }

    /// No page. An iterator that is of no use is forgotten; what was known stays.
    pub fn failed(&mut self, error: &ReadError) {
        self.in_the_way = Some(match error {
            ReadError::Throttled => {
                "throttled: the shard's readers use up its quota, so the last verdict stays"
            }
            ReadError::Gone => "the shard is gone; the next list of shards will say so",
            ReadError::ExpiredIterator | ReadError::InvalidPosition => {
                self.begin(Where::Checkpoint);
                "the iterator expired; the next one starts at the checkpoint"
            }
            ReadError::Failed(_) => "it could not be asked, so the last verdict stays",
        });
    }

    /// What a page brought.
    pub fn answered(&mut self, peek: Peek, now: Timestamp) {
        self.in_the_way = None;
        let Peek {
            record,
            last_sub,
            next_iterator,
            millis_behind_latest,
        } = peek;
        match (record, next_iterator) {
            (Some((number, arrival)), _) => {
                let done = self.position.checkpoint.position();
                let is_read = done.is_some_and(|done| {
                    (&number, last_sub) <= (&done.sequence_number, done.sub_sequence_number)
                        || number < done.sequence_number
                });
                match std::mem::replace(&mut self.from, Where::Checkpoint) {
                    // The checkpoint is within what the stream keeps, and pages after it were
                    // empty: on with those.
                    Where::HorizonAfterEmptyPages(next) if is_read => {
                        self.conclude(Verdict::CaughtUp);
                        self.iterator = Some(next);
                    }
                    // Records after the checkpoint were not probed yet.
                    Where::HorizonAfterRefusal if is_read => {
                        self.begin(Where::Checkpoint);
                        self.in_the_way = Some(
                            "Kinesis refuses the checkpoint's sequence number (InvalidArgument), although older records are there: is it another stream's?",
                        );
                    }
                    from => self.conclude(Verdict::Unread {
                        since: arrival.unwrap_or(now),
                        expired: from != Where::Checkpoint,
                    }),
                }
            }
            (None, None) => self.conclude(Verdict::Drained),
            (None, Some(next)) if millis_behind_latest <= 0 => {
                self.conclude(Verdict::CaughtUp);
                self.iterator = Some(next);
            }
            (None, Some(next)) => self.empty_page(next, millis_behind_latest),
        }
    }

    /// An empty page that is not at the tip: unread records behind a gap, or an idle stream.
    fn empty_page(&mut self, next: String, behind: i64) {
        let nearer = self
            .nearest
            .is_none_or(|nearest| behind + NEARER <= nearest);
        self.pinned = if nearer { 0 } else { self.pinned + 1 };
        self.nearest = Some(self.nearest.map_or(behind, |nearest| nearest.min(behind)));
        if self.pinned < PINNED {
            self.iterator = Some(next);
            return;
        }
        let is_a_record = self.position.checkpoint.position().is_some();
        match std::mem::replace(&mut self.from, Where::Checkpoint) {
            Where::Checkpoint if is_a_record => self.begin(Where::HorizonAfterEmptyPages(next)),
            from => {
                self.conclude(Verdict::CaughtUp);
                // Records may follow this gap: the walk goes on, a page a refresh.
                self.iterator = Some(match from {
                    Where::HorizonAfterEmptyPages(after_checkpoint) => after_checkpoint,
                    Where::Checkpoint | Where::HorizonAfterRefusal => next,
                });
            }
        }
    }

    fn conclude(&mut self, verdict: Verdict) {
        // Nothing comes any more, and somebody must write SHARD_END.
        let ended = self.closed && verdict == Verdict::CaughtUp;
        self.verdict = Some(if ended { Verdict::Drained } else { verdict });
        self.about = Some(self.position.clone());
        self.begin(Where::Checkpoint);
        self.in_the_way = None;
        self.is_to_come = false;
    }

    /// The verdict's reason, or what is in the way of one, in words.
    pub fn why(&self) -> Cow<'static, str> {
        if let Some(in_the_way) = self.in_the_way {
            return in_the_way.into();
        }
        let checkpoint = &self.position.checkpoint;
        let said = match (&self.verdict, checkpoint) {
            (Some(Verdict::Unread { expired: true, .. }), _) => {
                "the checkpoint is older than the stream's retention period: records may be lost to the application"
            }
            (Some(Verdict::Unread { .. }), Checkpoint::AtTimestamp)
                if self.position.latest_since.is_none() =>
            {
                "AT_TIMESTAMP, whose time only the application knows, and initialTimestamp does not say: read from the oldest record on"
            }
            (
                Some(Verdict::Unread { .. } | Verdict::CaughtUp),
                Checkpoint::Latest | Checkpoint::AtTimestamp,
            ) => return self.why_counted(checkpoint).into(),
            (Some(Verdict::Unread { .. }), _) => "a record is there after the checkpoint",
            (Some(Verdict::CaughtUp), _) => "nothing after the checkpoint",
            (Some(Verdict::Drained), _) => {
                "closed and read to its end: a worker has yet to write SHARD_END"
            }
            (None, _) if self.from != Where::Checkpoint => {
                "the checkpoint led nowhere: following empty pages from the oldest record on"
            }
            (None, _) if self.iterator.is_some() => "following empty pages",
            (None, _) => "not asked yet",
        };
        said.into()
    }
}

impl Probe {
    /// A start at LATEST or AT_TIMESTAMP says nothing of earlier records.
    fn why_counted(&self, start: &Checkpoint) -> String {
        let found = match self.verdict {
            Some(Verdict::Unread { .. }) => "a record arrived",
            Some(Verdict::CaughtUp | Verdict::Drained) | None => "nothing arrived",
        };
        match self.position.latest_since {
            Some(since) if self.is_to_come => {
                format!("{start}: counted from {since:.0} on, which is still to come")
            }
            Some(since) => format!("{start}: counted from {since:.0} on, and {found} since"),
            None => format!("{start}: {found} that counts"),
        }
    }
}

impl Position {
    fn from_lease(lease: Option<&Lease>, start: Option<&Checkpoint>) -> Self {
        let checkpoint = lease.map(|lease| &lease.checkpoint).or(start);
        Self {
            checkpoint: checkpoint.cloned().unwrap_or(Checkpoint::TrimHorizon),
            latest_since: lease.and_then(|lease| lease.latest_since),
        }
    }
}
