//! Where reading of one shard stands, however its records come: by polling or by subscriptions.
//!
//! Resuming at a checkpoint reads that very record again (AT_SEQUENCE_NUMBER, as KCL: an aggregate
//! may be half processed) and drops what the checkpoint covers. A record that does not come back
//! was taken by the stream's retention, and so may others have been: [`gap`](super::gap). So may
//! what comes after a record that was fetched long ago.

use std::{sync::Arc, time::Duration};

use backon::ExponentialBackoff;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::{
    decide::shard_sync,
    edge::kinesis::{KinesisError, ShardFilter, StartFrom},
    face::{config::InitialPosition, error::Error},
    model::{
        keys::LeaseKey,
        lease::Lease,
        sequence::{Checkpoint, Position, SequenceNumber},
        shard::{ChildShard, HashRange, Shard},
    },
    run::{
        context::{Context, backoff, pause},
        retrieval::{Gone, Output},
        stream::Stream,
    },
};

pub(super) struct Cursor {
    pub(super) context: Arc<Context>,
    pub(super) stream: Arc<Stream>,
    pub(super) key: LeaseKey,
    /// The hash keys of the shard, unless aggregates are delivered whatever they hold.
    pub(super) range: Option<HashRange>,
    pub(super) checkpoint: Checkpoint,
    /// The checkpointed record, until it came back or nothing is there after it.
    pub(super) unconfirmed: Option<Position>,
    /// A position that was refused, until it shows what is left.
    pub(super) refused: Option<Position>,
    pub(super) start: StartFrom,
    /// The time in place of a position, until it is judged what the retention took since then.
    pub(super) since: Option<Timestamp>,
    /// Which shard of that id it is, as far as that is known.
    pub(super) identity: Option<String>,
    pub(super) last_fetched: Option<SequenceNumber>,
    /// After which number a subscription goes on, which no record need have. It never becomes a
    /// checkpoint: only a record that comes back proves whose a position is, and what is missing.
    pub(super) continuation: Option<SequenceNumber>,
    /// Nothing that arrived before is left to read, as AWS's clock has it.
    pub(super) read_until: Option<Timestamp>,
    /// When it was last looked whether the retention is behind what was fetched.
    pub(super) looked: Option<Instant>,
    /// How often Kinesis refused the position, in a row.
    pub(super) refusals: u32,
    pub(super) waits: Waits,
    pub(super) out: Output,
}

/// How long to wait after failed calls in a row.
pub(super) struct Waits {
    pub(super) throttled: ExponentialBackoff,
    pub(super) failed: ExponentialBackoff,
    /// While another subscription stands.
    pub(super) in_use: ExponentialBackoff,
}

/// How to go on after a failed call.
pub(super) enum Recovery {
    SameIterator,
    NewIterator,
    ShardGone,
}

/// Why reading stops before the shard's end: nobody listens, or the worker cannot go on.
pub(super) enum Stop {
    Gone,
    Failed(Error),
}

impl Cursor {
    pub(super) fn new(
        context: Arc<Context>,
        stream: Arc<Stream>,
        lease: &Lease,
        out: Output,
    ) -> Self {
        let start = start(lease, context.config.initial_position);
        let identity = lease.stream_identity.clone();
        Self {
            key: lease.key.clone(),
            range: lease
                .hash_range
                .filter(|_| !context.config.deliver_unfit_aggregates),
            checkpoint: lease.checkpoint.clone(),
            unconfirmed: lease.checkpoint.position().cloned(),
            refused: None,
            since: match &start {
                StartFrom::AtTimestamp(since) => Some(*since),
                _ => None,
            },
            start,
            identity: identity.or_else(|| stream.ownership.identity(&lease.key.shard)),
            last_fetched: None,
            continuation: None,
            read_until: None,
            looked: None,
            refusals: 0,
            waits: Waits::new(),
            out,
            context,
            stream,
        }
    }

    /// Where to go on.
    pub(super) fn from(&self) -> StartFrom {
        match self.continuation.as_ref().max(self.last_fetched.as_ref()) {
            Some(last) => StartFrom::AfterSequenceNumber(last.clone()),
            None => self.start.clone(),
        }
    }

    /// Kinesis answered with what it has.
    pub(super) fn answered(&mut self) {
        self.waits = Waits::new();
        self.refusals = 0;
    }

