//! Which kind of application a table is of: KCL's single-stream and multi-stream tables do not mix.

use super::item::{self, Item, Parsed, parse};
use crate::{
    edge::lease_table::{Scan, TableError},
    model::lease::Lease,
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Application {
    OfOneStream,
    OfSeveralStreams,
}

impl Application {
    /// What a lease of the other kind is.
    fn foreign(self) -> &'static str {
        match self {
            Self::OfOneStream => "a lease of an application that reads several streams",
            Self::OfSeveralStreams => "a lease of an application that reads one stream",
        }
    }

    /// Is it a lease of this kind?
    fn has(self, lease: &Lease, key: &str) -> bool {
        let is_of_several = lease.key.stream.is_some() || key.contains(':');
        is_of_several == (self == Self::OfSeveralStreams)
    }

    /// What is wrong with a lease of this kind: a key of several streams names one, and then the
    /// item does, too.
    fn flaw(self, lease: &Lease, key: &str) -> Option<String> {
        match (self, &lease.key.stream) {
            (Self::OfSeveralStreams, None) => Some(
                "no streamName: want it and shardId beside leaseKey, which has both".to_owned(),
            ),
            _ => (lease.key.to_string() != key).then(|| misnamed(lease)),
        }
    }

    /// The item's lease, or why it has none.
    pub(super) fn lease(self, item: &Item) -> Result<Lease, String> {
        let key = item::key(item);
        match parse(item) {
            Parsed::Lease(lease) if !self.has(&lease, key) => Err(self.foreign().to_owned()),
            Parsed::Lease(lease) => self.flaw(&lease, key).map_or(Ok(*lease), Err),
            Parsed::Other(kind) => Err(format!("entityType {kind}")),
            Parsed::Broken(reason) => Err(reason),
        }
    }

    pub(super) fn conflict(self, item: Option<Item>) -> TableError {
        let lease = item.and_then(|item| self.lease(&item).ok());
        TableError::Conflict(lease.map(Box::new))
    }

    /// Puts an item where it belongs.
    pub(super) fn sort(self, item: &Item, scan: &mut Scan) {
        let key = item::key(item);
        match parse(item) {
            Parsed::Lease(lease) if !self.has(&lease, key) => {
                scan.foreign
                    .push((key.to_owned(), self.foreign().to_owned()));
            }
            Parsed::Lease(lease) => {
                if let Some(flaw) = self.flaw(&lease, key) {
                    scan.broken.push((key.to_owned(), flaw));
                    return;
                }
                let kcl3 = lease.checkpoint_owner.is_some() || item.contains_key("throughputKBps");
                let is_at_work =
                    lease.owner.is_some() && !lease.is_native() && !lease.is_finished();
                scan.shows_kcl3 |= kcl3 && is_at_work;
                scan.leases.push(*lease);
            }
            Parsed::Other(_) => scan.has_others = true,
            Parsed::Broken(reason) => scan.broken.push((key.to_owned(), reason)),
        }
    }
}

fn misnamed(lease: &Lease) -> String {
    format!(
        "streamName and shardId say {}: want the same as leaseKey",
        lease.key
    )
}
