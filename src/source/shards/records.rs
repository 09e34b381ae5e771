//! The next record of a shard after a position, one at the most: the shard's readers share its quota with us.

use aws_sdk_kinesis::{primitives::DateTime, types::ShardIteratorType};
use jiff::Timestamp;
use kinesis_consumer::{kinesis::StartFrom, sequence::SequenceNumber};

use super::{Peek, ReadError, call};
use crate::{
    error::{SourceError, SourceErrorKind},
    source::aws::{Client, Failed},
    trigger::Stream,
};

pub(super) async fn iterator(
    client: &Client,
    stream: &Stream,
    shard: &str,
    from: &StartFrom,
) -> Result<String, ReadError> {
    let call = call(client, "GetShardIterator", stream);
    let request = client.kinesis().await.get_shard_iterator().shard_id(shard);
    let request = match stream {
        Stream::Name(name) => request.stream_name(name),
        Stream::Arn(arn) => request.stream_arn(arn),
    };
    let request = match from {
        StartFrom::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
        StartFrom::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
        StartFrom::AtTimestamp(time) => request
            .shard_iterator_type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from_millis(time.as_millisecond())),
        StartFrom::AtSequenceNumber(number) => request
            .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
            .starting_sequence_number(number.as_str()),
        StartFrom::AfterSequenceNumber(number) => request
            .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
            .starting_sequence_number(number.as_str()),
    };
    let answer = client.attempt(call, request.send()).await;
    let answer = answer.map_err(read_error)?;
    answer.shard_iterator.ok_or_else(|| {
        ReadError::Failed(Box::new(call.senseless("the answer has no ShardIterator")))
    })
}

pub(super) async fn peek(
    client: &Client,
    stream: &Stream,
    iterator: &str,
) -> Result<Peek, ReadError> {
    let call = call(client, "GetRecords", stream);
    let request = client
        .kinesis()
        .await
        .get_records()
        .shard_iterator(iterator)
        .limit(1);
    let request = match stream {
        Stream::Name(_) => request,
        Stream::Arn(arn) => request.stream_arn(arn),
    };
    let answer = client.attempt(call, request.send()).await;
    let answer = answer.map_err(read_error)?;
    let senseless = |what: &str| ReadError::Failed(Box::new(call.senseless(what)));
    // Without it the answer is none of Kinesis's; its missing iterator would look like the shard's end.
    let millis_behind_latest = answer
        .millis_behind_latest
        .ok_or_else(|| senseless("the answer has no MillisBehindLatest"))?;
    let record = answer.records.into_iter().next();
    let record = record
        .map(|record| {
            let number = SequenceNumber::try_from(record.sequence_number)
                .map_err(|error| senseless(&error.to_string()))?;
            let arrival = record.approximate_arrival_timestamp.and_then(to_timestamp);
            Ok((number, arrival))
        })
        .transpose()?;
    Ok(Peek {
        record,
        next_iterator: answer.next_shard_iterator,
        millis_behind_latest,
    })
}

fn to_timestamp(time: DateTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(time.to_millis().ok()?).ok()
}

fn read_error(Failed { error, .. }: Failed) -> ReadError {
    let SourceError { kind, code, .. } = &error;
    match (kind, code.as_str()) {
        (SourceErrorKind::Throttled, _) => ReadError::Throttled,
        (SourceErrorKind::NotFound, _) => ReadError::Gone,
        (_, "ExpiredIteratorException") => ReadError::ExpiredIterator,
        (_, "InvalidArgumentException") => ReadError::InvalidPosition,
        _ => ReadError::Failed(Box::new(error)),
    }
}
