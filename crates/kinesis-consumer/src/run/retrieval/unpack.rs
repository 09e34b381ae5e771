//! A page or an event, taken apart piece by piece: no more of it at a time than there is room for.

use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    cursor::{Cursor, Stop},
    footprint, part, parts,
};
use crate::{
    decide::aggregation::{Aggregate, Carried, open},
    face::event::Event,
    model::{
        record::{Batch, Record},
        sequence::Checkpoint,
    },
    run::budget::PageRoom,
};

/// What aggregates are taken apart into is delivered from so many bytes on, also in the middle of
/// one.
const PIECE: usize = 1 << 20;

/// What was read: a page, or an event.
pub(super) struct Arrival {
    pub(super) records: Vec<Record>,
    pub(super) millis_behind_latest: i64,
    /// AWS's time before it was waited for: what it says of the tip is not older.
    asked: Option<Timestamp>,
    /// What the records take.
    pub(super) bytes: usize,
    /// What aggregates in them take apart.
    pub(super) parts: usize,
}

impl Arrival {
    pub(super) fn new(
        records: Vec<Record>,
        millis_behind_latest: i64,
        asked: Option<Timestamp>,
    ) -> Self {
        Self {
            asked,
            bytes: records.iter().map(footprint).sum(),
            parts: records.iter().map(parts).sum(),
            records,
            millis_behind_latest,
        }
    }
}

/// An arrival on its way to the processor.
struct Unpacking {
    room: PageRoom,
    millis_behind_latest: i64,
    /// Its first record, until that was judged.
    first: Option<Option<Record>>,
    /// User records that the checkpoint does not cover.
    left: usize,
    /// What comes next, and the memory of what aggregates in it were taken apart into.
    records: Vec<Record>,
    parts: Option<OwnedSemaphorePermit>,
    parts_bytes: usize,
}

impl Cursor {
    pub(super) async fn deliver(&mut self, arrival: Arrival, room: PageRoom) -> Result<(), Stop> {
        let carriers = arrival.records;
        if let (Some(first), Some(last)) = (carriers.first(), carriers.last()) {
            self.doubt_old(first);
            self.last_fetched = Some(last.sequence_number.clone());
            self.read_until = last.arrival;
        }
        if arrival.millis_behind_latest == 0 {
            self.read_until = self.read_until.max(arrival.asked);
        }
        room.hold(arrival.bytes);
        let mut page = Unpacking {
            room,
            millis_behind_latest: arrival.millis_behind_latest,
            first: Some(carriers.first().cloned()),
            left: 0,
            records: Vec::new(),
            parts: None,
            parts_bytes: 0,
        };
        if arrival.parts == 0 {
            page.records = carriers;
        } else {
            self.take_apart(carriers, &mut page).await?;
        }
        self.pass_on(&mut page).await?;
        // While earlier records wait for the processor, the tip of what is read is not where the
        // processor stands.
        if page.left == 0 && self.out.is_drained() {
            self.context.report(Event::Polled {
                shard: self.key.clone(),
                millis_behind_latest: page.millis_behind_latest,
            });
        }
        Ok(())
    }

    async fn take_apart(
        &mut self,
        carriers: Vec<Record>,
        page: &mut Unpacking,
    ) -> Result<(), Stop> {
        for carrier in carriers {
            match open(carrier, self.range) {
                Carried::Plain(record) => page.records.push(record),
                Carried::Users(aggregate) => self.take_users(aggregate, page).await?,
                Carried::Unfit(unfit) if self.context.config.deliver_unfit_aggregates => {
                    page.records.push(unfit.record);
                }
                // In its place: after the records before it, and before those behind it.
                Carried::Unfit(unfit) => {
                    self.pass_on(page).await?;
                    let is_covered = is_covered(&self.checkpoint, &unfit.record);
                    let covered = if is_covered { unfit.users } else { 0 };
                    self.out.hand.fetch(unfit.users, covered)?;
                    self.judge_first(page).await?;
                    page.left += unfit.users - covered;
                    if !is_covered {
                        self.out.unfit(unfit, (page.room.clone(), None)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn take_users(
        &mut self,
        mut aggregate: Aggregate,
        page: &mut Unpacking,
    ) -> Result<(), Stop> {
        let each = part(aggregate.texts());
        while aggregate.left() > 0 {
            let users = aggregate.left().min((PIECE / each).max(1));
            let bytes = users * each;
            if page.parts_bytes + bytes > PIECE {
                self.pass_on(page).await?;
            }
            let room = match self.out.share.try_parts(bytes) {
                Some(room) => room,
                None => {
                    self.pass_on(page).await?;
                    self.out.share.parts(bytes).await
                }
            };
            match &mut page.parts {
                Some(parts) => parts.merge(room),
                none => *none = Some(room),
            }
            page.parts_bytes += bytes;
            aggregate.take(users, &mut page.records);
        }
        Ok(())
    }

    /// Sends the records at hand to the processor.
    async fn pass_on(&mut self, page: &mut Unpacking) -> Result<(), Stop> {
        let mut records = std::mem::take(&mut page.records);
        let parts = page.parts.take();
        page.parts_bytes = 0;
        let fetched = records.len();
        // Only the first records after a resumption can be covered.
        let covered = records.iter();
        let covered = covered.take_while(|record| is_covered(&self.checkpoint, record));
        let covered = covered.count();
        records.drain(..covered);
        page.left += records.len();
        if fetched > 0 {
            self.out.hand.fetch(fetched, covered)?;
        }
        self.judge_first(page).await?;
        if !records.is_empty() {
            let batch = Batch {
                records,
                millis_behind_latest: page.millis_behind_latest,
            };
            self.out.batch(batch, (page.room.clone(), parts)).await?;
        }
        Ok(())
    }

    /// Before the first record of a page goes on.
    async fn judge_first(&mut self, page: &mut Unpacking) -> Result<(), Stop> {
        match page.first.take() {
            Some(first) => {
                let behind = page.millis_behind_latest;
                self.confirm_since(first.as_ref(), behind).await?;
                self.confirm_resumption(first, page.millis_behind_latest)
                    .await
            }
            None => Ok(()),
        }
    }
}

fn is_covered(checkpoint: &Checkpoint, record: &Record) -> bool {
    checkpoint.position().is_some_and(|done| {
        (&record.sequence_number, record.sub_sequence_number)
            <= (&done.sequence_number, done.sub_sequence_number)
    })
}
