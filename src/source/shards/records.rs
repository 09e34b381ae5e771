//! The next record of a shard after a position. One at the most: the shard's readers share its
//! quota with us.

use std::sync::Arc;

use kinesis_consumer::{SequenceNumber, shards::StartFrom};
use kinesis_edge::{Failure, Kind};

use super::{Peek, ReadError, senseless};
use crate::{
    source::aws::{Client, Resource},
    trigger::Stream,
};

pub(super) async fn iterator(
    client: &Arc<Client>,
    stream: &Stream,
    shard: &str,
    from: &StartFrom,
) -> Result<String, ReadError> {
    let iterator = client.stream(stream).await.iterator(shard, from).await;
    iterator.map_err(|failure| read_error(client, stream, &failure))
}

pub(super) async fn peek(
    client: &Arc<Client>,
    stream: &Stream,
    iterator: &str,
) -> Result<Peek, ReadError> {
    let page = client.stream(stream).await.records(iterator, 1).await;
    let page = page.map_err(|failure| read_error(client, stream, &failure))?;
    let record = page.records.into_iter().next();
    let record = record
        .map(|record| {
            let number = SequenceNumber::try_from(record.sequence_number).map_err(|error| {
                let failure = senseless("GetRecords", &error);
                read_error(client, stream, &failure)
            })?;
            Ok((number, record.arrival))
        })
        .transpose()?;
    Ok(Peek {
        record,
        next_iterator: page.next_iterator,
        millis_behind_latest: page.millis_behind_latest,
    })
}

fn read_error(client: &Client, stream: &Stream, failure: &Failure) -> ReadError {
    match failure.kind {
        Kind::Throttled => ReadError::Throttled,
        Kind::NotFound => ReadError::Gone,
        Kind::ExpiredIterator => ReadError::ExpiredIterator,
        Kind::InvalidPosition | Kind::Invalid => ReadError::InvalidPosition,
        _ => ReadError::Failed(Box::new(client.error(Resource::Stream(stream), failure))),
    }
}
