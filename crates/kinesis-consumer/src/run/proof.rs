//! Is a lease's checkpoint of the stream that this worker reads? What reading there shows.

use tokio::time::sleep;

use crate::{
    edge::kinesis::{KinesisError, StartFrom},
    model::{keys::ShardId, lease::Lease, sequence::SequenceNumber},
    run::{context::Context, reads::Outlook, stream::Stream},
};

/// What reading at a lease's checkpoint shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Proof {
    /// The position is of this stream.
    Ours,
    /// The shard is open and has no record yet, or none any more.
    Nothing,
    /// The shard is gone, or closed without a record: whoever reads it tells what is missing.
    Over,
    /// It is not: why.
    Foreign(String),
}

/// Reads at the lease's checkpoint.
pub(crate) async fn prove(
    context: &Context,
    stream: &Stream,
    lease: &Lease,
) -> Result<Proof, KinesisError> {
    let Some(done) = lease.checkpoint.position() else {
        return Ok(Proof::Ours);
    };
    let (shard, done) = (&lease.key.shard, &done.sequence_number);
    let at = StartFrom::AtSequenceNumber(done.clone());
    let there = first_record(context, stream, shard, at).await?;
    if there == First::Record(done.clone()) {
        return Ok(Proof::Ours);
    }
    Ok(
        match first_record(context, stream, shard, StartFrom::TrimHorizon).await? {
            First::Record(oldest) if oldest >= *done => Proof::Ours,
            First::Record(oldest) => Proof::Foreign(format!(
                "the record at the checkpoint of {shard}, {done}, does not come back, although the \
             stream has an older one, {oldest}"
            )),
            First::None => Proof::Nothing,
            First::Over => Proof::Over,
        },
    )
}

/// What comes first from a position on.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum First {
    Record(SequenceNumber),
    /// Nothing, up to the tip.
    None,
    /// The shard is gone, or at its end.
    Over,
}

pub(crate) async fn first_record(
    context: &Context,
    stream: &Stream,
    shard: &ShardId,
    from: StartFrom,
) -> Result<First, KinesisError> {
    let turn = context.reads.turn(Outlook::Tip).await;
    let iterator = stream.kinesis.shard_iterator(shard, &from).await;
    drop(turn);
    let mut iterator = match iterator {
        Ok(iterator) => iterator,
        Err(KinesisError::NotFound(_)) => return Ok(First::Over),
        Err(KinesisError::InvalidSequenceNumber(_)) => return Ok(First::None),
        Err(error) => return Err(error),
    };
    loop {
        let look = context.budget.look().await;
        let turn = context.reads.turn(Outlook::Tip).await;
        let page = stream.kinesis.records(&iterator, 1).await?;
        drop(turn);
        if let Some(record) = page.records.into_iter().next() {
            return Ok(First::Record(record.sequence_number));
        }
        drop(look);
        match page.next_iterator {
            None => return Ok(First::Over),
            Some(_) if page.millis_behind_latest == 0 => return Ok(First::None),
            Some(next) => iterator = next,
        }
        sleep(context.config.min_read_interval).await;
    }
}
