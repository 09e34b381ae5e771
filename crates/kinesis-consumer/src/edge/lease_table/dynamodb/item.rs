//! Lease items: the attributes, types and sentinels of
//! `leases/dynamodb/DynamoDBLeaseSerializer.java`.
//!
//! [`parse`] is for whoever scans a lease table without working on it, too: ask for the attributes
//! of [`PROJECTION`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use kinesis_edge::AttributeValue;
pub use kinesis_edge::Item;

use crate::model::{
    keys::{LeaseKey, ShardId, StreamIdentifier},
    lease::Lease,
    sequence::Checkpoint,
    shard::HashRange,
};

/// All that [`parse`] needs to know who holds a lease, how far it is, whose child it is and how
/// busy its holder is. Without the hash range, the number of owner switches and the process, which
/// nobody but a worker needs.
pub const PROJECTION: [&str; 15] = [
    "leaseKey",
    "leaseOwner",
    "leaseCounter",
    "checkpoint",
    "checkpointSubSequenceNumber",
    "parentShardId",
    "childShardIds",
    "checkpointOwner",
    "entityType",
    "streamName",
    "shardId",
    "nativeCounter",
    "handoverTo",
    "latestSince",
    "busy",
];

/// Java's largest `Long`: KCL reads no larger counter.
const MOST_COUNTED: u64 = i64::MAX as u64;

/// No worker has more to do, in thousandths, nor reads more bytes a second: sums stay in range.
const MOST_LOAD: u64 = 1_000_000;
const MOST_THROUGHPUT: u64 = 1 << 40;
/// No worker holds more leases.
const MOST_LEASES: u64 = 1_000_000;

pub(super) fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn strings<'a>(texts: impl IntoIterator<Item = &'a ShardId>) -> AttributeValue {
    AttributeValue::Ss(texts.into_iter().map(ShardId::to_string).collect())
}

pub(super) fn keys<'a>(keys: impl IntoIterator<Item = &'a LeaseKey>) -> AttributeValue {
    AttributeValue::Ss(keys.into_iter().map(LeaseKey::to_string).collect())
}

/// A new lease's item. What is not set is absent. No `entityType`, so that 2.x, 3.x and we can all
/// come next.
pub(super) fn new_item(lease: &Lease) -> Item {
    let mut item = Item::from([
        ("leaseKey".to_owned(), string(lease.key.to_string())),
        ("leaseCounter".to_owned(), number(0)),
        ("ownerSwitchesSinceCheckpoint".to_owned(), number(0)),
        ("checkpoint".to_owned(), string(lease.checkpoint.as_str())),
        (
            "checkpointSubSequenceNumber".to_owned(),
            number(lease.checkpoint.sub_sequence_number()),
        ),
    ]);
    if let Some(stream) = &lease.key.stream {
        item.insert("streamName".to_owned(), string(stream.to_string()));
        item.insert("shardId".to_owned(), string(lease.key.shard.as_str()));
    }
    if !lease.parents.is_empty() {
        item.insert("parentShardId".to_owned(), strings(&lease.parents));
    }
    // Only of one that is put back.
    if !lease.children.is_empty() {
        item.insert("childShardIds".to_owned(), strings(&lease.children));
    }
    if let Some(HashRange { start, end }) = lease.hash_range {
        item.insert("startingHashKey".to_owned(), string(start.to_string()));
        item.insert("endingHashKey".to_owned(), string(end.to_string()));
    }
    if let Some(identity) = &lease.stream_identity {
        item.insert("nativeStream".to_owned(), string(identity));
    }
    if let (Checkpoint::Latest, Some(since)) = (&lease.checkpoint, lease.latest_since) {
        item.insert("latestSince".to_owned(), number(since.as_millisecond()));
    }
    item
}

/// What an item is.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// A lease. Its key has a stream in the table of a multi-stream application.
    Lease(Box<Lease>),
    /// Something else of KCL 3's, with no shard's id for its key: its `entityType`.
    Other(String),
    /// A lease that lacks what every lease has, or has it in a form that none has: why.
    Broken(String),
}

/// What the item is. Attributes that are not there are taken as unset, so a projection does as
/// well.
pub fn parse(item: &Item) -> Parsed {
    if let Some(kind) = text(item, "entityType").filter(|kind| *kind != "LEASE") {
        // Its shard has no other lease, and gets none while this item has its key.
        let (_, shard) = key(item).rsplit_once(':').unwrap_or(("", key(item)));
        return match shard.starts_with("shardId-") {
            true => Parsed::Broken(format!("entityType is {kind}: want LEASE, or none")),
            false => Parsed::Other(kind.to_owned()),
        };
    }
    match lease(item) {
        Ok(lease) => Parsed::Lease(Box::new(lease)),
        Err(reason) => Parsed::Broken(reason),
    }
}

/// The item's `leaseKey`, to name one that is no lease.
pub fn key(item: &Item) -> &str {
    text(item, "leaseKey").unwrap_or("(no leaseKey)")
}

/// `None`: the application reads one stream.
fn stream(item: &Item) -> Result<Option<StreamIdentifier>, String> {
    let Some(name) = item.get("streamName") else {
        return Ok(None);
    };
    let name = name
        .as_s()
        .map_err(|odd| format!("streamName is {odd:?}: want S"))?;
    let stream = name
        .parse()
        .map_err(|error| format!("streamName: {error}"))?;
    Ok(Some(stream))
}

