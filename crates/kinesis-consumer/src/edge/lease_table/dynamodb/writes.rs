//! What is written to a lease: KCL's conditional writes as expressions, and what we say beside
//! them.

use kinesis_edge::{AttributeValue, Write};

use super::item::{Item, keys, number, string};
use crate::model::{keys::LeaseKey, lease::Lease};

/// What is said of a holder, and of nobody after it.
pub(super) const OF_THE_HOLDER: &str =
    "failover, handoverTo, handoverHas, handoverLoad, news, busy, throughputKBps";

/// `shareCounter` says of which write it is, as those do not know it who deal by number.
pub(super) const SET_SHARE: &str = ", nativeShare = :share, shareCounter = :next";
pub(super) const REMOVE_SHARE: &str = ", nativeShare, shareCounter";

/// A request for a lease.
pub(super) const REQUEST: &str = "handoverTo, handoverHas, handoverLoad";

/// A worker of this library still has it.
pub(super) const OWNED_AS_READ: &str = "leaseOwner = :owner AND nativeCounter = leaseCounter AND \
                             attribute_not_exists(checkpointOwner)";

/// Nobody wrote since, and no KCL 3 leader moves it.
pub(super) const NOT_MOVED: &str =
    "leaseCounter = :counter AND attribute_not_exists(checkpointOwner)";

/// On condition that nobody wrote since, and that a KCL 3 leader moves it, or not, as `lease` says.
pub(super) fn as_moved(write: Write, lease: &Lease) -> Write {
    match &lease.checkpoint_owner {
        None => write.on(NOT_MOVED),
        Some(owner) => write
            .on("leaseCounter = :counter AND checkpointOwner = :checkpointOwner")
            .value(":checkpointOwner", string(owner)),
    }
}

/// Bytes a second as KCL writes them.
pub(super) fn kib(bytes: u64) -> AttributeValue {
    number(format!("{:.6}", bytes as f64 / 1024.0))
}

/// Thousandths as 0 to 1.
pub(super) fn fraction(permille: u16) -> AttributeValue {
    number(f64::from(permille) / 1000.0)
}

pub(super) fn lease_key(key: &LeaseKey) -> Item {
    Item::from([("leaseKey".to_owned(), string(key.to_string()))])
}

/// A write on condition of the counter that also moves it.
pub(super) fn beat(lease: &Lease) -> Write {
    Write::new()
        .value(":counter", number(lease.counter))
        .value(":next", number(lease.counter + 1))
}

/// A holder's write, with more to set and to remove, but for the clock.
pub(super) fn renewal(lease: &Lease, set: &str, remove: &[&str]) -> Write {
    let mut change =
        format!("SET leaseCounter = :next, nativeCounter = :next, nativeClock = :clock{set}");
    let mut remove = remove.to_vec();
    let mut write = beat(lease);
    if let Some(permille) = lease.busy_permille {
        change.push_str(", busy = :busy");
        write = write.value(":busy", fraction(permille));
    } else {
        remove.push("busy");
    }
    if let Some(failover) = lease.failover_millis {
        change.push_str(", failover = :failover");
        write = write.value(":failover", number(failover));
    } else {
        remove.push("failover");
    }
    if let Some(permille) = lease.share_permille {
        change.push_str(SET_SHARE);
        write = write.value(":share", fraction(permille));
    } else {
        remove.extend(["nativeShare", "shareCounter"]);
    }
    if let Some(throughput) = lease.throughput {
        change.push_str(", throughputKBps = :throughput");
        write = write.value(":throughput", kib(throughput));
    } else {
        remove.push("throughputKBps");
    }
    if !remove.is_empty() {
        change.push_str(" REMOVE ");
        change.push_str(&remove.join(", "));
    }
    if !lease.news.is_empty() {
        change.push_str(" DELETE news :known");
        write = write.value(":known", keys(&lease.news));
    }
    write.change(change)
}
