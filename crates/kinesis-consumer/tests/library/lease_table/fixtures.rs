//! Tables that Java KCL 2.7.2 and 3.5.1 wrote: we read them, write to them, and leave them
//! readable.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use kinesis_consumer::{
    Checkpoint, ShardId,
    lease::Lease,
    shards::HashRange,
    test_util::{DynamoDbTable, LeaseTable},
};
use rstest::rstest;
use serde_json::Value;

use super::{
    dynamodb::{DynamoDb, Item, TABLE, from_json, number, text},
    java,
};

pub(crate) const FIXTURES: [(&str, &str); 6] = [
    ("kcl2", include_str!("../../fixtures/lease-table-kcl2.json")),
    (
        "kcl2-split",
        include_str!("../../fixtures/lease-table-kcl2-split.json"),
    ),
    (
        "kcl2-merge",
        include_str!("../../fixtures/lease-table-kcl2-merge.json"),
    ),
    ("kcl3", include_str!("../../fixtures/lease-table-kcl3.json")),
    (
        "kcl3-split",
        include_str!("../../fixtures/lease-table-kcl3-split.json"),
    ),
    (
        "kcl3-merge",
        include_str!("../../fixtures/lease-table-kcl3-merge.json"),
    ),
];

pub(crate) async fn loaded(fixture: &str) -> (DynamoDb, Vec<Item>) {
    let db = DynamoDb::with_table().await;
    let items: Vec<Value> = serde_json::from_str(fixture).expect("JSON");
    let items: Vec<_> = items.iter().map(from_json).collect();
    for item in &items {
        db.put(TABLE, item).await;
    }
    (db, items)
}

fn is_lease(item: &Item) -> bool {
    item.get("entityType")
        .is_none_or(|kind| *kind == text("LEASE"))
}

/// Read anew from the raw item, attribute by attribute.
fn expected(item: &Item) -> Lease {
    let string = |name: &str| item.get(name).map(|value| value.as_s().expect("S").clone());
    let long = |name: &str| {
        item[name]
            .as_n()
            .expect("N")
            .parse::<u64>()
            .expect("a number")
    };
    let set = |name: &str| {
        let texts = item
            .get(name)
            .map(|value| value.as_ss().expect("SS").clone());
        texts
            .unwrap_or_default()
            .into_iter()
            .map(ShardId::from)
            .collect::<BTreeSet<_>>()
    };
    let hash_key = |name: &str| string(name).expect("a hash key").parse().expect("a number");
    let checkpoint = string("checkpoint").expect("a checkpoint");
    Lease {
        key: string("leaseKey").expect("a key").into(),
        owner: string("leaseOwner"),
        counter: long("leaseCounter"),
        checkpoint: Checkpoint::parse(&checkpoint, long("checkpointSubSequenceNumber"))
            .expect("a checkpoint"),
        owner_switches: long("ownerSwitchesSinceCheckpoint"),
        parents: set("parentShardId"),
        children: set("childShardIds"),
        hash_range: Some(HashRange {
            start: hash_key("startingHashKey"),
            end: hash_key("endingHashKey"),
        }),
        checkpoint_owner: string("checkpointOwner"),
        native_counter: None,
        native_process: None,
        native_clock: None,
        failover_millis: None,
        handover_to: None,
        handover_has: None,
        handover_load: None,
        news: BTreeSet::new(),
        latest_since: None,
        stream_identity: None,
        busy_permille: None,
        share_permille: None,
        throughput: item.get("throughputKBps").map(|value| {
            let kib: f64 = value.as_n().expect("N").parse().expect("a number");
            (kib * 1024.0).round() as u64
        }),
    }
}

#[tokio::test]
async fn every_field_is_read() {
    for (name, fixture) in FIXTURES {
        let (db, items) = loaded(fixture).await;
        let mut read = db.table().scan().await.expect("scanned").leases;
        read.sort_by(|a, b| a.key.cmp(&b.key));
        let mut want: Vec<_> = items
            .iter()
            .filter(|item| is_lease(item))
            .map(expected)
            .collect();
        want.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(read, want, "{name}");
        assert!(
            !read.is_empty()
                && read
                    .iter()
                    .all(|lease| lease.owner.is_some() && !lease.is_native()),
            "{name}"
        );
        let merged = read
            .iter()
            .any(|lease| lease.parents.len() == 2 && !lease.is_finished());
        assert_eq!(merged, name.ends_with("merge"), "{name}");
        assert_eq!(
            read.iter().any(Lease::is_finished),
            name.contains('-'),
            "{name}"
        );
    }
}

