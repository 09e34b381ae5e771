//! Polling: GetRecords calls of one shard, paced by AWS's quota while behind and by the idle time
//! at the tip.
//!
//! An iterator that expired is replaced by one after the last fetched record. Resuming at a
//! checkpoint reads that very record again (AT_SEQUENCE_NUMBER, as KCL: an aggregate may be half
//! processed) and drops what the checkpoint covers. A record that does not come back was taken by
//! the stream's retention, and so may others have been: [`gap`](super::gap). So may what comes
//! after a record that was fetched long ago.

use std::{sync::Arc, time::Duration};

use backon::ExponentialBackoff;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    decide::shard_sync,
    edge::kinesis::{KinesisError, Page, ShardFilter, StartFrom},
    face::{config::InitialPosition, error::Error},
    model::{
        keys::LeaseKey,
        lease::Lease,
        sequence::{Checkpoint, Position, SequenceNumber},
        shard::{ChildShard, HashRange, Shard},
    },
    run::{
        budget::{LARGEST_ANSWER, PageRoom},
        context::{Context, backoff, pause},
        retrieval::{Fetched, Gone, LEAST_EXPECTED, Output, limit::Limit, quota::Quota},
    },
};

/// AWS's iterators are good for five minutes.
const ITERATOR_LIFE: Duration = Duration::from_secs(270);
/// An answer that has not begun by then holds no more room than a small one.
const PROMPT: Duration = Duration::from_secs(1);

/// Each empty page at the tip makes the next wait longer by this part of it.
const CALMER: u32 = 32;

pub(super) struct Polling {
    pub(super) context: Arc<Context>,
    pub(super) key: LeaseKey,
    /// The hash keys of the shard, unless aggregates are delivered whatever they hold.
    pub(super) range: Option<HashRange>,
    pub(super) checkpoint: Checkpoint,
    /// The checkpointed record, until it came back or nothing is there after it.
    pub(super) unconfirmed: Option<Position>,
    pub(super) start: StartFrom,
    pub(super) last_fetched: Option<SequenceNumber>,
    /// Nothing that arrived before is left to read, as AWS's clock has it.
    pub(super) read_until: Option<Timestamp>,
    /// When it was last looked whether the retention is behind what was fetched.
    pub(super) looked: Option<Instant>,
    /// How often Kinesis refused the position, in a row.
    pub(super) refusals: u32,
    /// Pages in a row that did not arrive whole.
    pub(super) broken_pages: u32,
    pub(super) limit: Limit,
    pub(super) quota: Quota,
    /// The time between calls at the tip: longer the longer no records come.
    pub(super) tip: Duration,
    /// The bytes of the next answer, as far as the last ones tell.
    pub(super) expected: usize,
    pub(super) waits: Waits,
    pub(super) out: Output,
}

/// How long to wait after failed calls in a row.
pub(super) struct Waits {
    pub(super) throttled: ExponentialBackoff,
    pub(super) failed: ExponentialBackoff,
}

/// So many broken pages in a row may be too large for something on the way.
const BROKEN_PAGES: u32 = 3;

/// Where reading goes on, and since when that is good.
struct Cursor {
    at: String,
    since: Instant,
}

/// How to go on after a failed call.
enum Recovery {
    SameIterator,
    NewIterator,
    ShardGone,
}

/// Why polling stops before the shard's end: nobody listens, or the worker cannot go on.
pub(super) enum Stop {
    Gone,
    Failed(Error),
}

impl Polling {
    pub(super) fn new(context: Arc<Context>, lease: &Lease, out: Output) -> Self {
        Self {
            key: lease.key.clone(),
            range: lease
                .hash_range
                .filter(|_| !context.config.deliver_unfit_aggregates),
            checkpoint: lease.checkpoint.clone(),
            unconfirmed: match &lease.checkpoint {
                Checkpoint::At(position) => Some(position.clone()),
                _ => None,
            },
            refusals: 0,
            broken_pages: 0,
            limit: Limit::new(context.config.max_records),
            quota: Quota::new(context.config.read_bytes_per_second),
            tip: context.config.idle_between_reads,
            expected: LARGEST_ANSWER,
            start: start(lease, context.config.initial_position),
            last_fetched: None,
            read_until: None,
            looked: None,
            waits: Waits::new(),
            out,
            context,
        }
    }

    pub(super) async fn run(mut self) {
        let last = match self.poll().await {
            Ok(children) => Fetched::End(children),
            Err(Stop::Failed(error)) => Fetched::Failed(error),
            Err(Stop::Gone) => return,
        };
        // An error means that nobody listens any more.
        let _ = self.out.send(last).await;
    }

