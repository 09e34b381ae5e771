//! What becomes of the calls of a fleet on their way to the table.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use kinesis_consumer::test_util::{Fault, Outcome, TableCall};
use tokio::time::Instant;

/// DynamoDB's, of the lease table.
const PARTITIONS: u64 = 8;
/// A partition is short of capacity for so long, once in so many such times.
const SHORTAGE: Duration = Duration::from_secs(3);
const ONCE_IN: u64 = 20;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Network {
    /// Each way takes some milliseconds.
    Calm,
    /// Of 1,000 calls 20 are late by up to a second and a half, 5 are lost, the answers of 5 are
    /// lost, and 5 arrive twice; a partition of the table refuses most calls three seconds a
    /// minute.
    Troubled,
}

impl Network {
    /// `began`: when the fleet did.
    pub(super) fn fault(self, call: &TableCall<'_>, began: Instant) -> Fault {
        let way = Duration::from_micros(fastrand::u64(1_000..8_000));
        let usual = Fault {
            before: way,
            after: way,
            ..Fault::default()
        };
        if self == Self::Calm {
            return usual;
        }
        if is_throttled(call, began) {
            let outcome = Outcome::Throttled;
            return Fault { outcome, ..usual };
        }
        let late = Duration::from_millis(fastrand::u64(100..1_500));
        let second = Duration::from_secs(1);
        match fastrand::u32(..1_000) {
            0..10 => Fault {
                before: late,
                ..usual
            },
            10..20 => Fault {
                after: late,
                ..usual
            },
            20..25 => Fault {
                before: second,
                outcome: Outcome::Lost,
                ..usual
            },
            25..30 => Fault {
                after: second,
                outcome: Outcome::AnswerLost,
                ..usual
            },
            30..35 => Fault {
                outcome: Outcome::Repeated,
                ..usual
            },
            _ => usual,
        }
    }
}

fn is_throttled(call: &TableCall<'_>, began: Instant) -> bool {
    let hash = |what: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        what(&mut hasher);
        hasher.finish()
    };
    // A page of a scan is of one partition, too.
    let partition = match call.key {
        Some(key) => hash(&|hasher| key.hash(hasher)) % PARTITIONS,
        None => fastrand::u64(..PARTITIONS),
    };
    let time = began.elapsed().as_secs() / SHORTAGE.as_secs();
    let is_short = hash(&|hasher| (partition, time).hash(hasher)).is_multiple_of(ONCE_IN);
    is_short && fastrand::u32(..5) > 0
}
