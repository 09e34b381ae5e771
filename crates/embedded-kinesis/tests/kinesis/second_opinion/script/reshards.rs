//! Splits, merges, resizes and listings.

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType, ShardIteratorType};

use super::super::words::{done, said};
use super::Script;
use crate::support::{self, numbers};

impl Script {
    pub(super) async fn reshards(&mut self) {
        let client = self.client.clone();
        let id = |n: u32| format!("shardId-{n:012}");
        let split = |n: u32, at: u128| {
            client
                .split_shard()
                .stream_name("s")
                .shard_to_split(id(n))
                .new_starting_hash_key(at.to_string())
                .send()
        };
        let merge = |a: u32, b: u32| {
            client
                .merge_shards()
                .stream_name("s")
                .shard_to_merge(id(a))
                .adjacent_shard_to_merge(id(b))
                .send()
        };
        // No split at the very start of a range: kinesis-local makes a shard of no keys of it, AWS
        // refuses.
        self.note("split an unknown shard", said(split(9, 5).await, done));
        self.note("split", said(split(0, 1 << 126).await, done));
        self.settle("s").await;
        self.note("split what is closed", said(split(0, 1 << 126).await, done));
        self.shards("shards after a split").await;
        self.note(
            "merge the first and the last",
            said(merge(2, 1).await, done),
        );
        self.note("merge", said(merge(2, 3).await, done));
        self.settle("s").await;
        self.shards("shards after a merge").await;
        let trim = self
            .iterator(0, ShardIteratorType::TrimHorizon, None, None)
            .await;
        let next = self.read("part of a closed shard", trim, Some(1)).await;
        if let Some(next) = next {
            self.read("the end of a closed shard", Ok(next), None).await;
        }
        let put = client
            .put_record()
            .stream_name("s")
            .partition_key("k")
            .explicit_hash_key("0")
            .data(Blob::new("late"))
            .send()
            .await;
        self.note(
            "put after a merge",
            said(put, |it| support::number(it.shard_id()).to_string()),
        );

        for (step, filter) in [
            (
                "AT_LATEST",
                ShardFilter::builder().r#type(ShardFilterType::AtLatest),
            ),
            (
                "AT_TRIM_HORIZON",
                ShardFilter::builder().r#type(ShardFilterType::AtTrimHorizon),
            ),
            (
                "FROM_TRIM_HORIZON",
                ShardFilter::builder().r#type(ShardFilterType::FromTrimHorizon),
            ),
            (
                "AFTER_SHARD_ID",
                ShardFilter::builder()
                    .r#type(ShardFilterType::AfterShardId)
                    .shard_id(id(2)),
            ),
        ] {
            let answer = client
                .list_shards()
                .stream_name("s")
                .shard_filter(filter.build().unwrap())
                .send()
                .await;
            self.note(
                step,
                said(answer, |it| format!("{:?}", numbers(it.shards()))),
            );
        }
        let after = client
            .list_shards()
            .stream_name("s")
            .exclusive_start_shard_id(id(3))
            .send()
            .await;
        self.note(
            "shards after one",
            said(after, |it| format!("{:?}", numbers(it.shards()))),
        );
        let first = client
            .list_shards()
            .stream_name("s")
            .max_results(2)
            .send()
            .await
            .unwrap();
        self.note(
            "first page of shards",
            format!("{:?}", numbers(first.shards())),
        );
        let token = first.next_token().unwrap();
        let second = client
            .list_shards()
            .next_token(token)
            .max_results(2)
            .send()
            .await;
        self.note(
            "second page of shards",
            said(second, |it| {
                format!("{:?} {}", numbers(it.shards()), it.next_token().is_some())
            }),
        );
        let both = client
            .list_shards()
            .next_token(token)
            .stream_name("s")
            .send()
            .await;
        self.note("a token and a name", said(both, done));

        let answer = self.resize("s", 5).await;
        self.note("resize beyond double", answer);
        let answer = self.resize("s", 4).await;
        self.note("resize to double", answer);
        self.settle("s").await;
        self.shards("shards after doubling").await;
        let answer = self.resize("s", 1).await;
        self.note("resize below half", answer);
        let answer = self.resize("s", 3).await;
        self.note("resize to three", answer);
        self.settle("s").await;
        self.shards("shards after three").await;
    }
}