/// The attributes in which two items differ.
fn changed<'a>(before: &'a Item, after: &'a Item) -> BTreeSet<&'a str> {
    let names = before.keys().chain(after.keys());
    names
        .filter(|name| before.get(*name) != after.get(*name))
        .map(String::as_str)
        .collect()
}

/// Each write changes what it is for, and nothing else, whatever else is there.
#[tokio::test]
async fn every_write_leaves_the_table_readable_by_java() {
    for (name, fixture) in FIXTURES {
        let (db, items) = loaded(fixture).await;
        let table = db.table();
        let others: BTreeMap<_, _> = items
            .iter()
            .filter(|item| !is_lease(item))
            .map(|item| (key(item), item))
            .collect();
        for item in items.iter().filter(|item| is_lease(item)) {
            // As after prepareCheckpoint of a Java worker, and as a KCL to come may have it.
            let mut item = item.clone();
            item.insert("pendingCheckpoint".to_owned(), text("TRIM_HORIZON"));
            item.insert("pendingCheckpointSubSequenceNumber".to_owned(), number(0));
            item.insert(
                "pendingCheckpointState".to_owned(),
                AttributeValue::B(Blob::new(*b"state")),
            );
            let future =
                AttributeValue::M([("of".to_owned(), AttributeValue::L(vec![number(4)]))].into());
            item.insert("fromTheFuture".to_owned(), future);
            db.put(TABLE, &item).await;
            write_all(&db, &table, &item).await;
        }
        for item in db.items().await {
            match others.get(&key(&item)) {
                Some(before) => assert_eq!(item, **before, "{name}"),
                None => java::assert_loads(&item),
            }
        }
    }
}

fn key(item: &Item) -> String {
    item["leaseKey"].as_s().expect("a key").clone()
}

async fn write_all(db: &DynamoDb, table: &DynamoDbTable, original: &Item) {
    let key = key(original);
    let mut before = original.clone();
    // What the write just made may have changed, besides what the lease looks like now.
    macro_rules! assert_changed {
        ($($name:literal),*) => {{
            let after = db.item(&key).await;
            java::assert_loads(&after);
            let mut changed = changed(&before, &after);
            // By the millisecond: it may be the same one.
            changed.remove("nativeClock");
            assert_eq!(changed, BTreeSet::from([$($name),*]), "{after:?}");
            assert_eq!(after["fromTheFuture"], original["fromTheFuture"]);
            before = after;
        }};
    }
    let lease = table
        .read(&key.as_str().into())
        .await
        .expect("read")
        .expect("a lease");
    let led = Lease {
        throughput: Some(512),
        ..lease
    };
    let owned = table.take(&led, "ours").await.expect("taken");
    assert_changed!(
        "leaseCounter",
        "leaseOwner",
        "nativeCounter",
        "nativeProcess",
        "ownerSwitchesSinceCheckpoint",
        "throughputKBps"
    );
    assert_eq!(
        before["throughputKBps"],
        AttributeValue::N("0.5".to_owned())
    );
    let owned = table.renew(&owned).await.expect("renewed");
    assert_changed!("leaseCounter", "nativeCounter");
    let unled = Lease {
        throughput: None,
        ..owned
    };
    let owned = table.renew(&unled).await.expect("renewed");
    assert_changed!("leaseCounter", "nativeCounter", "throughputKBps");
    let busy = Lease {
        busy_permille: Some(250),
        ..owned
    };
    let owned = table.renew(&busy).await.expect("renewed");
    assert_changed!("busy", "leaseCounter", "nativeCounter");
    table.ask(&owned, "other", 0).await.expect("asked");
    assert_changed!("handoverHas", "handoverTo");
    table.hand_over(&owned, "other").await.expect("handed over");
    assert_changed!(
        "busy",
        "handoverHas",
        "handoverTo",
        "leaseCounter",
        "leaseOwner",
        "nativeCounter",
        "nativeProcess",
        "ownerSwitchesSinceCheckpoint"
    );
    let owned = table
        .read(&key.as_str().into())
        .await
        .expect("read")
        .expect("a lease");
    table
        .set_hash_range(&key.as_str().into(), HashRange { start: 7, end: 8 })
        .await
        .expect("written");
    assert_changed!("endingHashKey", "startingHashKey");
    table
        .set_children(
            &key.as_str().into(),
            &BTreeSet::from(["shardId-000000000009".into()]),
        )
        .await
        .expect("written");
    assert_changed!("childShardIds");
    let checkpoint = Checkpoint::parse(
        "50000000000000000000000000000000000000000000000000000001",
        3,
    )
    .expect("digits");
    let owned = table
        .checkpoint(&owned, &checkpoint)
        .await
        .expect("written");
    assert_changed!(
        "checkpoint",
        "checkpointSubSequenceNumber",
        "leaseCounter",
        "nativeCounter",
        "ownerSwitchesSinceCheckpoint",
        "pendingCheckpoint",
        "pendingCheckpointSubSequenceNumber",
        "pendingCheckpointState"
    );
    table.release(&owned).await.expect("released");
    assert_changed!("leaseCounter", "leaseOwner", "nativeCounter");
    assert!(
        java::take(db, &key, owned.counter + 1, "java").await,
        "and a Java worker goes on"
    );
    assert_changed!("leaseCounter", "leaseOwner", "ownerSwitchesSinceCheckpoint");
    let _ = before;
}

