//! What the stream's retention took: is the checkpointed record still there, and if not, what is
//! the oldest one that is left?
//!
//! AWS answers for a record that is gone in either of two ways: it refuses the number, or reads on
//! at the oldest record. The latter also with the iterators of whoever reads: a processor that
//! failed for days, a reader that was slower than the producers, a retention that was decreased.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use super::cursor::{Cursor, Stop};
use crate::{
    edge::kinesis::{KinesisError, StartFrom},
    face::{error::Error, event::Event},
    model::{
        record::Record,
        sequence::{Checkpoint, Position, SequenceNumber},
        shard::Shard,
    },
    run::{
        context::pause,
        ownership::SURELY_KEPT,
        proof::{First, first_record},
        reads::Outlook,
    },
};

/// Every stream keeps its records for so long.
const LEAST_KEPT: Duration = Duration::from_hours(24);
/// Empty pages from the oldest record on, before the shard is taken for an empty one.
const EMPTY_PAGES: u32 = 10;
/// Refusals in a row of a position that is not older than what the stream keeps, before it is
/// believed to be another stream's.
const REFUSALS: u32 = 3;

/// What is missing between two pages shows in their times of arrival, if it is more than this.
const JUMP: SignedDuration = SignedDuration::from_secs(1);
/// The shortest time between looks without a jump.
const LOOK: Duration = Duration::from_secs(1);

impl Cursor {
    /// What a page goes on after was read long ago, and what came next may be gone: its first
    /// record is judged as after a resumption.
    pub(super) fn doubt_old(&mut self, first: &Record) {
        let (Some(done), Some(until)) = (self.done(), self.read_until) else {
            return;
        };
        let is_kept = |age: Duration| age < SURELY_KEPT;
        if self.stream.age(until).is_none_or(is_kept) || self.unconfirmed.is_some() {
            return;
        }
        let jump = |first: Timestamp| first.duration_since(until) >= JUMP;
        let is_due = |looked: Instant| looked.elapsed() >= LOOK;
        if first.arrival.is_none_or(jump) || self.looked.is_none_or(is_due) {
            self.looked = Some(Instant::now());
            self.unconfirmed = Some(done);
        }
    }

    /// Where reading goes on: after what was fetched last, or after the checkpoint.
    fn done(&self) -> Option<Position> {
        match &self.last_fetched {
            Some(last) => Some(Position {
                sequence_number: last.clone(),
                sub_sequence_number: 0,
            }),
            None => self.checkpoint.position().cloned(),
        }
    }

    /// Judges the first page after a resumption that tells: its first record is the checkpointed
    /// one, or that is gone.
    pub(super) async fn confirm_resumption(
        &mut self,
        first: Option<Record>,
        millis_behind_latest: i64,
    ) -> Result<(), Stop> {
        let is_at_the_tip = millis_behind_latest == 0;
        if let Some(done) = self.refused.take_if(|_| first.is_some() || is_at_the_tip) {
            self.tell_gap(done, first.as_ref());
            return Ok(());
        }
        let Some(done) = self.unconfirmed.take() else {
            return Ok(());
        };
        let Some(first) = first else {
            if !is_at_the_tip {
                self.unconfirmed = Some(done);
            }
            return Ok(());
        };
        if first.sequence_number > done.sequence_number
            && !self.is_there(&done.sequence_number).await?
        {
            let oldest = self.oldest().await?;
            let is_beyond = |oldest: &Record| oldest.sequence_number > done.sequence_number;
            if oldest.as_ref().is_none_or(is_beyond) {
                self.tell_gap(done, Some(&first));
            }
        }
        Ok(())
    }

    /// Judges the first page after a time in place of a position: what arrived since then may be
    /// gone, unless a record from before is still there.
    pub(super) async fn confirm_since(
        &mut self,
        first: Option<&Record>,
        millis_behind_latest: i64,
    ) -> Result<(), Stop> {
        if first.is_none() && millis_behind_latest > 0 {
            return Ok(());
        }
        let Some(since) = self.since.take() else {
            return Ok(());
        };
        let is_kept = |age: Duration| age < LEAST_KEPT;
        if self.stream.age(since).is_none_or(is_kept) {
            return Ok(());
        }
        let oldest = self.oldest().await?;
        let arrival = oldest.as_ref().and_then(|oldest| oldest.arrival);
        if arrival.is_none_or(|arrival| arrival >= since) {
            self.context.report(Event::CheckpointExpired {
                shard: self.key.clone(),
                checkpoint: self.checkpoint.clone(),
                oldest: first.or(oldest.as_ref()).map(Record::position),
                age: arrival.and_then(|arrival| self.stream.age(arrival)),
            });
        }
        Ok(())
    }

