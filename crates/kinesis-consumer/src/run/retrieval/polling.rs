//! Polling: GetRecords calls of one shard, paced by AWS's quota while behind and by the idle time
//! at the tip. An iterator that expired is replaced by one after the last fetched record.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    edge::kinesis::{KinesisError, Page},
    model::shard::ChildShard,
    run::{
        budget::{LARGEST_ANSWER, PageRoom},
        reads::Outlook,
        retrieval::{
            LEAST_EXPECTED,
            cursor::{Cursor, Recovery, Stop},
            limit::Limit,
            quota::Quota,
            unpack::Arrival,
        },
    },
};

/// AWS's iterators are good for five minutes.
const ITERATOR_LIFE: Duration = Duration::from_secs(270);
/// An answer that has not begun by then holds no more room than a small one.
const PROMPT: Duration = Duration::from_secs(1);

/// Each empty page at the tip makes the next wait longer by this part of it.
const CALMER: u32 = 32;

pub(super) struct Polling {
    cursor: Cursor,
    /// Pages in a row that did not arrive whole.
    broken_pages: u32,
    limit: Limit,
    quota: Quota,
    /// The time between calls at the tip: longer the longer no records come.
    tip: Duration,
    /// The bytes of the next answer, as far as the last ones tell.
    expected: usize,
    /// Of the next page, by the last.
    outlook: Outlook,
}

/// So many broken pages in a row may be too large for something on the way.
const BROKEN_PAGES: u32 = 3;

/// An iterator, and since when it is good.
struct ShardIterator {
    at: String,
    since: Instant,
}

impl Polling {
    pub(super) fn new(cursor: Cursor) -> Self {
        let config = &cursor.context.config;
        Self {
            broken_pages: 0,
            limit: Limit::new(config.max_records),
            quota: Quota::new(config.read_bytes_per_second),
            tip: config.times().idle_between_reads,
            expected: LARGEST_ANSWER,
            outlook: Outlook::Behind,
            cursor,
        }
    }

    /// Fetches to the shard's end; returns its children.
    pub(super) async fn read(&mut self) -> Result<Vec<ChildShard>, Stop> {
        let mut next_call = Instant::now();
        let mut iterator = None;
        loop {
            let at = match iterator.take() {
                Some(at) => at,
                None => match self.iterator().await? {
                    Some(at) => at,
                    None => match self.cursor.gone().await? {
                        Some(children) => return Ok(children),
                        None => continue,
                    },
                },
            };
            if next_call > Instant::now() {
                sleep_until(next_call).await;
            }
            self.cursor.out.until_within_share().await?;
            let room = self.cursor.out.share.page(self.expected).await;
            let context = Arc::clone(&self.cursor.context);
            let turn = context.reads.turn(self.outlook).await;
            let at = self.renewed(at).await;
            let began = Instant::now();
            let asked = self.cursor.stream.kinesis.now();
            let page = self.page(&at.at, &room).await;
            drop(turn);
            self.outlook = match &page {
                Ok(page) if page.millis_behind_latest == 0 => Outlook::Tip,
                Ok(_) => Outlook::Behind,
                Err(_) => Outlook::Failing,
            };
            match page {
                Ok(mut page) => {
                    self.cursor.stream.call_succeeded("GetShardIterator");
                    self.cursor.stream.call_succeeded("GetRecords");
                    self.cursor.answered();
                    self.broken_pages = 0;
                    let children = std::mem::take(&mut page.children);
                    iterator = page.next_iterator.take().map(ShardIterator::new);
                    next_call = self.next_call(&page, began);
                    let arrival = Arrival::new(page.records, page.millis_behind_latest, asked);
                    self.measure(&arrival, began.elapsed());
                    self.cursor.deliver(arrival, room).await?;
                    if !children.is_empty() && iterator.is_none() {
                        return Ok(children);
                    }
                    if iterator.is_none()
                        && let Some(children) = self.cursor.children().await?
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
                Err(error) => {
                    // Others read while this one waits.
                    drop(room);
                    match self.page_failed(error).await? {
                        Recovery::SameIterator => iterator = Some(at),
                        Recovery::NewIterator => {}
                        Recovery::ShardGone => {
                            if let Some(children) = self.cursor.gone().await? {
                                return Ok(children);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The next page. An answer that does not begin soon keeps no room from other shards.
    async fn page(&self, iterator: &str, room: &PageRoom) -> Result<Page, KinesisError> {
        let kinesis = &self.cursor.stream.kinesis;
        let mut page = kinesis.records_within(iterator, self.limit.get(), room.admission());
        match timeout(PROMPT, &mut page).await {
            Ok(page) => page,
            Err(_) => {
                room.keep_until_answered(LEAST_EXPECTED);
                page.await
            }
        }
    }

    /// What the next page is expected to be, after this one.
    fn measure(&mut self, arrival: &Arrival, took: Duration) {
        // In Base64, and a quarter more for what came meanwhile.
        self.expected = LEAST_EXPECTED.max(arrival.bytes / 3 * 5);
        let bytes = arrival.bytes + arrival.parts;
        let target = self.cursor.out.page_bytes();
        let records = arrival.records.len();
        self.limit.answered(took, records, bytes, target);
    }

    async fn new_iterator(&self) -> Result<ShardIterator, KinesisError> {
        let Cursor { stream, key, .. } = &self.cursor;
        let from = self.cursor.from();
        let iterator = stream.kinesis.shard_iterator(&key.shard, &from).await;
        iterator.map(ShardIterator::new)
    }

    /// The iterator, or a new one where room for the page, or its turn, was so long in coming that
    /// it is too old: the next wait may be as long.
    async fn renewed(&self, iterator: ShardIterator) -> ShardIterator {
        if iterator.since.elapsed() < ITERATOR_LIFE {
            return iterator;
        }
        self.new_iterator().await.unwrap_or(iterator)
    }

    /// An iterator where reading goes on. `None`: the shard is gone.
    async fn iterator(&mut self) -> Result<Option<ShardIterator>, Stop> {
        loop {
            let turn = self.cursor.context.reads.turn(self.outlook).await;
            let iterator = self.new_iterator().await;
            drop(turn);
            if iterator.is_err() {
                self.outlook = Outlook::Failing;
            }
            match iterator {
                Ok(iterator) => return Ok(Some(iterator)),
                Err(error) => {
                    if let Recovery::ShardGone =
                        self.cursor.recover("GetShardIterator", error).await?
                    {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// When the next call may begin, after one that began then and read `page`. An empty page is
    /// the tip only if AWS says so.
    fn next_call(&mut self, page: &Page, began: Instant) -> Instant {
        let config = &self.cursor.context.config;
        self.tip = if page.records.is_empty() {
            self.tip + self.tip / CALMER
        } else {
            config.times().tip_read_interval
        }
        .min(config.times().idle_between_reads);
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
        self.cursor.recover("GetRecords", error).await
    }
}

impl ShardIterator {
    fn new(at: String) -> Self {
        Self {
            at,
            since: Instant::now(),
        }
    }
}