#[rstest]
#[case::first_shards(&[], &[])]
#[case::child(&["shardId-000000000000"], &["parentShardId"])]
#[case::merged(&["shardId-000000000002", "shardId-000000000003"], &["parentShardId"])]
#[tokio::test]
async fn a_new_lease_has_exactly_the_attributes_that_java_gives_it(
    #[case] parents: &[&str],
    #[case] more: &[&str],
) {
    let db = DynamoDb::with_table().await;
    let lease = Lease {
        parents: parents.iter().map(|&parent| parent.into()).collect(),
        hash_range: Some(HashRange {
            start: 0,
            end: u128::MAX,
        }),
        ..Lease::new("shardId-000000000004", Checkpoint::TrimHorizon)
    };
    assert!(db.table().create(&lease).await.expect("created"));
    let item = db.item(lease.key.shard.as_str()).await;
    java::assert_loads(&item);
    // As in PutItem of the requests that 2.7.2 sent.
    let mut want = from_json(&serde_json::json!({
        "checkpoint": {"S": "TRIM_HORIZON"}, "checkpointSubSequenceNumber": {"N": "0"},
        "endingHashKey": {"S": "340282366920938463463374607431768211455"}, "startingHashKey": {"S": "0"},
        "leaseCounter": {"N": "0"}, "leaseKey": {"S": "shardId-000000000004"}, "ownerSwitchesSinceCheckpoint": {"N": "0"},
    }));
    for name in more {
        want.insert(
            (*name).to_owned(),
            AttributeValue::Ss(parents.iter().map(|&parent| parent.into()).collect()),
        );
    }
    assert_eq!(item, want);
}

#[tokio::test]
async fn what_is_no_lease_of_ours_is_skipped() {
    let db = DynamoDb::with_table().await;
    let item = |value: Value| from_json(&value);
    let whole = item(serde_json::json!({
        "leaseKey": {"S": "whole"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"}, "latestSince": {"N": "17"}
    }));
    db.put(TABLE, &whole).await;
    let stale = item(serde_json::json!({
        "leaseKey": {"S": "java went on"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "42"}, "latestSince": {"N": "17"}
    }));
    db.put(TABLE, &stale).await;
    for odd in [
        serde_json::json!({"leaseKey": {"S": "no counter"}, "checkpoint": {"S": "LATEST"}}),
        serde_json::json!({"leaseKey": {"S": "no checkpoint"}, "leaseCounter": {"N": "3"}}),
        serde_json::json!({"leaseKey": {"S": "odd checkpoint"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "x"}}),
        serde_json::json!({"leaseKey": {"S": "odd counter"}, "leaseCounter": {"S": "3"}, "checkpoint": {"S": "1"}}),
        serde_json::json!({
            "leaseKey": {"S": "1:stream:2:shardId-0"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"},
            "streamName": {"S": "1:stream:2"}, "shardId": {"S": "shardId-0"}
        }),
        serde_json::json!({
            "leaseKey": {"S": "stream"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"},
            "entityType": {"S": "STREAM"}
        }),
    ] {
        db.put(TABLE, &item(odd)).await;
    }
    let mut leases = db.table().scan().await.expect("scanned").leases;
    leases.sort_by(|a, b| a.key.cmp(&b.key));
    let since: Vec<_> = leases
        .iter()
        .map(|lease| (lease.key.shard.as_str(), lease.latest_since.is_some()))
        .collect();
    assert_eq!(since, [("java went on", false), ("whole", true)]);
}
