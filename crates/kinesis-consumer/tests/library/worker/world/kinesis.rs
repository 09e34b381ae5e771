//! The world's Kinesis: its stream, and what goes wrong.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kinesis_consumer::{
    KinesisError, ShardId,
    shards::{Shard, StartFrom},
    test_util::{Consumer, Kinesis, Page, ShardFilter, Subscription},
};

use super::{CONSUMERS, LISTS, READ_TIMEOUT, World};

#[async_trait]
impl Kinesis for World {
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<Shard>, KinesisError> {
        match self.refusal(LISTS) {
            Some(error) => Err(error),
            None => Ok(self.stream(|stream| stream.list(filter))),
        }
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<String, KinesisError> {
        let refused = self.0.refused_positions.lock().unwrap().contains(shard);
        match self.refusal(shard.as_str()) {
            Some(error) => Err(error),
            None if refused && matches!(from, StartFrom::AtSequenceNumber(_)) => {
                Err(KinesisError::InvalidSequenceNumber("not ours".into()))
            }
            None => self.stream(|stream| stream.iterator(shard, from)),
        }
    }

    fn now(&self) -> Option<Timestamp> {
        let ahead = SignedDuration::from_secs(self.0.ahead.load(Ordering::Relaxed));
        Some(self.stream(|stream| stream.now()) + ahead)
    }

    fn this_machines_time(&self) -> Option<Timestamp> {
        Some(self.stream(|stream| stream.now()))
    }

    async fn records(&self, iterator: &str, limit: u32) -> Result<Page, KinesisError> {
        let shard = iterator.split(' ').next().unwrap();
        self.0
            .reads
            .lock()
            .unwrap()
            .push((shard.into(), self.now()));
        if self.is_broken(iterator) {
            return Err(KinesisError::Permanent("InvalidArgument".into()));
        }
        match self.refusal(shard) {
            Some(error) => Err(error),
            None => {
                let pages = &self.0.empty_pages;
                let one_less = |left: usize| left.checked_sub(1);
                let is_empty = pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
                let limit = if is_empty.is_ok() { 0 } else { limit as usize };
                let mut page = self.stream(|stream| stream.page(iterator, limit, true))?;
                let ends = &self.0.early_ends;
                if (ends.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)).is_ok() {
                    page.next_iterator = None;
                }
                let bandwidth = self.0.bandwidth.load(Ordering::Relaxed);
                let bytes: usize = page.records.iter().map(|record| record.data.len()).sum();
                let most = self.0.most_bytes.load(Ordering::Relaxed);
                if most > 0 && bytes > most {
                    return Err(KinesisError::Unavailable("it broke off".into()));
                }
                let takes =
                    Duration::from_secs((bytes as u64).checked_div(bandwidth as u64).unwrap_or(0));
                if !takes.is_zero() {
                    tokio::time::sleep(takes.min(READ_TIMEOUT)).await;
                }
                if takes > READ_TIMEOUT {
                    return Err(KinesisError::Timeout("no answer in time".into()));
                }
                Ok(page)
            }
        }
    }

    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, KinesisError> {
        Ok(self.stream(|stream| stream.consumer(name)))
    }

    async fn register_consumer(&self, name: &str) -> Result<Consumer, KinesisError> {
        match self.refusal(CONSUMERS) {
            Some(error) => Err(error),
            None => self.stream(|stream| stream.memory().register_consumer(name)),
        }
    }

    async fn subscribe(
        &self,
        consumer: &str,
        shard: &ShardId,
        from: &StartFrom,
    ) -> Result<Box<dyn Subscription>, KinesisError> {
        self.begin(consumer, shard, from)
    }
}
