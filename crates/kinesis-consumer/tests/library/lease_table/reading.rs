//! Reading a table without working on it, as a scaler does: every kind of item, and what a
//! projection leaves.

use std::collections::BTreeMap;

use kinesis_consumer::{
    Checkpoint, InitialPosition,
    lease::{self, Item, Lease, PROJECTION, Parsed, StreamIdentifier},
    shards::{Readability, Shard, readability},
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{dynamodb, fixtures::FIXTURES};

fn from_json(item: &Value) -> Item {
    dynamodb::from_json(item).into_iter().collect()
}

fn items(fixture: &str) -> Vec<Item> {
    let items: Vec<Value> = serde_json::from_str(fixture).expect("JSON");
    items.iter().map(from_json).collect()
}

fn projected(item: &Item) -> Item {
    let wanted = |name: &&String| PROJECTION.contains(&name.as_str());
    let names = item.keys().filter(wanted);
    names
        .map(|name| (name.clone(), item[name].clone()))
        .collect()
}

fn lease(item: &Item) -> Option<Lease> {
    match lease::parse(item) {
        Parsed::Lease(lease) => {
            assert_eq!(lease.key.stream, None, "{item:?}");
            Some(*lease)
        }
        Parsed::Other(kind) => {
            assert_eq!(item["entityType"].as_s().expect("S"), &kind);
            None
        }
        Parsed::Broken(reason) => panic!("{}: {reason}", lease::key(item)),
    }
}

/// Builds that know nothing of it leave it standing, as Java does.
#[test]
fn what_a_lease_takes_is_read_only_as_the_last_write_left_it() {
    let share = |counter: u64, of: Value| {
        let item = json!({
            "leaseKey": {"S": "shardId-000000000000"},
            "leaseOwner": {"S": "a"},
            "leaseCounter": {"N": counter.to_string()},
            "nativeCounter": {"N": counter.to_string()},
            "checkpoint": {"S": "LATEST"},
            "nativeShare": {"N": "0.457"},
            "shareCounter": of,
        });
        lease(&from_json(&item)).expect("a lease").share_permille
    };
    assert_eq!(share(7, json!({"N": "7"})), Some(457));
    assert_eq!(share(8, json!({"N": "7"})), None, "renewed without it");
    assert_eq!(share(7, json!({"S": "7"})), None, "odd");
}

/// Sums of what anybody may have written stay in range.
#[test]
fn loads_and_bytes_that_no_worker_has_are_not_believed() {
    let read = |load: Value, kib: &str| {
        let item = json!({
            "leaseKey": {"S": "shardId-000000000000"},
            "leaseCounter": {"N": "1"},
            "checkpoint": {"S": "LATEST"},
            "handoverTo": {"S": "you and me"},
            "handoverLoad": load,
            "throughputKBps": {"N": kib},
        });
        let lease = lease(&from_json(&item)).expect("a lease");
        (lease.handover_load, lease.throughput)
    };
    let loads = |load: &str| read(json!({"S": load}), "2").0;
    assert_eq!(loads("700 you and me"), Some(700));
    assert_eq!(
        loads("1000001 you and me"),
        None,
        "nobody has as much to do"
    );
    assert_eq!(loads("18446744073709551615 you and me"), None);
    assert_eq!(loads("700 another"), None, "of an earlier request");
    assert_eq!(loads("700"), None);
    assert_eq!(read(json!({"N": "700"}), "2"), (None, Some(2048)), "odd");
    assert_eq!(read(json!({"S": ""}), "1e30"), (None, Some(1 << 40)));
}

#[test]
fn a_projection_is_enough() {
    for (name, fixture) in FIXTURES {
        for item in items(fixture) {
            let whole = lease(&item).map(|lease| Lease {
                hash_range: None,
                owner_switches: 0,
                throughput: None,
                ..lease
            });
            assert_eq!(lease(&projected(&item)), whole, "{name}: {item:?}");
        }
    }
}

/// The streams of the fixtures: 0 and 1, then 0 split into 2 and 3, then these merged into 4.
#[test]
fn what_java_left_unfinished_can_be_read() {
    for (name, fixture) in FIXTURES {
        let leases: Vec<_> = items(fixture).iter().filter_map(lease).collect();
        let shard = |lease: &Lease| Shard {
            id: lease.key.shard.clone(),
            parents: lease.parents.clone(),
            hash_range: lease.hash_range.expect("a range"),
            starting_sequence_number: "0".parse().expect("digits"),
            closed: lease.is_finished(),
        };
        let shards: Vec<_> = leases.iter().map(shard).collect();
        let verdicts =
            readability(&shards, &leases, InitialPosition::TrimHorizon).expect("consistent");
        let want: BTreeMap<_, _> = leases
            .iter()
            .map(|lease| {
                let verdict = match lease.is_finished() {
                    true => Readability::Finished,
                    false => Readability::Readable { start: None },
                };
                (lease.key.shard.clone(), verdict)
            })
            .collect();
        assert_eq!(verdicts, want, "{name}");
        // As before the parents were read to their end.
        let mut before = leases.clone();
        for lease in &mut before {
            lease.checkpoint = Checkpoint::parse("1", 0).expect("digits");
        }
        for (id, verdict) in
            readability(&shards, &before, InitialPosition::TrimHorizon).expect("consistent")
        {
            let lease = before
                .iter()
                .find(|lease| lease.key.shard == id)
                .expect("a lease");
            let mut parents = lease.parents.clone();
            parents.retain(|parent| before.iter().any(|lease| lease.key.shard == *parent));
            let want = match parents.is_empty() {
                true => Readability::Readable { start: None },
                false => Readability::WaitsFor(parents),
            };
            assert_eq!(verdict, want, "{name}: {id}");
        }
    }
}

/// As `leases/dynamodb/DynamoDBMultiStreamLeaseSerializer.java` writes it.
#[test]
fn a_multi_stream_lease_says_whose_it_is() {
    let item = from_json(&json!({
        "leaseKey": {"S": "123456789012:orders:1700000000:shardId-000000000003"}, "leaseCounter": {"N": "3"},
        "checkpoint": {"S": "LATEST"}, "checkpointSubSequenceNumber": {"N": "0"}, "entityType": {"S": "LEASE"},
        "parentShardId": {"SS": ["shardId-000000000001"]},
        "streamName": {"S": "123456789012:orders:1700000000"}, "shardId": {"S": "shardId-000000000003"}
    }));
    let Parsed::Lease(lease) = lease::parse(&item) else {
        panic!("{item:?}")
    };
    let want = StreamIdentifier {
        account: "123456789012".into(),
        name: "orders".into(),
        epoch: 1_700_000_000,
    };
    assert_eq!(want.to_string(), "123456789012:orders:1700000000");
    assert_eq!(lease.key.stream, Some(want));
    assert_eq!(lease.key.shard, "shardId-000000000003");
    assert!(lease.parents.contains("shardId-000000000001"));
}

#[rstest]
#[case::no_key(json!({"leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"}}), "no leaseKey (S)")]
#[case::no_counter(json!({"leaseKey": {"S": "k"}, "checkpoint": {"S": "LATEST"}}), "no leaseCounter (N)")]
#[case::no_checkpoint(json!({"leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}}), "no checkpoint (S)")]
#[case::no_position(
    json!({"leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "here"}}),
    "checkpoint: \"here\" is no sequence number: want decimal digits"
)]
#[case::no_stream(
    json!({"leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"}, "streamName": {"S": "orders"}}),
    "streamName: \"orders\" is no stream identifier: want account:stream:epoch, such as 123456789012:orders:1700000000"
)]
#[case::no_shard(
    json!({"leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"}, "streamName": {"S": "1:orders:2"}}),
    "no shardId (S)"
)]
#[case::of_a_kind_that_nobody_knows(
    json!({
        "leaseKey": {"S": "shardId-000000000000"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"},
        "entityType": {"S": "ROW"}
    }),
    "entityType is ROW: want LEASE, or none"
)]
#[case::counted_out(
    json!({"leaseKey": {"S": "k"}, "leaseCounter": {"N": "18446744073709551615"}, "checkpoint": {"S": "LATEST"}}),
    "leaseCounter is 18446744073709551615: no worker can count on"
)]
#[case::its_own_parent(
    json!({
        "leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"}, "parentShardId": {"SS": ["k"]}
    }),
    "parentShardId names k itself, whose end it would wait for"
)]
#[case::parents_of_no_form(
    json!({
        "leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"},
        "parentShardId": {"L": [{"S": "0"}, {"N": "1"}]}
    }),
    "parentShardId is L([S(\"0\"), N(\"1\")]): want SS"
)]
fn a_broken_lease_says_why(#[case] item: Value, #[case] want: &str) {
    match lease::parse(&from_json(&item)) {
        Parsed::Broken(reason) => assert_eq!(reason, want),
        other => panic!("{other:?}"),
    }
}