    /// The sequence number is refused: its record is older than the retention period, or of another
    /// stream.
    pub(super) async fn position_refused(&mut self) -> Result<(), Stop> {
        let Some(done) = self.done() else {
            return Ok(());
        };
        self.check_stream().await?;
        let oldest = self.oldest().await?;
        if let Some(oldest) = &oldest
            && oldest.sequence_number <= done.sequence_number
        {
            self.refusals += 1;
            return if self.refusals < REFUSALS {
                Ok(())
            } else {
                Err(Stop::Failed(self.impossible(&done).await?))
            };
        }
        // The retention goes on: what is missing shows when there is something in hand.
        self.refused = Some(done);
        self.last_fetched = None;
        self.continuation = None;
        self.unconfirmed = None;
        self.checkpoint = Checkpoint::TrimHorizon;
        self.start = StartFrom::TrimHorizon;
        Ok(())
    }

    /// Fails where the shard begins after what was read of it: the stream was made anew.
    pub(super) async fn check_stream(&mut self) -> Result<(), Stop> {
        let Some(done) = self.done() else {
            return Ok(());
        };
        let shards = self.shards().await?;
        let shard = shards.iter().find(|shard| shard.id == self.key.shard);
        let starts_later = |shard: &Shard| shard.starting_sequence_number > done.sequence_number;
        match shard.is_some_and(starts_later) {
            true => Err(Stop::Failed(self.impossible(&done).await?)),
            false => Ok(()),
        }
    }

    /// Why the position is none of this shard's: where the lease says that it is of this very one,
    /// somebody changed its checkpoint.
    async fn impossible(&mut self, done: &Position) -> Result<Error, Stop> {
        let shards = self.shards().await?;
        let shard = shards.iter().find(|shard| shard.id == self.key.shard);
        Ok(match shard.and_then(|shard| self.is_known_as(shard)) {
            Some(true) => self.stream.wrong_checkpoint(&self.key, done),
            _ => self.stream.recreated(self.key.shard.clone()),
        })
    }

    /// The shard is gone before it was read to its end.
    pub(super) fn tell_rest(&self) {
        match self.refused.clone().or_else(|| self.done()) {
            Some(done) => self.tell_gap(done, None),
            None => self.context.report(Event::CheckpointExpired {
                shard: self.key.clone(),
                checkpoint: self.checkpoint.clone(),
                oldest: None,
                age: None,
            }),
        }
    }

    fn tell_gap(&self, done: Position, oldest: Option<&Record>) {
        let done_number = &done.sequence_number;
        let age = |time| self.stream.age(time);
        if (self.stream.ownership).take_empty(&self.key, done_number, age) {
            return;
        }
        let arrival = oldest.and_then(|oldest| oldest.arrival);
        self.context.report(Event::CheckpointExpired {
            shard: self.key.clone(),
            checkpoint: Checkpoint::At(done),
            oldest: oldest.map(Record::position),
            age: arrival.and_then(|arrival| self.stream.age(arrival)),
        });
    }

    async fn is_there(&mut self, record: &SequenceNumber) -> Result<bool, Stop> {
        loop {
            let at = StartFrom::AtSequenceNumber(record.clone());
            match first_record(&self.context, &self.stream, &self.key.shard, at).await {
                Ok(First::Record(first)) => return Ok(first == *record),
                Ok(First::None) => return Ok(false),
                // The shard or its stream is gone: reading on finds out what that means.
                Ok(First::Over) => return Ok(true),
                Err(error) => {
                    self.stream
                        .call_failed(Some(&self.key), "GetRecords", &error);
                    pause(&mut self.waits.throttled).await;
                }
            }
        }
    }

    /// The oldest record that is left. `None`: there is none.
    async fn oldest(&mut self) -> Result<Option<Record>, Stop> {
        let mut iterator = None;
        let mut empty_pages = 0;
        while empty_pages < EMPTY_PAGES {
            let kinesis = &self.stream.kinesis;
            let from_the_oldest = &StartFrom::TrimHorizon;
            let answer = match iterator.take() {
                Some(at) => Ok(at),
                None => {
                    let _turn = self.context.reads.turn(Outlook::Tip).await;
                    kinesis
                        .shard_iterator(&self.key.shard, from_the_oldest)
                        .await
                }
            };
            let answer = match answer {
                Ok(at) => {
                    let _look = self.context.budget.look().await;
                    let _turn = self.context.reads.turn(Outlook::Tip).await;
                    kinesis.records(&at, 1).await
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok(page) => {
                    if let Some(first) = page.records.into_iter().next() {
                        return Ok(Some(first));
                    }
                    if page.millis_behind_latest == 0 || page.next_iterator.is_none() {
                        return Ok(None);
                    }
                    empty_pages += 1;
                    iterator = page.next_iterator;
                }
                // Reading on finds out what that means.
                Err(KinesisError::NotFound(_)) => return Ok(None),
                Err(error) => {
                    self.stream
                        .call_failed(Some(&self.key), "GetRecords", &error);
                    pause(&mut self.waits.throttled).await;
                }
            }
            sleep(self.context.config.min_read_interval).await;
        }
        Ok(None)
    }
}
