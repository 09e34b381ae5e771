//! What Java does, and what it wants of a table: `DynamoDBLeaseSerializer.java`,
//! `DynamoDBLeaseRefresher.java`.

use aws_sdk_dynamodb::types::{
    AttributeAction, AttributeValue, AttributeValueUpdate, ExpectedAttributeValue,
};

use super::dynamodb::{DynamoDb, Item, TABLE, number, text};

/// Would `fromDynamoRecord` of 2.7.2 and 3.5.1 read this lease? 2.x throws for the whole scan if
/// not. It asks for attributes by name, so ours (`nativeCounter`, `nativeProcess`, `nativeClock`,
/// `nativeShare`, `shareCounter`, `handoverTo`, `handoverHas`, `handoverLoad`, `news`,
/// `latestSince`, `busy`) do not matter to it, whatever their types.
pub(crate) fn assert_loads(item: &Item) {
    let want = |name: &str, is: fn(&AttributeValue) -> bool, needed: bool| match item.get(name) {
        Some(value) => assert!(is(value), "{name} is {value:?} in {item:?}"),
        None => assert!(!needed, "no {name} in {item:?}"),
    };
    let is_text = |value: &AttributeValue| value.as_s().is_ok_and(|text| !text.is_empty());
    let is_long = |value: &AttributeValue| {
        value
            .as_n()
            .is_ok_and(|digits| digits.parse::<i64>().is_ok())
    };
    let is_set = |value: &AttributeValue| value.as_ss().is_ok_and(|texts| !texts.is_empty());
    let is_checkpoint = |value: &AttributeValue| {
        let sentinels = ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"];
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        value
            .as_s()
            .is_ok_and(|text| sentinels.contains(&text.as_str()) || is_number(text))
    };
    let is_hash_key =
        |value: &AttributeValue| value.as_s().is_ok_and(|text| text.parse::<u128>().is_ok());
    want("leaseKey", is_text, true);
    want("leaseCounter", is_long, true);
    want("checkpoint", is_checkpoint, true);
    want("checkpointSubSequenceNumber", is_long, true);
    want("ownerSwitchesSinceCheckpoint", is_long, true);
    want("leaseOwner", is_text, false);
    want("checkpointOwner", is_text, false);
    want("parentShardId", is_set, false);
    want("childShardIds", is_set, false);
    want("startingHashKey", is_hash_key, false);
    want("endingHashKey", is_hash_key, false);
    want("pendingCheckpoint", is_checkpoint, false);
    want("pendingCheckpointSubSequenceNumber", is_long, false);
    assert_eq!(
        item.contains_key("startingHashKey"),
        item.contains_key("endingHashKey")
    );
    let kind = item.get("entityType");
    assert!(
        kind.is_none_or(|kind| *kind == text("LEASE")),
        "not a lease: {kind:?}"
    );
}

/// A take as 2.7.2 sends it. True: it got through.
pub(crate) async fn take(db: &DynamoDb, key: &str, counter: u64, worker: &str) -> bool {
    let put = |value, action| {
        AttributeValueUpdate::builder()
            .value(value)
            .action(action)
            .build()
    };
    let update = db
        .client
        .update_item()
        .table_name(TABLE)
        .key("leaseKey", text(key))
        .expected(
            "leaseCounter",
            ExpectedAttributeValue::builder()
                .value(number(counter))
                .build(),
        )
        .attribute_updates(
            "leaseCounter",
            put(number(counter + 1), AttributeAction::Put),
        )
        .attribute_updates("leaseOwner", put(text(worker), AttributeAction::Put))
        .attribute_updates(
            "ownerSwitchesSinceCheckpoint",
            put(number(1), AttributeAction::Add),
        );
    update.send().await.is_ok()
}

/// A KCL 3 leader begins to move a lease: the owner is the next one, the holder becomes
/// `checkpointOwner`, the counter stays.
pub(crate) async fn begin_move(db: &DynamoDb, key: &str, holder: &str, next: &str) {
    let put = |value| {
        AttributeValueUpdate::builder()
            .value(value)
            .action(AttributeAction::Put)
            .build()
    };
    let update = db
        .client
        .update_item()
        .table_name(TABLE)
        .key("leaseKey", text(key))
        .expected(
            "checkpointOwner",
            ExpectedAttributeValue::builder().exists(false).build(),
        )
        .expected(
            "leaseOwner",
            ExpectedAttributeValue::builder()
                .value(text(holder))
                .build(),
        )
        .attribute_updates("checkpointOwner", put(text(holder)))
        .attribute_updates("leaseOwner", put(text(next)));
    update.send().await.expect("the leader may");
}
