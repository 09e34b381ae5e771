//! What a call costs: DynamoDB's units, by the sizes that the rows have there.

use std::collections::BTreeMap;

use kinesis_consumer::{
    lease::Lease,
    test_util::{Fault, MemoryTable, Outcome, TableCall},
};

/// An item's number: a byte for each two digits, and one more.
fn number(number: u64) -> usize {
    number.to_string().len().div_ceil(2) + 1
}

/// The row as KCL 2.x has it: names and values.
pub(crate) fn java_bytes(lease: &Lease) -> usize {
    let text = |name: &str, bytes: usize| name.len() + bytes;
    let owner = lease.owner.as_ref();
    let parents: usize = lease.parents.iter().map(|id| id.as_str().len() + 1).sum();
    text("leaseKey", lease.key.to_string().len())
        + owner.map_or(0, |owner| text("leaseOwner", owner.len()))
        + text("leaseCounter", number(lease.counter))
        // A sequence number's digits, as Kinesis writes them.
        + text("checkpoint", 56)
        + text("checkpointSubSequenceNumber", 2)
        + text("ownerSwitchesSinceCheckpoint", 2)
        + text("parentShardId", 3 + parents)
        + text("startingHashKey", 39)
        + text("endingHashKey", 39)
}

/// The row as ours.
fn bytes(lease: &Lease) -> usize {
    let text = |name: &str, value: Option<usize>| value.map_or(0, |bytes| name.len() + bytes);
    let news: usize = lease.news.iter().map(|key| key.to_string().len() + 1).sum();
    java_bytes(lease)
        + text("nativeCounter", lease.native_counter.map(number))
        + text(
            "nativeProcess",
            lease.native_process.as_ref().map(String::len),
        )
        + text("nativeClock", lease.native_clock.map(number))
        + text(
            "nativeStream",
            lease.stream_identity.as_ref().map(String::len),
        )
        + text("failover", lease.failover_millis.map(|_| 3))
        + text("handoverTo", lease.handover_to.as_ref().map(String::len))
        + text("handoverHas", lease.handover_has.map(number))
        + text(
            "handoverLoad",
            lease
                .handover_load
                .zip(lease.handover_to.as_ref())
                .map(|(load, asker)| number(load) + 1 + asker.len()),
        )
        + text("nativeShare", lease.share_permille.map(|_| 3))
        + text(
            "shareCounter",
            lease.share_permille.map(|_| number(lease.counter)),
        )
        + text("throughputKBps", lease.throughput.map(number))
        + text("news", (news > 0).then_some(3 + news))
        + text("busy", lease.busy_permille.map(|_| 3))
}

pub(crate) fn half_units(bytes: usize) -> f64 {
    bytes.div_ceil(4096).max(1) as f64 / 2.0
}

/// What KCL 2.x reads and writes of such a table a minute.
pub(crate) fn kcl_2(workers: usize, leases: &[Lease]) -> (f64, f64) {
    let scan = half_units(leases.iter().map(java_bytes).sum());
    let scans = workers as f64 * 60.0 / 20.05;
    let held = leases.iter().filter(|lease| !lease.is_finished()).count();
    (scans * scan, held as f64 * 60.0 / 3.308)
}

/// Units read and written, by operation.
pub(crate) type Units = BTreeMap<&'static str, (f64, f64)>;

pub(super) fn count(units: &mut Units, call: &TableCall<'_>, fault: Fault, table: &MemoryTable) {
    let times = match fault.outcome {
        Outcome::Done | Outcome::AnswerLost => 1.0,
        Outcome::Repeated => 2.0,
        Outcome::Throttled | Outcome::Denied | Outcome::Lost => return,
    };
    let (read, written) = units.entry(call.operation).or_default();
    match call.operation {
        "ensure_exists" => {}
        "scan" => *read += times * half_units(table.leases().iter().map(bytes).sum()),
        "look" => *read += times * call.leases as f64 / 2.0,
        "read" => *read += times,
        // One item, as KCL 3 never was there.
        "kcl3_state" => *read += times / 2.0,
        _ => *written += times,
    }
}

pub(crate) fn total(units: &Units) -> (f64, f64) {
    let add = |sum: (f64, f64), of: &(f64, f64)| (sum.0 + of.0, sum.1 + of.1);
    units.values().fold((0.0, 0.0), add)
}
