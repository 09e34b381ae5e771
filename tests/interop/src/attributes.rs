//! The attributes of a lease: KCL's with KCL's types, and others that keep out of its way.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// KCL's attributes of a lease, 2.x to 3.5, with their types.
const KCL: [(&str, &str); 18] = [
    ("leaseKey", "S"),
    ("leaseOwner", "S"),
    ("leaseCounter", "N"),
    ("checkpoint", "S"),
    ("checkpointSubSequenceNumber", "N"),
    ("pendingCheckpoint", "S"),
    ("pendingCheckpointSubSequenceNumber", "N"),
    ("pendingCheckpointState", "B"),
    ("ownerSwitchesSinceCheckpoint", "N"),
    ("parentShardId", "SS"),
    ("childShardIds", "SS"),
    ("startingHashKey", "S"),
    ("endingHashKey", "S"),
    ("throughputKBps", "N"),
    ("checkpointOwner", "S"),
    ("entityType", "S"),
    ("streamName", "S"),
    ("shardId", "S"),
];

/// KCL 3's attributes of its other items in the same table: nobody else's in a lease.
const RESERVED: [&str; 18] = [
    "key",
    "wid",
    "ownerName",
    "leaseDuration",
    "recordVersionNumber",
    "isReleased",
    "cv",
    "tm",
    "mb",
    "mts",
    "h",
    "lut",
    "sts",
    "opr",
    "sup",
    "slu",
    "properties",
    "streamId",
];

/// Every scan reads every item whole. KCL's own attributes are about 300 bytes.
const MOST: usize = 256;

/// The bytes, names included, of what is not KCL's.
///
/// # Errors
/// An attribute of KCL's has another type, one of the others has a name of KCL's, or together they
/// are large.
pub(crate) fn bytes_of_ours(lease: &Value) -> Result<usize> {
    let mut bytes = 0;
    for (name, value) in lease.as_object().context("no item")? {
        let value = value.as_object().and_then(|value| value.iter().next());
        let (kind, value) = value.with_context(|| format!("{name} has no value"))?;
        if let Some((_, want)) = KCL.iter().find(|(kcl, _)| kcl == name) {
            ensure!(kind == want, "{name} is a {kind}, want a {want}");
            continue;
        }
        ensure!(!RESERVED.contains(&name.as_str()), "{name} is KCL's");
        bytes += name.len()
            + value
                .as_str()
                .map_or_else(|| value.to_string().len(), str::len);
    }
    ensure!(bytes <= MOST, "{bytes} bytes that are not KCL's: {lease}");
    Ok(bytes)
}