    /// Fetches to the shard's end; returns its children.
    async fn poll(&mut self) -> Result<Vec<ChildShard>, Stop> {
        let mut next_call = Instant::now();
        let mut iterator = None;
        loop {
            let at = match iterator.take() {
                Some(at) => at,
                None => match self.iterator().await? {
                    Some(at) => at,
                    None => match self.gone().await? {
                        Some(children) => return Ok(children),
                        None => continue,
                    },
                },
            };
            if next_call > Instant::now() {
                sleep_until(next_call).await;
            }
            self.out.until_within_share().await?;
            let room = self.out.share.page(self.expected).await;
            let at = self.renewed(at).await;
            let began = Instant::now();
            match self.page(&at.at, &room).await {
                Ok(mut page) => {
                    self.context.succeeded("GetShardIterator");
                    self.context.succeeded("GetRecords");
                    self.waits = Waits::new();
                    self.refusals = 0;
                    self.broken_pages = 0;
                    let children = std::mem::take(&mut page.children);
                    iterator = page.next_iterator.take().map(Cursor::new);
                    next_call = self.next_call(&page, began);
                    self.deliver(page, room, began.elapsed()).await?;
                    if !children.is_empty() && iterator.is_none() {
                        return Ok(children);
                    }
                    if iterator.is_none()
                        && let Some(children) = self.children().await?
                    {
                        return Ok(children);
                    }
                }
                Err(KinesisError::NoRoom(_)) => {
                    // AWS counts it as read.
                    let bytes = room.refused().unwrap_or(self.expected);
                    next_call = self.quota.take(bytes, began);
                    self.limit.had_no_room();
                    // It may be one record, which cannot be asked for in parts.
                    self.expected = bytes;
                    iterator = Some(at);
                }
                Err(error) => match self.page_failed(error).await? {
                    Recovery::SameIterator => iterator = Some(at),
                    Recovery::NewIterator => {}
                    Recovery::ShardGone => {
                        if let Some(children) = self.gone().await? {
                            return Ok(children);
                        }
                    }
                },
            }
        }
    }

    /// The next page. An answer that does not begin soon keeps no room from other shards.
    async fn page(&self, iterator: &str, room: &PageRoom) -> Result<Page, KinesisError> {
        let kinesis = &self.context.kinesis;
        let mut page = kinesis.records_within(iterator, self.limit.get(), room.admission());
        match timeout(PROMPT, &mut page).await {
            Ok(page) => page,
            Err(_) => {
                room.keep_until_answered(LEAST_EXPECTED);
                page.await
            }
        }
    }

    async fn new_iterator(&self) -> Result<Cursor, KinesisError> {
        let from = match &self.last_fetched {
            Some(last) => StartFrom::AfterSequenceNumber(last.clone()),
            None => self.start.clone(),
        };
        let kinesis = &self.context.kinesis;
        let iterator = kinesis.shard_iterator(&self.key.shard, &from).await;
        iterator.map(Cursor::new)
    }

    /// The iterator, or a new one where room for the page was so long in coming that it is too old:
    /// the next wait may be as long.
    async fn renewed(&self, iterator: Cursor) -> Cursor {
        if iterator.since.elapsed() < ITERATOR_LIFE {
            return iterator;
        }
        self.new_iterator().await.unwrap_or(iterator)
    }

