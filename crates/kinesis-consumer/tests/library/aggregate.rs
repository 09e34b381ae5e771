//! KPL aggregates, as a producer writes them.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Aggregated {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<User>,
}

#[derive(Clone, PartialEq, Message)]
struct User {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

/// User records for these hash keys, whose data are their ordinals from `first`.
pub(crate) fn encode(first: usize, hash_keys: &[u128]) -> Bytes {
    let user = |ordinal: usize| User {
        partition_key: 0,
        explicit_hash_key: Some((ordinal - first) as u64),
        data: (ordinal as u64).to_be_bytes().to_vec(),
    };
    let aggregated = Aggregated {
        partition_keys: vec!["key".into()],
        explicit_hash_keys: hash_keys.iter().map(u128::to_string).collect(),
        records: (first..first + hash_keys.len()).map(user).collect(),
    };
    let body = aggregated.encode_to_vec();
    let digest = Md5::digest(&body);
    [&[0xF3, 0x89, 0x9A, 0xC2], &body[..], &digest[..]]
        .concat()
        .into()
}
