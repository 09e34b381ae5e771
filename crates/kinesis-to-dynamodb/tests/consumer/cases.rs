//! Losses without a trace, as others have met them: each row fails on a build of before it was
//! mended (`CONSUMER=…`, see CONTRIBUTING.md).
//!
//! | row | what happens | test |
//! |---|---|---|
//! | L1 | an aggregate straddles two shards | `rejects::an_aggregate_of_two_shards_…` |
//! | L2 | what is read at the tip yields nothing | here |
//! | L3 | the leases are another stream's | `owners::a_copied_…`, `owners::an_older_…` |
//! | L4 | the leases are of several streams | `owners::the_table_of_a_multi_stream_…` |
//! | L5 | nobody can read a lease | `owners::a_row_that_nobody_can_read_…` |
//! | L6 | one key comes by several shards | `items::of_one_key_in_several_shards_…` |
//! | L7 | a backlog is larger than the memory | `memory::a_backlog_drains_…` |
//! | L8 | a page does not come in time | here |
//! | L9 | an index refuses many items | `rejects::many_refused_items_…` |
//! | L10 | the clock is wrong | `clocks::latest_stores_…` |
//! | L11 | the checkpointed record is trimmed | here |
//! | L12 | a checkpoint is within an aggregate, and nobody runs | the scaler's |
//! | L13 | the lease table is deleted | `mending::a_lease_table_deleted_…` |
//! | L14 | an aggregate is odd, and no more than KCL takes | here |

use std::time::Duration;

use embedded_kinesis::{Config, FOREVER, Fault};
use md5::{Digest as _, Md5};
use rstest::rstest;

use crate::support::{APPLICATION, Item, World, text, until};

fn aggregate(message: &[u8]) -> Vec<u8> {
    [b"\xf3\x89\x9a\xc2", message, &Md5::digest(message)].concat()
}

/// Of `ann` and `bob`, whose hash keys are in different halves.
const STRADDLING: &[u8] =
    b"\n\x03ann\n\x03bob\x1a\x0b\x08\x00\x1a\x07{\"v\":1}\x1a\x0b\x08\x01\x1a\x07{\"v\":2}";

/// A partition key, and no user record.
const NOBODY: &[u8] = b"\n\x03ann";

#[rstest]
#[case::of_another_shard(STRADDLING)]
#[case::nobody(NOBODY)]
#[tokio::test]
async fn l2_what_yields_no_item_is_checkpointed(#[case] message: &[u8]) {
    let world = World::tutorial(2).await;
    let consumer = world.consumer("pod-1").start();
    let before = world.put("ann", r#"{"v":0}"#).await;
    world.user_when("ann", |_| true).await;
    let sequence = world.put("ann", aggregate(message)).await;
    assert!(before < sequence);
    until("the checkpoint", async || {
        let leases = world.items(APPLICATION).await;
        let stands = |lease: &Item| text(lease, "checkpoint") == sequence;
        leases.iter().any(stands).then_some(())
    })
    .await;
    consumer.stop().await;
}

#[tokio::test]
async fn l8_what_is_too_much_for_a_slow_line_is_asked_for_in_parts() {
    const RECORDS: usize = 40;
    let world = World::tutorial(1).await;
    let data = format!(r#"{{"v":"{}"}}"#, "x".repeat(100_000));
    world
        .put_all((0..RECORDS).map(|user| (format!("user-{user}"), data.clone())))
        .await;
    // 40 s for all of them, where an answer has 30 s.
    let slow = Fault::Slow(100_000);
    world.embedded.faults().inject("GetRecords", slow, FOREVER);
    let consumer = world.consumer("pod-1").start();
    world.user_when("user-0", |_| true).await;
    world.embedded.faults().clear();
    for user in 0..RECORDS {
        world.user_when(&format!("user-{user}"), |_| true).await;
    }
    consumer.stop().await;
}

#[tokio::test]
async fn l11_what_retention_took_is_told() {
    let world = World::tutorial_with(
        1,
        Config {
            retention: Duration::from_secs(3600),
            ..Config::default()
        },
    )
    .await;
    let consumer = world.consumer("pod-1").start();
    let done = world.put("done", "{}").await;
    world.user_when("done", |_| true).await;
    consumer.stop().await;
    world.put("lost", "{}").await;
    world.embedded.advance(Duration::from_secs(2 * 3600));
    let kept = world.put("kept", "{}").await;

    let consumer = world.consumer("pod-1").start();
    world.user_when("kept", |_| true).await;
    consumer
        .metric_when("expired_checkpoints_total", "", |gaps| gaps == 1.0)
        .await;
    let line = consumer.logged("may be lost").await;
    for wanted in ["WARN", &done, &kept] {
        assert!(line.contains(wanted), "{line}");
    }
    consumer.stop().await;
    assert!(world.user("lost").await.is_none());
}

/// KCL delivers the first as it is, and never looks at the hash key of the second.
#[tokio::test]
async fn l14_odd_aggregates_are_told_or_stored() {
    let world = World::tutorial(1).await;
    let empty = world.put("empty", aggregate(b"")).await;
    let unused = b"\n\x03ann\x12\x03bad\x1a\x0b\x08\x00\x1a\x07{\"v\":1}";
    world.put("aggregate", aggregate(unused)).await;
    let consumer = world.consumer("pod-1").start();
    world.user_when("ann", |_| true).await;
    let line = consumer.logged("record rejected").await;
    assert!(line.contains("WARN") && line.contains(&empty), "{line}");
    consumer
        .metric_when("rejected_records_total", "", |count| count == 1.0)
        .await;
    consumer.stop().await;
}