    pub(super) async fn recover(
        &mut self,
        operation: &'static str,
        error: KinesisError,
    ) -> Result<Recovery, Stop> {
        let recovery = match &error {
            // Not every emulator takes a number that no record has.
            KinesisError::InvalidSequenceNumber(_) if self.continuation.take().is_some() => {
                Recovery::NewIterator
            }
            KinesisError::InvalidSequenceNumber(_) if self.reads_by_number() => {
                self.position_refused().await?;
                Recovery::NewIterator
            }
            // Those of a stream that was made anew, too.
            KinesisError::NotFound(_) | KinesisError::ExpiredIterator(_)
                if self.is_gone().await? =>
            {
                return Ok(Recovery::ShardGone);
            }
            KinesisError::ExpiredIterator(_) => Recovery::NewIterator,
            // It may be the iterator that is refused, and would be for ever.
            KinesisError::NotFound(_) | KinesisError::Permanent(_) => Recovery::NewIterator,
            KinesisError::Throttled(_)
            | KinesisError::InvalidSequenceNumber(_)
            | KinesisError::InUse(_)
            | KinesisError::LimitExceeded(_)
            | KinesisError::Timeout(_)
            | KinesisError::NoRoom(_)
            | KinesisError::Unavailable(_) => Recovery::SameIterator,
        };
        self.stream.call_failed(Some(&self.key), operation, &error);
        pause(match error {
            KinesisError::Throttled(_) => &mut self.waits.throttled,
            KinesisError::InUse(_) => &mut self.waits.in_use,
            KinesisError::ExpiredIterator(_)
            | KinesisError::InvalidSequenceNumber(_)
            | KinesisError::NotFound(_)
            | KinesisError::LimitExceeded(_)
            | KinesisError::Permanent(_)
            | KinesisError::Timeout(_)
            | KinesisError::NoRoom(_)
            | KinesisError::Unavailable(_) => &mut self.waits.failed,
        })
        .await;
        Ok(recovery)
    }

    fn reads_by_number(&self) -> bool {
        self.last_fetched.is_some() || matches!(self.start, StartFrom::AtSequenceNumber(_))
    }

    /// Fails where the shard of that id is another one now: what was read is none of its records.
    pub(super) async fn is_gone(&mut self) -> Result<bool, Stop> {
        let shards = self.shards().await?;
        let listed = shards.iter().find(|shard| shard.id == self.key.shard);
        if listed.is_some_and(|listed| self.is_known_as(listed) == Some(false)) {
            let shard = self.key.shard.clone();
            return Err(Stop::Failed(self.stream.recreated(shard)));
        }
        Ok(listed.is_none())
    }

    /// Is it the shard that the lease is of? `None`: that is not known.
    pub(super) fn is_known_as(&self, listed: &Shard) -> Option<bool> {
        let identity = self.identity.as_ref()?;
        Some(self.stream.ownership.is_of(identity, listed))
    }

    /// The children of a shard that the stream no longer lists: what was left to read of it is
    /// gone, too. `None`: it is listed after all.
    pub(super) async fn gone(&mut self) -> Result<Option<Vec<ChildShard>>, Stop> {
        let children = self.children().await?;
        if children.is_some() {
            self.tell_rest();
        }
        Ok(children)
    }

    /// The children by `ListShards`, where reading came to an end: empty only if the shard itself
    /// is gone, as a closed shard has children. `None`: it is open, so there is more to read.
    pub(super) async fn children(&mut self) -> Result<Option<Vec<ChildShard>>, Stop> {
        loop {
            let shards = self.shards().await?;
            let children = shard_sync::child_shards(&self.key.shard, &shards);
            let listed = shards.iter().find(|shard| shard.id == self.key.shard);
            let Some(listed) = listed.filter(|_| children.is_empty()) else {
                return Ok(Some(children));
            };
            let is = if listed.closed {
                "closed without children"
            } else {
                "open"
            };
            let text = format!("the shard is read to its end, but ListShards has it {is}");
            let error = KinesisError::Unavailable(text.into());
            self.stream
                .call_failed(Some(&self.key), "ListShards", &error);
            if !listed.closed {
                sleep(self.context.config.times().idle_between_reads).await;
                return Ok(None);
            }
            pause(&mut self.waits.failed).await;
        }
    }

    pub(super) async fn shards(&mut self) -> Result<Vec<Shard>, Stop> {
        loop {
            match self.stream.kinesis.list_shards(ShardFilter::All).await {
                Ok(shards) => return Ok(shards),
                Err(error @ KinesisError::NotFound(_)) => {
                    return Err(Stop::Failed(self.stream.error(error)));
                }
                Err(error) => {
                    self.stream.call_failed(None, "ListShards", &error);
                    pause(&mut self.waits.throttled).await;
                }
            }
        }
    }
}

impl Waits {
    pub(super) fn new() -> Self {
        Self {
            throttled: backoff(Duration::from_secs(1), Duration::from_secs(10)),
            failed: backoff(Duration::from_millis(200), Duration::from_secs(30)),
            in_use: backoff(Duration::from_secs(1), Duration::from_secs(5)),
        }
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

fn start(lease: &Lease, position: InitialPosition) -> StartFrom {
    match &lease.checkpoint {
        Checkpoint::At(done) => StartFrom::AtSequenceNumber(done.sequence_number.clone()),
        Checkpoint::Latest => lease
            .latest_since
            .map_or(StartFrom::Latest, StartFrom::AtTimestamp),
        Checkpoint::AtTimestamp => match position {
            InitialPosition::AtTimestamp(time) => StartFrom::AtTimestamp(time),
            // The table does not hold the time, and the configuration no longer does: too many
            // records are better than too few.
            InitialPosition::TrimHorizon | InitialPosition::Latest => StartFrom::TrimHorizon,
        },
        Checkpoint::TrimHorizon | Checkpoint::ShardEnd => StartFrom::TrimHorizon,
    }
}