    /// An iterator where reading goes on. `None`: the shard is gone.
    async fn iterator(&mut self) -> Result<Option<Cursor>, Stop> {
        loop {
            match self.new_iterator().await {
                Ok(iterator) => return Ok(Some(iterator)),
                Err(error) => {
                    if let Recovery::ShardGone = self.recover("GetShardIterator", error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// When the next call may begin, after one that began then and read `page`. An empty page is
    /// the tip only if AWS says so.
    fn next_call(&mut self, page: &Page, began: Instant) -> Instant {
        let config = &self.context.config;
        self.tip = if page.records.is_empty() {
            self.tip + self.tip / CALMER
        } else {
            config.tip_read_interval
        }
        .min(config.idle_between_reads);
        let sizes = page
            .records
            .iter()
            .map(|record| record.partition_key.len() + record.data.len());
        let is_at_tip = page.millis_behind_latest == 0;
        let pause = if is_at_tip {
            self.tip
        } else {
            config.min_read_interval
        };
        self.quota.take(sizes.sum(), began).max(began + pause)
    }

    async fn page_failed(&mut self, error: KinesisError) -> Result<Recovery, Stop> {
        match error {
            KinesisError::Unavailable(_) => self.broken_pages += 1,
            KinesisError::Throttled(_) => self.quota.refused(),
            _ => {}
        }
        if matches!(error, KinesisError::Timeout(_)) || self.broken_pages >= BROKEN_PAGES {
            self.broken_pages = 0;
            self.limit.timed_out();
            self.expected = LEAST_EXPECTED;
        }
        self.recover("GetRecords", error).await
    }

    async fn recover(
        &mut self,
        operation: &'static str,
        error: KinesisError,
    ) -> Result<Recovery, Stop> {
        let recovery = match &error {
            KinesisError::ExpiredIterator(_) => Recovery::NewIterator,
            KinesisError::InvalidSequenceNumber(_) if self.reads_by_number() => {
                self.position_refused().await?;
                Recovery::NewIterator
            }
            KinesisError::NotFound(_) if self.is_gone().await? => return Ok(Recovery::ShardGone),
            // It may be the iterator that is refused, and would be for ever.
            KinesisError::NotFound(_) | KinesisError::Permanent(_) => Recovery::NewIterator,
            _ => Recovery::SameIterator,
        };
        self.context
            .kinesis_failed(Some(&self.key), operation, &error);
        pause(match error {
            KinesisError::Throttled(_) => &mut self.waits.throttled,
            _ => &mut self.waits.failed,
        })
        .await;
        Ok(recovery)
    }

    fn reads_by_number(&self) -> bool {
        self.last_fetched.is_some() || matches!(self.start, StartFrom::AtSequenceNumber(_))
    }

    async fn is_gone(&mut self) -> Result<bool, Stop> {
        Ok(self
            .shards()
            .await?
            .iter()
            .all(|shard| shard.id != self.key.shard))
    }

    /// The children of a shard that the stream no longer lists: what was left to read of it is
    /// gone, too. `None`: it is listed after all.
    async fn gone(&mut self) -> Result<Option<Vec<ChildShard>>, Stop> {
        let children = self.children().await?;
        if children.is_some() {
            self.tell_rest();
        }
        Ok(children)
    }

    /// The children by `ListShards`, where reading came to an end: empty only if the shard itself
    /// is gone, as a closed shard has children. `None`: it is open, so there is more to read.
    async fn children(&mut self) -> Result<Option<Vec<ChildShard>>, Stop> {
        loop {
            let shards = self.shards().await?;
            let children = shard_sync::child_shards(&self.key.shard, &shards);
            let listed = shards.iter().find(|shard| shard.id == self.key.shard);
            let Some(listed) = listed.filter(|_| children.is_empty()) else {
                return Ok(Some(children));
            };
            let is = if listed.closed {
                "closed without children"
            } else {
                "open"
            };
            let text = format!("the shard is read to its end, but ListShards has it {is}");
            let error = KinesisError::Unavailable(text.into());
            self.context
                .kinesis_failed(Some(&self.key), "ListShards", &error);
            if !listed.closed {
                sleep(self.context.config.idle_between_reads).await;
                return Ok(None);
            }
            pause(&mut self.waits.failed).await;
        }
    }

    pub(super) async fn shards(&mut self) -> Result<Vec<Shard>, Stop> {
        loop {
            match self.context.kinesis.list_shards(ShardFilter::All).await {
                Ok(shards) => return Ok(shards),
                Err(error @ KinesisError::NotFound(_)) => {
                    return Err(Stop::Failed(self.context.stream_error(error)));
                }
                Err(error) => {
                    self.context.kinesis_failed(None, "ListShards", &error);
                    pause(&mut self.waits.throttled).await;
                }
            }
        }
    }
}

impl Cursor {
    fn new(at: String) -> Self {
        Self {
            at,
            since: Instant::now(),
        }
    }
}

impl Waits {
    fn new() -> Self {
        Self {
            throttled: backoff(Duration::from_secs(1), Duration::from_secs(10)),
            failed: backoff(Duration::from_millis(200), Duration::from_secs(30)),
        }
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

fn start(lease: &Lease, position: InitialPosition) -> StartFrom {
    match &lease.checkpoint {
        Checkpoint::At(done) => StartFrom::AtSequenceNumber(done.sequence_number.clone()),
        Checkpoint::Latest => lease
            .latest_since
            .map_or(StartFrom::Latest, StartFrom::AtTimestamp),
        Checkpoint::AtTimestamp => match position {
            InitialPosition::AtTimestamp(time) => StartFrom::AtTimestamp(time),
            // The table does not hold the time, and the configuration no longer does: too many
            // records are better than too few.
            InitialPosition::TrimHorizon | InitialPosition::Latest => StartFrom::TrimHorizon,
        },
        Checkpoint::TrimHorizon | Checkpoint::ShardEnd => StartFrom::TrimHorizon,
    }
}
