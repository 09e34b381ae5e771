//! That the watch sees what it is there for.

use serde_json::{Value, json};

use super::State;

fn item(checkpoint: &str, sub: u64) -> Value {
    json!({
        "leaseKey": {"S": "shardId-000000000000"},
        "leaseCounter": {"N": "1"},
        "checkpoint": {"S": checkpoint},
        "checkpointSubSequenceNumber": {"N": sub.to_string()},
    })
}

/// What is wrong after these changes.
fn wrong(changes: &[(Value, bool)]) -> Vec<String> {
    let mut state = State::new();
    for (item, deleted) in changes {
        state.change(item, *deleted).unwrap();
    }
    state.wrong
}

#[test]
fn checkpoints_that_go_forward_are_right() {
    let forward = [
        (item("TRIM_HORIZON", 0), false),
        (item("9", 0), false),
        (item("9", 2), false),
        (item("10", 0), false),
        (item("SHARD_END", 0), false),
        (item("SHARD_END", 0), true),
    ];
    assert!(wrong(&forward).is_empty());
}

#[test]
fn a_checkpoint_that_goes_back_is_wrong() {
    for (from, to) in [
        (item("10", 0), item("9", 0)),
        (item("9", 1), item("9", 0)),
        (item("9", 0), item("TRIM_HORIZON", 0)),
        (item("SHARD_END", 0), item("9", 0)),
    ] {
        assert_eq!(wrong(&[(from, false), (to, false)]).len(), 1);
    }
}

#[test]
fn a_lease_that_comes_back_with_less_is_wrong() {
    let again = [
        (item("SHARD_END", 0), false),
        (item("SHARD_END", 0), true),
        (item("TRIM_HORIZON", 0), false),
    ];
    assert_eq!(wrong(&again).len(), 1);
}

#[test]
fn what_a_2_7_2_worker_cannot_read_is_wrong() {
    assert_eq!(
        wrong(&[(json!({"leaseKey": {"S": "Leader"}}), false)]).len(),
        1
    );
    let mut lease = item("9", 0);
    lease["leaseCounter"] = json!({"S": "1"});
    assert_eq!(wrong(&[(lease, false)]).len(), 1);
    let mut lease = item("9", 0);
    lease["lut"] = json!({"N": "1"});
    assert_eq!(wrong(&[(lease, false)]).len(), 1);
}
