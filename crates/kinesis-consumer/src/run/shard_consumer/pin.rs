//! Since when a lease stands at LATEST: a time that Kinesis itself takes for one that is over.

use jiff::Timestamp;

use super::{Leave, ShardConsumer, table_failures};
use crate::{
    edge::{
        kinesis::{KinesisError, StartFrom},
        lease_table::TableError,
    },
    face::{checkpointer::LeaseHandle, event::Event},
    model::{lease::Lease, sequence::Checkpoint},
    run::reads::Outlook,
};

impl ShardConsumer {
    /// Makes sure that a lease at LATEST remembers since when, so that whoever reads next misses
    /// nothing.
    pub(super) async fn pin_latest(&mut self) -> Result<Lease, Leave> {
        let mut failures = table_failures();
        let mut lease = self.lease.copy().await;
        while lease.checkpoint == Checkpoint::Latest && lease.latest_since.is_none() {
            let Some(since) = self.stream.latest_since() else {
                break;
            };
            match self
                .context
                .table
                .remember_latest(self.lease.key(), since)
                .await
            {
                Ok(()) => {
                    self.context.succeeded("remember_latest");
                    lease.latest_since = Some(since);
                }
                Err(TableError::Conflict(Some(current))) if current.latest_since.is_some() => {
                    lease = *current
                }
                Err(TableError::Conflict(_)) => {
                    match self.context.table.read(self.lease.key()).await {
                        Ok(Some(current)) => lease = current,
                        Ok(None) => return Err(Leave::Lost),
                        Err(error) => self.table_trouble("read", &error, &mut failures).await?,
                    }
                }
                Err(error) => {
                    self.table_trouble("remember_latest", &error, &mut failures)
                        .await?
                }
            }
        }
        if lease.checkpoint == Checkpoint::Latest
            && let Some(since) = lease.latest_since
            && self.is_to_come(since).await?
        {
            lease.latest_since = self.pin_again(since).await?;
        }
        Ok(lease)
    }

    /// Is the time to come, as Kinesis has it? It refuses to read from there. Then the Date that it
    /// came from was wrong.
    async fn is_to_come(&mut self, time: Timestamp) -> Result<bool, Leave> {
        let (shard, from) = (
            &self.lease.key().shard.clone(),
            StartFrom::AtTimestamp(time),
        );
        let mut failures = table_failures();
        loop {
            let turn = self.context.reads.turn(Outlook::Tip).await;
            let iterator = self.stream.kinesis.shard_iterator(shard, &from).await;
            drop(turn);
            match iterator {
                Err(error) if error.is_of_argument() => return Ok(true),
                Err(
                    error @ (KinesisError::Throttled(_)
                    | KinesisError::Timeout(_)
                    | KinesisError::Unavailable(_)),
                ) => {
                    let key = Some(self.lease.key());
                    self.stream.call_failed(key, "GetShardIterator", &error);
                    self.rest(failures.next().unwrap_or_default()).await?;
                }
                // Reading finds out what else is wrong.
                Ok(_) | Err(_) => return Ok(false),
            }
        }
    }

    /// `since` is to come, so since when the lease stands at LATEST is not known any more: since
    /// now, by the best clock that Kinesis does not refuse, which is told as a gap. `None`: it
    /// refuses them all, and reading begins with what comes next.
    async fn pin_again(&mut self, since: Timestamp) -> Result<Option<Timestamp>, Leave> {
        self.context.report(Event::CheckpointExpired {
            shard: self.lease.key().clone(),
            checkpoint: Checkpoint::Latest,
            oldest: None,
            age: None,
        });
        let clocks = [
            self.stream.latest_since(),
            self.stream.latest_by_this_machine(),
        ];
        for now in clocks.into_iter().flatten().filter(|now| *now < since) {
            if self.is_to_come(now).await? {
                continue;
            }
            let mut failures = table_failures();
            loop {
                match self.lease.pin_again(now).await {
                    Ok(()) => return Ok(Some(now)),
                    Err(TableError::Conflict(_)) => return Err(Leave::Lost),
                    Err(error) => {
                        self.table_trouble("remember_latest", &error, &mut failures)
                            .await?;
                    }
                }
            }
        }
        Ok(None)
    }
}
