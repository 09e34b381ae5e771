//! Lease items: the attributes, types and sentinels of `leases/dynamodb/DynamoDBLeaseSerializer.java`.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::{
    lease::Lease,
    sequence::Checkpoint,
    shard::{HashRange, ShardId},
};

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn strings<'a>(texts: impl IntoIterator<Item = &'a ShardId>) -> AttributeValue {
    AttributeValue::Ss(texts.into_iter().cloned().collect())
}

/// A new lease's item. What is not set is absent. No `entityType`, so that 2.x, 3.x and we can all come next.
pub(super) fn new_item(lease: &Lease) -> Item {
    let mut item = Item::from([
        ("leaseKey".to_owned(), string(&lease.key)),
        ("leaseCounter".to_owned(), number(0)),
        ("ownerSwitchesSinceCheckpoint".to_owned(), number(0)),
        ("checkpoint".to_owned(), string(lease.checkpoint.as_str())),
        (
            "checkpointSubSequenceNumber".to_owned(),
            number(lease.checkpoint.sub_sequence_number()),
        ),
    ]);
    if !lease.parents.is_empty() {
        item.insert("parentShardId".to_owned(), strings(&lease.parents));
    }
    if let Some(HashRange { start, end }) = lease.hash_range {
        item.insert("startingHashKey".to_owned(), string(start.to_string()));
        item.insert("endingHashKey".to_owned(), string(end.to_string()));
    }
    if let (Checkpoint::Latest, Some(since)) = (&lease.checkpoint, lease.latest_since) {
        item.insert("latestSince".to_owned(), number(since.as_millisecond()));
    }
    item
}

/// What an item is.
#[derive(Debug)]
pub(super) enum Parsed {
    Lease(Box<Lease>),
    /// Something else of KCL 3's, or a multi-stream lease.
    Other(String),
    /// A lease that lacks what every lease has, or has it in a form that none has.
    Broken(String),
}

pub(super) fn parse(item: &Item) -> Parsed {
    if let Some(kind) = text(item, "entityType").filter(|kind| *kind != "LEASE") {
        return Parsed::Other(format!("entityType {kind}"));
    }
    if item.contains_key("streamName") {
        return Parsed::Other("a multi-stream lease".to_owned());
    }
    match lease(item) {
        Ok(lease) => Parsed::Lease(Box::new(lease)),
        Err(reason) => Parsed::Broken(reason),
    }
}

fn lease(item: &Item) -> Result<Lease, String> {
    let key = text(item, "leaseKey").ok_or("no leaseKey (S)")?;
    let checkpoint = text(item, "checkpoint").ok_or("no checkpoint (S)")?;
    let sub_sequence_number = unsigned(item, "checkpointSubSequenceNumber")?.unwrap_or(0);
    let checkpoint = Checkpoint::parse(checkpoint, sub_sequence_number)
        .map_err(|error| format!("checkpoint: {error}"))?;
    let hash_keys = text(item, "startingHashKey").zip(text(item, "endingHashKey"));
    let hash_range =
        hash_keys.and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
    let owned = |name| text(item, name).map(str::to_owned);
    Ok(Lease {
        key: key.to_owned(),
        owner: owned("leaseOwner"),
        counter: unsigned(item, "leaseCounter")?.ok_or("no leaseCounter (N)")?,
        owner_switches: unsigned(item, "ownerSwitchesSinceCheckpoint")?.unwrap_or(0),
        parents: set(item, "parentShardId"),
        children: set(item, "childShardIds"),
        hash_range: hash_range.map(|(start, end)| HashRange { start, end }),
        checkpoint_owner: owned("checkpointOwner"),
        native_counter: unsigned(item, "nativeCounter")?,
        handover_to: owned("handoverTo"),
        latest_since: millis(item, "latestSince").filter(|_| checkpoint == Checkpoint::Latest),
        checkpoint,
    })
}

/// A string attribute that says something.
pub(super) fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?
        .as_s()
        .ok()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn unsigned(item: &Item, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = item.get(name) else {
        return Ok(None);
    };
    let number = value.as_n().ok().and_then(|digits| digits.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| format!("{name} is {value:?}: want N, a whole number from 0"))
}

fn millis(item: &Item, name: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(item.get(name)?.as_n().ok()?.parse().ok()?).ok()
}

fn set(item: &Item, name: &str) -> BTreeSet<ShardId> {
    item.get(name)
        .and_then(|value| value.as_ss().ok())
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}