/// As other libraries write them. KCL takes these for none.
#[rstest]
#[case::a_set(json!({"SS": ["0", "1"]}), &["0", "1"])]
#[case::a_list(json!({"L": [{"S": "0"}, {"S": "1"}]}), &["0", "1"])]
#[case::a_text(json!({"S": "0"}), &["0"])]
#[case::an_empty_text(json!({"S": ""}), &[])]
#[case::an_empty_list(json!({"L": []}), &[])]
#[case::null(json!({"NULL": true}), &[])]
fn parents_are_read_in_any_form(#[case] parents: Value, #[case] want: &[&str]) {
    let item = from_json(&json!({
        "leaseKey": {"S": "k"}, "leaseCounter": {"N": "3"}, "checkpoint": {"S": "LATEST"}, "parentShardId": parents,
    }));
    let parents = lease(&item).expect("a lease").parents;
    assert!(parents.iter().eq(want), "{parents:?}");
}

/// Busy is what the holder's own last renewal said: a Java worker leaves the attribute standing,
/// and odd numbers say nothing.
#[rstest]
#[case::ours("3", json!({"N": "0.25"}), Some(0.25))]
#[case::all_the_time("3", json!({"N": "1"}), Some(1.0))]
#[case::never("3", json!({"N": "0"}), Some(0.0))]
#[case::java_went_on("2", json!({"N": "0.25"}), None)]
#[case::too_much("3", json!({"N": "1.5"}), None)]
#[case::negative("3", json!({"N": "-1"}), None)]
#[case::no_number("3", json!({"S": "busy"}), None)]
fn busy_is_believed_of_our_own_only(
    #[case] native: &str,
    #[case] busy: Value,
    #[case] want: Option<f64>,
) {
    let item = from_json(&json!({
        "leaseKey": {"S": "k"}, "leaseOwner": {"S": "w"}, "leaseCounter": {"N": "3"}, "nativeCounter": {"N": native},
        "checkpoint": {"S": "LATEST"}, "busy": busy,
    }));
    assert_eq!(lease(&item).expect("a lease").busy(), want);
}
