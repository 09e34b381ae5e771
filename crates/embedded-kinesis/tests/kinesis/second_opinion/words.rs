//! Answers in words that can be compared.

use std::fmt::Write as _;

use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::Shard;

use crate::support::{self, text};

/// AWS's code, or what was made of the answer.
pub(crate) fn said<T, E: ProvideErrorMetadata>(
    result: Result<T, E>,
    show: impl FnOnce(T) -> String,
) -> String {
    match result {
        Ok(answer) => show(answer),
        Err(error) => error.code().unwrap_or("an error without a code").to_owned(),
    }
}

pub(crate) fn done<T>(_: T) -> String {
    "done".to_owned()
}

/// Shards by their ranges, not their numbers: in what order a resize makes them is nobody's
/// promise.
pub(crate) fn lineage(shards: &[Shard]) -> String {
    // In 1/1000 of all keys: the two may round differently.
    let thousandth = |key: &str| key.parse::<u128>().unwrap() / (u128::MAX / 1000);
    let range = |shard: &Shard| {
        let range = shard.hash_key_range().unwrap();
        (
            thousandth(range.starting_hash_key()),
            thousandth(range.ending_hash_key()),
        )
    };
    let of = |shard: &Shard| {
        let (start, end) = range(shard);
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()]
            .into_iter()
            .flatten();
        let parents: Vec<_> = parents
            .map(|id| shards.iter().find(|it| it.shard_id() == id).map(range))
            .collect();
        let closed = shard
            .sequence_number_range()
            .unwrap()
            .ending_sequence_number()
            .is_some();
        (start, end, parents, closed)
    };
    let mut all: Vec<_> = shards.iter().map(of).collect();
    all.sort();
    let mut out = String::new();
    for (start, end, parents, closed) in all {
        let parents: Vec<String> = parents
            .into_iter()
            .map(|it| it.map_or("?".to_owned(), |(start, end)| format!("{start}-{end}")))
            .collect();
        let state = if closed { "closed" } else { "open" };
        write!(out, "[{start}-{end} of ({}) {state}]", parents.join(" ")).unwrap();
    }
    out
}

pub(crate) fn page(answer: GetRecordsOutput) -> String {
    let texts: Vec<String> = answer.records().iter().map(text).collect();
    let children: Vec<u32> = answer
        .child_shards()
        .iter()
        .map(|it| support::number(it.shard_id()))
        .collect();
    let behind = answer.millis_behind_latest().unwrap_or(-1) > 0;
    format!(
        "{texts:?} children {children:?} behind {behind} more {}",
        answer.next_shard_iterator().is_some()
    )
}
