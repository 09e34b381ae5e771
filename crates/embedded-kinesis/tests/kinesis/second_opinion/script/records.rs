//! Records.

use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};

use super::super::words::{done, said};
use super::Script;
use crate::support;

impl Script {
    /// Returns a sequence number of each shard.
    pub(super) async fn puts(&mut self) -> [String; 2] {
        let client = self.client.clone();
        let mut of_shard = [String::new(), String::new()];
        for (i, key) in ["0", "1", "340282366920938463463374607431768211455"]
            .into_iter()
            .enumerate()
        {
            let put = client
                .put_record()
                .stream_name("s")
                .partition_key("k")
                .explicit_hash_key(key)
                .data(Blob::new(format!("p{i}")));
            let answer = put.send().await.unwrap();
            let shard = support::number(answer.shard_id());
            self.note(
                "put",
                format!(
                    "{key} to {shard}, {} digits",
                    answer.sequence_number().len()
                ),
            );
            of_shard[shard as usize] = answer.sequence_number().to_owned();
        }
        let entries = (0..8).map(|i| {
            let entry = PutRecordsRequestEntry::builder().partition_key(format!("key {i}"));
            entry.data(Blob::new(format!("m{i}"))).build().unwrap()
        });
        let many = client
            .put_records()
            .stream_name("s")
            .set_records(Some(entries.collect()))
            .send()
            .await;
        self.note(
            "put many",
            said(many, |it| {
                let shards: Vec<u32> = it
                    .records()
                    .iter()
                    .map(|it| support::number(it.shard_id().unwrap()))
                    .collect();
                format!("{:?} failed, to {shards:?}", it.failed_record_count())
            }),
        );
        let one = || client.put_record().stream_name("s").data(Blob::new("x"));
        let beyond = one()
            .partition_key("k")
            .explicit_hash_key("340282366920938463463374607431768211456")
            .send()
            .await;
        self.note("put beyond all keys", said(beyond, done));
        self.note(
            "put without a key",
            said(one().partition_key("").send().await, done),
        );
        self.note(
            "put to an unknown stream",
            said(
                one().stream_name("nope").partition_key("k").send().await,
                done,
            ),
        );
        of_shard
    }

    pub(super) async fn reads(&mut self, [first, second]: &[String; 2]) {
        let trim = self
            .iterator(0, ShardIteratorType::TrimHorizon, None, None)
            .await;
        let next = self.read("from TRIM_HORIZON", trim, Some(1)).await;
        self.read("the page after", Ok(next.unwrap()), None).await;
        let latest = self
            .iterator(0, ShardIteratorType::Latest, None, None)
            .await;
        self.read("from LATEST", latest, None).await;
        let at = self
            .iterator(0, ShardIteratorType::AtSequenceNumber, Some(first), None)
            .await;
        self.read("from AT_SEQUENCE_NUMBER", at, None).await;
        let after = self
            .iterator(0, ShardIteratorType::AfterSequenceNumber, Some(first), None)
            .await;
        self.read("from AFTER_SEQUENCE_NUMBER", after, None).await;
        let early = self
            .iterator(
                0,
                ShardIteratorType::AtTimestamp,
                None,
                Some(DateTime::from_secs(1_700_000_000)),
            )
            .await;
        self.read("from an early AT_TIMESTAMP", early, None).await;
        let late = self
            .iterator(
                0,
                ShardIteratorType::AtTimestamp,
                None,
                Some(DateTime::from_secs(9_000_000_000)),
            )
            .await;
        self.read("from an AT_TIMESTAMP to come", late, None).await;
        let none = self
            .iterator(0, ShardIteratorType::AtTimestamp, None, None)
            .await;
        self.read("from AT_TIMESTAMP without one", none, None).await;
        let foreign = self
            .iterator(
                0,
                ShardIteratorType::AfterSequenceNumber,
                Some(second),
                None,
            )
            .await;
        self.read("from another shard's number", foreign, None)
            .await;
        let unknown = self
            .iterator(7, ShardIteratorType::Latest, None, None)
            .await;
        self.read("from an unknown shard", unknown, None).await;
        self.read("from a made-up iterator", Ok("AAAA".to_owned()), None)
            .await;
        let trim = self
            .iterator(0, ShardIteratorType::TrimHorizon, None, None)
            .await;
        self.read("at most 0 records", trim, Some(0)).await;
    }
}
