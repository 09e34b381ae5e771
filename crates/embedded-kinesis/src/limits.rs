//! AWS's rates, kept as token buckets of one second's worth.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::lock;
use crate::protocol::AwsError;

/// Starts full; may go into debt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    per_second: f64,
    level: f64,
    at: u64,
}

impl Bucket {
    pub(crate) fn new(per_second: f64, now: u64) -> Self {
        Self {
            per_second,
            level: per_second,
            at: now,
        }
    }

    fn refill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.at) as f64 / 1000.0;
        self.level = (self.level + elapsed * self.per_second).min(self.per_second);
        self.at = now.max(self.at);
    }

    /// Takes `amount` where it is there; more than a second's worth needs a full bucket and leaves
    /// a debt.
    pub(crate) fn take(&mut self, amount: f64, now: u64) -> bool {
        self.refill(now);
        let enough = self.level >= amount.min(self.per_second);
        if enough {
            self.level -= amount;
        }
        enough
    }

    /// Whether anything is left, for amounts known only afterwards: see [`spend`](Self::spend).
    pub(crate) fn open(&mut self, now: u64) -> bool {
        self.refill(now);
        self.level > 0.0
    }

    /// When something is left again.
    pub(crate) fn opens(&mut self, now: u64) -> u64 {
        self.refill(now);
        let missing = (-self.level).max(0.0);
        now + (missing * 1000.0 / self.per_second) as u64 + 1
    }

    /// Takes `amount` after the fact. More than a second's worth is paid in full from now on, as a
    /// 10 MiB reply shuts a shard for 5 s.
    pub(crate) fn spend(&mut self, amount: f64, now: u64) {
        self.refill(now);
        self.level = if amount > self.per_second {
            -amount
        } else {
            self.level - amount
        };
    }
}

/// What a shard takes and gives.
#[derive(Debug)]
pub(crate) struct ShardLimits {
    records: Bucket,
    bytes_in: Bucket,
    get_records: Bucket,
    get_iterator: Bucket,
    bytes_out: Bucket,
}

const MIB: f64 = 1_048_576.0;

/// What a shard gives each consumer of its own, in bytes.
pub(crate) fn fan_out(now: u64) -> Bucket {
    Bucket::new(2.0 * MIB, now)
}

impl ShardLimits {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            records: Bucket::new(1000.0, now),
            bytes_in: Bucket::new(MIB, now),
            get_records: Bucket::new(5.0, now),
            get_iterator: Bucket::new(5.0, now),
            bytes_out: Bucket::new(2.0 * MIB, now),
        }
    }

    pub(crate) fn write(&mut self, bytes: usize, now: u64) -> bool {
        // A refused record must not use up the other bucket.
        let mut records = self.records;
        let taken = records.take(1.0, now) && self.bytes_in.take(bytes as f64, now);
        if taken {
            self.records = records;
        }
        taken
    }

    pub(crate) fn get_iterator(&mut self, now: u64) -> bool {
        self.get_iterator.take(1.0, now)
    }

    pub(crate) fn get_records(&mut self, now: u64) -> bool {
        self.bytes_out.open(now) && self.get_records.take(1.0, now)
    }

    pub(crate) fn gave(&mut self, bytes: usize, now: u64) {
        self.bytes_out.spend(bytes as f64, now);
    }
}

/// Rates of the control plane, per account and region or per stream.
#[derive(Debug, Default)]
pub(crate) struct ApiLimits {
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// Calls a second, and whether for each stream apart.
fn rate(operation: &str) -> Option<(f64, bool)> {
    Some(match operation {
        "DescribeStreamSummary" => (20.0, false),
        "DescribeStream" | "UpdateShardCount" => (10.0, false),
        "ListShards" => (1000.0, true),
        "DescribeStreamConsumer" => (20.0, true),
        "RegisterStreamConsumer" => (5.0, false),
        "DeregisterStreamConsumer" | "ListStreamConsumers" => (5.0, true),
        "ListStreams"
        | "CreateStream"
        | "DeleteStream"
        | "SplitShard"
        | "MergeShards"
        | "UpdateMaxRecordSize" => (5.0, false),
        "IncreaseStreamRetentionPeriod" | "DecreaseStreamRetentionPeriod" => (5.0, true),
        _ => return None,
    })
}

/// Buckets kept before those of old streams are forgotten.
const BUCKETS: usize = 10_000;

impl ApiLimits {
    pub(crate) fn check(
        &self,
        operation: &str,
        account: &str,
        region: &str,
        stream: Option<&str>,
        now: u64,
    ) -> Result<(), AwsError> {
        let Some((per_second, by_stream)) = rate(operation) else {
            return Ok(());
        };
        let stream = if by_stream {
            stream.unwrap_or_default()
        } else {
            ""
        };
        let mut buckets = lock(&self.buckets);
        if buckets.len() > BUCKETS {
            buckets.clear();
        }
        let bucket = buckets
            .entry(format!("{operation}/{account}/{region}/{stream}"))
            .or_insert_with(|| Bucket::new(per_second, now));
        if bucket.take(1.0, now) {
            return Ok(());
        }
        Err(AwsError::limit(if by_stream {
            format!("Rate exceeded for stream {stream} under account {account}.")
        } else {
            format!("Rate exceeded for account {account}.")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_calls_then_one_each_200_ms() {
        let mut limits = ShardLimits::new(0);
        let taken = (0..10).filter(|_| limits.get_records(0)).count();
        assert_eq!(taken, 5);
        assert!(!limits.get_records(199));
        assert!(limits.get_records(200));
        assert!(!limits.get_records(201));
    }

    #[test]
    fn ten_mib_shut_a_shard_for_five_seconds() {
        let mut limits = ShardLimits::new(0);
        assert!(limits.get_records(0));
        limits.gave(10 << 20, 0);
        assert!(!limits.get_records(4999));
        assert!(limits.get_records(5001));
    }

    #[test]
    fn a_thousand_records_or_one_mib() {
        let mut limits = ShardLimits::new(0);
        assert_eq!((0..1500).filter(|_| limits.write(10, 0)).count(), 1000);
        let mut limits = ShardLimits::new(0);
        assert_eq!((0..20).filter(|_| limits.write(100 << 10, 0)).count(), 10);
        // One record of 4 MiB goes through and is paid for.
        let mut limits = ShardLimits::new(0);
        assert!(limits.write(4 << 20, 0));
        assert!(!limits.write(1, 2999));
        assert!(limits.write(1, 3001));
    }
}
