//! Calls under way: of many that are due, few are sent at a time, first come, first served.
//!
//! Each kind of call has turns of its own, so that none waits behind another: renewals never behind
//! reads or scans. Time-outs begin with the turn. Whoever reads a shard takes the turn itself, and
//! times the read from then on. All turns together are as many as a worker has connections.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use kinesis_edge::{Failure, Gate};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a worker's connections are shared out among its calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Connections {
    /// GetRecords and GetShardIterator.
    pub(crate) reads: usize,
    /// Lists of shards and streams.
    pub(crate) lists: usize,
    /// Calls for one lease: renewals, checkpoints, takes.
    pub(crate) leases: usize,
    /// Scans, and questions about tables.
    pub(crate) tables: usize,
}

impl Connections {
    /// The fewest that there can be: one for each kind of call.
    pub(crate) const LEAST: usize = 4;

    /// More are never under way.
    const MOST: usize = 1 << 16;

    /// Of so many in all.
    pub(crate) fn of(most: usize) -> Self {
        let most = most.clamp(Self::LEAST, Self::MOST);
        let rare = (most / 16).max(1);
        let leases = (most * 3 / 8).max(1);
        Self {
            reads: most - leases - 2 * rare,
            lists: rare,
            leases,
            tables: rare,
        }
    }

    /// To Kinesis.
    pub(crate) fn kinesis(self) -> usize {
        self.reads + self.lists
    }

    /// To DynamoDB.
    pub(crate) fn dynamodb(self) -> usize {
        self.leases + self.tables
    }
}

/// Turns of calls of one kind.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn gate(turns: usize) -> Arc<dyn Gate> {
        Arc::new(Self(Semaphore::new(turns)))
    }
}

#[async_trait]
impl Gate for Turns {
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok()
    }

    fn ended(&self, _: &'static str, _: Duration, _: Option<&Failure>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_shared_out_and_each_kind_has_one() {
        let usual = Connections {
            reads: 32,
            lists: 4,
            leases: 24,
            tables: 4,
        };
        assert_eq!(Connections::of(64), usual);
        assert!(Connections::of(usize::MAX).reads > 1_000);
        for most in Connections::LEAST..1_000 {
            let shared = Connections::of(most);
            assert_eq!(shared.kinesis() + shared.dynamodb(), most);
            let Connections {
                reads,
                lists,
                leases,
                tables,
            } = shared;
            assert!(reads.min(lists).min(leases).min(tables) > 0, "{shared:?}");
        }
    }
}
