//! Splits, merges and UpdateShardCount, with lineage.

use std::time::Duration;

use aws_sdk_kinesis::types::{ScalingType, Shard};
use embedded_kinesis::Config;

use crate::support::*;

/// Number, parents, and whether it is closed.
fn lineage(shards: &[Shard]) -> Vec<(u32, Option<u32>, Option<u32>, bool)> {
    let of = |shard: &Shard| {
        let closed = shard
            .sequence_number_range()
            .unwrap()
            .ending_sequence_number()
            .is_some();
        let parents =
            [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].map(|id| id.map(number));
        (number(shard.shard_id()), parents[0], parents[1], closed)
    };
    shards.iter().map(of).collect()
}

fn range(shard: &Shard) -> (u128, u128) {
    let range = shard.hash_key_range().unwrap();
    (
        range.starting_hash_key().parse().unwrap(),
        range.ending_hash_key().parse().unwrap(),
    )
}

/// The open shards cover all keys once.
fn assert_cover(shards: &[Shard]) {
    let open = shards.iter().filter(|it| {
        it.sequence_number_range()
            .unwrap()
            .ending_sequence_number()
            .is_none()
    });
    let mut ranges: Vec<_> = open.map(range).collect();
    ranges.sort_unstable();
    assert_eq!(ranges[0].0, 0);
    assert_eq!(ranges[ranges.len() - 1].1, u128::MAX);
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0),
        "{ranges:?}"
    );
}

#[tokio::test]
async fn resizing_leaves_lineage_and_short_lived_shards() {
    let (_server, client) = server().await;
    create(&client, "s", 2).await;
    resize(&client, "s", 3).await;
    let listed = shards(&client, "s").await;
    assert_eq!(
        lineage(&listed),
        [
            (0, None, None, true),
            (1, None, None, true),
            (2, Some(0), None, false),
            (3, Some(0), None, true),
            (4, Some(1), None, true),
            (5, Some(1), None, false),
            (6, Some(3), Some(4), false),
        ]
    );
    assert_cover(&listed);
    assert_eq!(open_shards(&client, "s").await, 3);
    for shard in &listed {
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()]
            .into_iter()
            .flatten();
        for parent in parents {
            let parent = listed.iter().find(|it| it.shard_id() == parent).unwrap();
            let end = parent
                .sequence_number_range()
                .unwrap()
                .ending_sequence_number()
                .unwrap();
            let start = shard
                .sequence_number_range()
                .unwrap()
                .starting_sequence_number();
            assert!(
                (end.len(), end) < (start.len(), start),
                "{start} comes after {end}"
            );
        }
    }
    resize(&client, "s", 2).await;
    let listed = shards(&client, "s").await;
    assert_eq!(listed.len(), 11);
    assert_cover(&listed);
    assert_eq!(open_shards(&client, "s").await, 2);
}

#[tokio::test]
async fn resizing_has_bounds() {
    let (server, client) = server_with(Config {
        api_limits: true,
        ..Config::default()
    })
    .await;
    create(&client, "s", 3).await;
    for (target, wanted) in [
        (7, "LimitExceededException"),
        (1, "LimitExceededException"),
        (0, "ValidationException"),
    ] {
        let call = client
            .update_shard_count()
            .stream_name("s")
            .target_shard_count(target);
        assert_eq!(
            code(call.scaling_type(ScalingType::UniformScaling).send().await),
            wanted,
            "{target}"
        );
    }
    for i in 0..10 {
        resize(&client, "s", if i % 2 == 0 { 2 } else { 3 }).await;
        server.advance(Duration::from_secs(1));
    }
    let eleventh = client
        .update_shard_count()
        .stream_name("s")
        .target_shard_count(2);
    let eleventh = eleventh.scaling_type(ScalingType::UniformScaling);
    let (code, message) = refusal(eleventh.clone().send().await);
    assert_eq!(code, "LimitExceededException");
    assert!(message.contains("rolling 24-hour period"), "{message}");
    server.advance(Duration::from_secs(24 * 3600));
    eleventh.send().await.unwrap();
}

#[tokio::test]
async fn a_resize_takes_its_time() {
    let updating = Duration::from_secs(300);
    let (server, client) = server_with(Config {
        updating,
        ..Config::default()
    })
    .await;
    create(&client, "s", 2).await;
    resize(&client, "s", 3).await;
    let mut seen = vec![(status(&client, "s").await, open_shards(&client, "s").await)];
    let busy = client
        .update_shard_count()
        .stream_name("s")
        .target_shard_count(4);
    let (code, message) = refusal(busy.scaling_type(ScalingType::UniformScaling).send().await);
    assert_eq!(code, "ResourceInUseException");
    assert_eq!(
        message,
        "Stream s under account 111122223333 not ACTIVE, instead in state UPDATING"
    );
    // Reading, writing and listing go on meanwhile.
    client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .data(b"x".to_vec().into())
        .send()
        .await
        .unwrap();
    for _ in 0..3 {
        server.advance(updating / 3);
        seen.push((status(&client, "s").await, open_shards(&client, "s").await));
        assert_cover(&shards(&client, "s").await);
    }
    let seen: Vec<(&str, i32)> = seen
        .iter()
        .map(|(status, open)| (status.as_str(), *open))
        .collect();
    assert_eq!(
        seen,
        [
            ("UPDATING", 2),
            ("UPDATING", 3),
            ("UPDATING", 4),
            ("ACTIVE", 3)
        ]
    );
}

#[tokio::test]
async fn single_splits_and_merges() {
    let (_server, client) = server().await;
    create(&client, "s", 2).await;
    let middle = (u128::MAX / 4).to_string();
    let split = |id: &str, at: &str| {
        client
            .split_shard()
            .stream_name("s")
            .shard_to_split(id)
            .new_starting_hash_key(at)
            .send()
    };
    let merge = |a: &str, b: &str| {
        client
            .merge_shards()
            .stream_name("s")
            .shard_to_merge(a)
            .adjacent_shard_to_merge(b)
            .send()
    };
    let [s0, s1, s2, s3] = [0, 1, 2, 3].map(|n| format!("shardId-{n:012}"));

    assert_eq!(code(split(&s0, "0").await), "InvalidArgumentException");
    assert_eq!(code(split(&s0, "1").await), "InvalidArgumentException");
    assert_eq!(
        code(split(&s0, &u128::MAX.to_string()).await),
        "InvalidArgumentException"
    );
    assert_eq!(code(split(&s0, "x").await), "ValidationException");
    let (code_, message) = refusal(split("shardId-000000000009", &middle).await);
    assert_eq!(
        (code_.as_str(), message.as_str()),
        (
            "ResourceNotFoundException",
            "Could not find shard shardId-000000000009 in stream s under account 111122223333."
        )
    );

    split(&s0, &middle).await.unwrap();
    assert_eq!(
        lineage(&shards(&client, "s").await),
        [
            (0, None, None, true),
            (1, None, None, false),
            (2, Some(0), None, false),
            (3, Some(0), None, false)
        ]
    );
    assert_eq!(code(split(&s0, &middle).await), "InvalidArgumentException");

    // The first and the last shard: one ends where all keys end.
    assert_eq!(code(merge(&s1, &s2).await), "InvalidArgumentException");
    assert_eq!(code(merge(&s2, &s1).await), "InvalidArgumentException");
    assert_eq!(code(merge(&s2, &s2).await), "InvalidArgumentException");
    // The right one first.
    merge(&s1, &s3).await.unwrap();
    let listed = shards(&client, "s").await;
    assert_eq!(lineage(&listed)[4], (4, Some(1), Some(3), false));
    assert_cover(&listed);
}
