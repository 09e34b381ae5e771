//! The data plane's operations. Puts and gets are the hot paths: no value tree, no second copy of
//! the data, answers written straight into bytes.

mod event;
mod iterator;
mod put;
mod records;
mod subscribe;

pub(crate) use event::Event;
pub(crate) use iterator::{GetShardIterator, get_shard_iterator};
pub(crate) use put::{PutRecord, PutRecords, put_record, put_records};
pub(crate) use records::{GetRecords, get_records};
pub(crate) use subscribe::{SubscribeToShard, subscribe_to_shard};

use std::io::Write as _;

/// A JSON string with its quotes.
fn push_json_text(out: &mut Vec<u8>, text: &str) {
    let plain = text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

/// A number of milliseconds as seconds with three digits.
fn push_json_seconds(out: &mut Vec<u8>, millis: u64) {
    // A Vec never fails to be written to.
    let _ = write!(out, "{}.{:03}", millis / 1000, millis % 1000);
}
