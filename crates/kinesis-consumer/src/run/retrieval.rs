//! Fetching ahead of the processor: one task per shard, bounded in bytes.
//!
//! Polling and enhanced fan-out send the same [`Fetched`], and share a [`Cursor`]: where reading
//! stands, what retention took, how a page is taken apart.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    decide::aggregation::{Unfit, user_records},
    face::{config, error::Error},
    model::{
        lease::Lease,
        record::{Batch, Record},
        shard::ChildShard,
    },
    run::{
        budget::{PageRoom, Share},
        context::Context,
        stream::Stream,
    },
};

mod consumer;
mod cursor;
mod fan_out;
mod gap;
mod hand;
mod limit;
mod polling;
mod quota;
mod unpack;

use cursor::{Cursor, Stop};
use fan_out::{FanOut, Outcome};
use polling::Polling;

pub(crate) use hand::Hand;

/// What the fetching task found, in order.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Records.
    Batch {
        /// Never empty.
        batch: Batch,
        /// Their memory, held until they are processed.
        room: Held,
    },
    /// An aggregate that is not delivered record by record.
    Unfit {
        /// The aggregate, whole.
        unfit: Unfit,
        /// As a batch's.
        room: Held,
    },
    /// The closed shard's end.
    End(Vec<ChildShard>),
    /// The worker cannot go on.
    Failed(Error),
}

/// Memory of records, until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _of_shard: OwnedSemaphorePermit,
    _of_page: PageRoom,
    /// What an aggregate was taken apart into.
    _of_parts: Option<OwnedSemaphorePermit>,
}

/// The fetching task of one shard; ends when dropped, and gives back what is not settled.
#[derive(Debug)]
pub(crate) struct Fetching {
    fetched: mpsc::Receiver<Fetched>,
    hand: Arc<Hand>,
    _task: AbortOnDropHandle<()>,
}

impl Fetching {
    /// Fetches from where `lease` stands.
    pub(crate) fn start(context: Arc<Context>, stream: Arc<Stream>, lease: &Lease) -> Self {
        // Bytes bound the prefetch; the channel is long enough not to, also for small pages.
        let (sender, fetched) = mpsc::channel(64);
        let hand = Arc::new(Hand::new(Arc::clone(&context), lease.key.clone()));
        let out = Output {
            sender,
            hand: Arc::clone(&hand),
            share: context.budget.share(),
            budget: u32::try_from(context.config.prefetch_bytes.max(1)).unwrap_or(u32::MAX),
            room: Arc::new(Semaphore::new(0)),
        };
        out.room.add_permits(out.budget as usize);
        let cursor = Cursor::new(context, stream, lease, out);
        Self {
            fetched,
            hand,
            _task: AbortOnDropHandle::new(tokio::spawn(run(cursor))),
        }
    }

    /// What was fetched next. `None`: after the end or a failure, or the task panicked.
    pub(crate) async fn next(&mut self) -> Option<Fetched> {
        self.fetched.recv().await
    }

    /// What is fetched and not settled yet.
    pub(crate) fn hand(&self) -> Arc<Hand> {
        Arc::clone(&self.hand)
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.hand.close();
    }
}

/// Fetches up to the shard's end.
async fn run(cursor: Cursor) {
    let sender = cursor.out.sender.clone();
    let last = match read(cursor).await {
        Ok(children) => Fetched::End(children),
        Err(Stop::Failed(error)) => Fetched::Failed(error),
        Err(Stop::Gone) => return,
    };
    // An error means that nobody listens any more.
    let _ = sender.send(last).await;
}

async fn read(cursor: Cursor) -> Result<Vec<ChildShard>, Stop> {
    let cursor = match cursor.context.config.retrieval.clone() {
        config::Retrieval::Polling => cursor,
        config::Retrieval::FanOut(fan_out) => match FanOut::new(cursor, fan_out).read().await? {
            Outcome::End(children) => return Ok(children),
            Outcome::NoConsumer(cursor) => *cursor,
        },
    };
    Polling::new(cursor).read().await
}

/// The consumer is gone.
#[derive(Debug)]
struct Gone;

/// Of a page, and of what aggregates in it were taken apart into.
type Memory = (PageRoom, Option<OwnedSemaphorePermit>);

/// Where a fetching task puts what it fetched.
#[derive(Debug)]
struct Output {
    sender: mpsc::Sender<Fetched>,
    hand: Arc<Hand>,
    share: Share,
    room: Arc<Semaphore>,
    budget: u32,
}

impl Output {
    /// Is everything that was fetched processed?
    fn is_drained(&self) -> bool {
        self.room.available_permits() == self.budget as usize
    }

    /// The bytes of a page to ask for: of many shards one that is behind still reads as fast as it
    /// may, with five pages a second.
    fn page_bytes(&self) -> usize {
        let fair = LEAST_PAGE.max(self.share.bytes() / 2);
        fair.min(self.budget as usize)
    }

    /// Waits until what is fetched and not processed takes no more than the shard's share.
    async fn until_within_share(&self) -> Result<(), Gone> {
        let share = u32::try_from(self.share.bytes()).unwrap_or(u32::MAX);
        let free = self.budget.saturating_sub(share);
        let free = self.room.acquire_many(free).await;
        free.map(drop).map_err(|_| Gone)
    }

    async fn batch(&self, batch: Batch, memory: Memory) -> Result<(), Gone> {
        let room = self.held(&batch.records, memory).await?;
        self.send(Fetched::Batch { batch, room }).await
    }

    async fn unfit(&self, unfit: Unfit, memory: Memory) -> Result<(), Gone> {
        let records = std::slice::from_ref(&unfit.record);
        let room = self.held(records, memory).await?;
        self.send(Fetched::Unfit { unfit, room }).await
    }

    /// Waits for room of the shard's. What is larger than all of it waits for all of it.
    async fn held(&self, records: &[Record], memory: Memory) -> Result<Held, Gone> {
        let bytes = records.iter().map(footprint).sum::<usize>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.budget);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        let (_of_page, _of_parts) = memory;
        Ok(Held {
            _of_shard: room.await.map_err(|_| Gone)?,
            _of_page,
            _of_parts,
        })
    }

    async fn send(&self, fetched: Fetched) -> Result<(), Gone> {
        self.sender.send(fetched).await.map_err(|_| Gone)
    }
}

const LEAST_PAGE: usize = 512 << 10;
/// The next answer is expected to have so many bytes at the least.
const LEAST_EXPECTED: usize = 16 << 10;

/// Its sequence number, and what the allocator adds.
const ALLOCATIONS: usize = 128;

/// About the bytes that a record takes in memory.
fn footprint(record: &Record) -> usize {
    size_of::<Record>() + ALLOCATIONS + record.partition_key.len() + record.data.len()
}

/// About the bytes that the user records of an aggregate take beside their data and their sequence
/// number, which are the aggregate's. 0: it is none.
fn parts(record: &Record) -> usize {
    let (users, texts) = user_records(record);
    users * part(texts)
}

/// The same of one of them that has so many bytes of texts.
fn part(texts: usize) -> usize {
    size_of::<Record>() + TEXTS + texts
}

/// What the allocator adds to a user record's texts.
const TEXTS: usize = 48;