fn lease(item: &Item) -> Result<Lease, String> {
    let stream = stream(item)?;
    let key = stream.as_ref().map_or("leaseKey", |_| "shardId");
    let shard = text(item, key)
        .ok_or_else(|| format!("no {key} (S)"))?
        .into();
    let checkpoint = text(item, "checkpoint").ok_or("no checkpoint (S)")?;
    let sub_sequence_number = unsigned(item, "checkpointSubSequenceNumber")?.unwrap_or(0);
    let checkpoint = Checkpoint::parse(checkpoint, sub_sequence_number)
        .map_err(|error| format!("checkpoint: {error}"))?;
    let hash_keys = text(item, "startingHashKey").zip(text(item, "endingHashKey"));
    let hash_range =
        hash_keys.and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
    let owned = |name| text(item, name).map(str::to_owned);
    let parents = set(item, "parentShardId")?;
    if parents.contains(&shard) {
        return Err(format!(
            "parentShardId names {shard} itself, whose end it would wait for"
        ));
    }
    let counter = unsigned(item, "leaseCounter")?.ok_or("no leaseCounter (N)")?;
    if counter >= MOST_COUNTED {
        return Err(format!("leaseCounter is {counter}: no worker can count on"));
    }
    Ok(Lease {
        key: LeaseKey { stream, shard },
        owner: owned("leaseOwner"),
        counter,
        owner_switches: unsigned(item, "ownerSwitchesSinceCheckpoint")?.unwrap_or(0),
        parents,
        children: set(item, "childShardIds")?,
        hash_range: hash_range.map(|(start, end)| HashRange { start, end }),
        checkpoint_owner: owned("checkpointOwner"),
        native_counter: unsigned(item, "nativeCounter")?,
        native_process: owned("nativeProcess"),
        // Hints, as the rest of what is for other workers, so odd ones spoil nothing.
        native_clock: unsigned(item, "nativeClock").ok().flatten(),
        failover_millis: unsigned(item, "failover").ok().flatten(),
        handover_to: owned("handoverTo"),
        handover_has: unsigned(item, "handoverHas")
            .ok()
            .flatten()
            .filter(|has| *has <= MOST_LEASES),
        handover_load: asker_load(item),
        news: news(item),
        stream_identity: owned("nativeStream"),
        // Only a hint, so an odd one spoils nothing.
        busy_permille: permille(item, "busy"),
        share_permille: share(item, counter),
        throughput: throughput(item),
        latest_since: match checkpoint {
            Checkpoint::Latest => millis(item, "latestSince")?,
            _ => None,
        },
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

fn millis(item: &Item, name: &str) -> Result<Option<Timestamp>, String> {
    let Some(value) = item.get(name) else {
        return Ok(None);
    };
    let millis = value.as_n().ok().and_then(|digits| digits.parse().ok());
    let time = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map(Some)
        .ok_or_else(|| format!("{name} is {value:?}: want N, milliseconds since 1970"))
}

/// Written as 0 to 1 with three decimals.
fn permille(item: &Item, name: &str) -> Option<u16> {
    let fraction: f64 = item.get(name)?.as_n().ok()?.parse().ok()?;
    // In range, so the cast is exact.
    (0.0..=1.0)
        .contains(&fraction)
        .then(|| (fraction * 1000.0).round() as u16)
}

/// Written as `120 worker`: who asks and knows nothing of it leaves another's standing.
pub(super) fn load_of(load: u64, asker: &str) -> AttributeValue {
    string(format!("{load} {asker}"))
}

fn asker_load(item: &Item) -> Option<u64> {
    let (load, asker) = text(item, "handoverLoad")?.split_once(' ')?;
    let load = load.parse().ok().filter(|load| *load <= MOST_LOAD);
    load.filter(|_| text(item, "handoverTo") == Some(asker))
}

/// Only that of the last write: Java's workers, and those of earlier versions, leave it standing.
fn share(item: &Item, counter: u64) -> Option<u16> {
    let of = unsigned(item, "shareCounter").ok().flatten();
    permille(item, "nativeShare").filter(|_| of == Some(counter))
}

/// Written in KiB a second with up to six decimals.
fn throughput(item: &Item) -> Option<u64> {
    let kib: f64 = item.get("throughputKBps")?.as_n().ok()?.parse().ok()?;
    // A cast to an integer saturates.
    (kib >= 0.0).then_some(((kib * 1024.0).round() as u64).min(MOST_THROUGHPUT))
}

fn news(item: &Item) -> BTreeSet<LeaseKey> {
    let texts = item.get("news").and_then(|value| value.as_ss().ok());
    let keys = texts.into_iter().flatten();
    keys.filter_map(|text| text.parse().ok()).collect()
}

/// Other libraries write NULL for none, one id, or a list.
fn set(item: &Item, name: &str) -> Result<BTreeSet<ShardId>, String> {
    let ids = match item.get(name) {
        None | Some(AttributeValue::Null(_)) => Some(Vec::new()),
        Some(AttributeValue::Ss(ids)) => Some(ids.iter().collect()),
        Some(AttributeValue::S(id)) => Some(vec![id]),
        Some(AttributeValue::L(ids)) => ids.iter().map(|id| id.as_s().ok()).collect(),
        Some(_) => None,
    };
    // A child whose parents are not known would be read before them.
    let ids = ids.ok_or_else(|| format!("{name} is {:?}: want SS", item[name]))?;
    let ids = ids.into_iter().filter(|id| !id.is_empty());
    Ok(ids.map(|id| id.as_str().into()).collect())
}
