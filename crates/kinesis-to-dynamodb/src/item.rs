//! A record as an item, or why it cannot be one. Pure.
//!
//! The item is the JSON object's top-level fields, and attributes that win over fields of the same
//! name: the table's key, which is the record's partition key; `processed_by`; and what tells which
//! of two versions is newer: `kinesis_position`, a text that sorts as the shard does,
//! `kinesis_shard` and `kinesis_arrived`.

use std::collections::HashMap;

use jiff::Timestamp;
use kinesis_consumer::{Position, Record, UnfitAggregate};
use kinesis_edge::AttributeValue;
use serde_json::Value;

use crate::number;

/// The attribute that says how new an item is.
pub const KINESIS_POSITION: &str = "kinesis_position";
/// The attribute that says of which shard an item is.
pub const KINESIS_SHARD: &str = "kinesis_shard";
/// The attribute that says when an item's record arrived, or an earlier one of its key in the shard
/// if that was later.
pub const KINESIS_ARRIVED: &str = "kinesis_arrived";
/// The attribute that says who wrote an item.
pub const PROCESSED_BY: &str = "processed_by";

/// An item may be this large: names and values, as DynamoDB counts them.
pub(crate) const MAX_ITEM_BYTES: usize = 400 << 10;
/// A partition key's value may be this long.
const MAX_KEY_BYTES: usize = 2048;
/// An attribute's name may be this long.
const MAX_NAME_BYTES: usize = (64 << 10) - 1;
/// Lists and maps may nest this deep, the item itself counted.
const MAX_DEPTH: usize = 32;
/// Sequence numbers are below 2^186, which has 56 digits.
const SEQUENCE_DIGITS: usize = 57;

/// An item as DynamoDB takes it.
pub type Item = HashMap<String, AttributeValue>;

/// Why a record cannot be stored. The text never has any of the record's data.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// The data is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The data is JSON, but no object.
    #[error("JSON, but not an object: {0}")]
    NotAnObject(&'static str),
    /// The item would be too large.
    #[error("an item of {0} bytes: DynamoDB takes at most {MAX_ITEM_BYTES}")]
    TooLarge(usize),
    /// A number has too many digits.
    #[error("a number of {0} significant digits: DynamoDB holds 38")]
    NumberDigits(usize),
    /// A number is too large or too small.
    #[error("a number beyond DynamoDB's range of 1E-130 to 9.99E+125")]
    NumberRange,
    /// Lists and maps are nested too deep.
    #[error("nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// A field has an empty name, or one that is too long.
    #[error("a field name of {0} bytes: want 1 to {MAX_NAME_BYTES}")]
    FieldName(usize),
    /// The partition key cannot be the item's key.
    #[error("a partition key of {0} bytes: want 1 to {MAX_KEY_BYTES}")]
    Key(usize),
    /// The sequence number is none of Kinesis.
    #[error("a sequence number of {0} digits: Kinesis has at most {SEQUENCE_DIGITS}")]
    SequenceNumber(usize),
    /// DynamoDB refused the item, such as for the type of an index's key.
    #[error("DynamoDB refused the item: {0}")]
    Refused(String),
    /// The record is a KPL aggregate that is not taken apart.
    #[error(transparent)]
    Aggregate(UnfitAggregate),
}

/// How the items of one table, written by one consumer, look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape {
    /// The name of the table's key attribute.
    pub key: String,
    /// This consumer's name.
    pub processed_by: String,
}

impl Shape {
    /// The item of a record that was read from that shard.
    pub fn item(&self, shard: &str, record: &Record) -> Result<Item, Rejected> {
        let Self { key, processed_by } = self;
        if record.partition_key.is_empty() || record.partition_key.len() > MAX_KEY_BYTES {
            return Err(Rejected::Key(record.partition_key.len()));
        }
        let fields = match parse(&record.data)? {
            Value::Object(fields) => fields,
            Value::Null => return Err(Rejected::NotAnObject("null")),
            Value::Bool(_) => return Err(Rejected::NotAnObject("a boolean")),
            Value::Number(_) => return Err(Rejected::NotAnObject("a number")),
            Value::String(_) => return Err(Rejected::NotAnObject("a string")),
            Value::Array(_) => return Err(Rejected::NotAnObject("an array")),
        };
        let mut ours = vec![
            (key.as_str(), record.partition_key.clone()),
            (PROCESSED_BY, processed_by.clone()),
            (KINESIS_POSITION, kinesis_position(&record.position())?),
            (KINESIS_SHARD, shard.to_owned()),
        ];
        if let Some(arrival) = record.arrival {
            ours.push((KINESIS_ARRIVED, kinesis_arrived(arrival)));
        }
        let mut size = 0;
        let mut item = Item::with_capacity(fields.len() + ours.len());
        for (name, value) in fields {
            if name == KINESIS_ARRIVED || ours.iter().any(|(own, _)| *own == name) {
                continue;
            }
            size += name_size(&name)?;
            item.insert(name, attribute(value, 0, &mut size)?);
        }
        for (name, value) in ours {
            size += name.len() + value.len();
            item.insert(name.to_owned(), AttributeValue::S(value));
        }
        if size > MAX_ITEM_BYTES {
            return Err(Rejected::TooLarge(size));
        }
        Ok(item)
    }
}

impl Rejected {
    /// The reason's name in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::NotAnObject(_) => "not_an_object",
            Self::TooLarge(_) => "too_large",
            Self::NumberDigits(_) | Self::NumberRange => "number",
            Self::TooDeep => "too_deep",
            Self::FieldName(_) => "field_name",
            Self::Key(_) => "key",
            Self::SequenceNumber(_) => "sequence_number",
            Self::Refused(_) => "refused",
            Self::Aggregate(_) => "aggregate",
        }
    }
}

/// A position as text that sorts as the stream does: both numbers zero-padded, as DynamoDB's own
/// numbers are too short for them.
pub fn kinesis_position(position: &Position) -> Result<String, Rejected> {
    let Position {
        sequence_number,
        sub_sequence_number,
    } = position;
    let digits = sequence_number.as_str().len();
    if digits > SEQUENCE_DIGITS {
        return Err(Rejected::SequenceNumber(digits));
    }
    Ok(format!(
        "{:0>SEQUENCE_DIGITS$}.{sub_sequence_number:020}",
        sequence_number.as_str()
    ))
}

/// A time of arrival as text that sorts as times do: to the millisecond, as AWS says it.
pub(crate) fn kinesis_arrived(arrival: Timestamp) -> String {
    format!("{arrival:.3}")
}

fn parse(data: &[u8]) -> Result<Value, Rejected> {
    serde_json::from_slice(data).map_err(|error| {
        let text = error.to_string();
        // serde_json's own limit is far beyond DynamoDB's, and has no kind of its own.
        if text.starts_with("recursion limit") {
            Rejected::TooDeep
        } else {
            Rejected::NotJson(text)
        }
    })
}

fn name_size(name: &str) -> Result<usize, Rejected> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        Err(Rejected::FieldName(name.len()))
    } else {
        Ok(name.len())
    }
}

/// The value as DynamoDB's, its bytes added to `size`. `depth`: how many lists and maps are around
/// it.
fn attribute(value: Value, depth: usize, size: &mut usize) -> Result<AttributeValue, Rejected> {
    if depth >= MAX_DEPTH {
        return Err(Rejected::TooDeep);
    }
    Ok(match value {
        Value::Null => {
            *size += 1;
            AttributeValue::Null(true)
        }
        Value::Bool(value) => {
            *size += 1;
            AttributeValue::Bool(value)
        }
        Value::Number(value) => {
            let (text, bytes) = number::exact(value.as_str())?;
            *size += bytes;
            AttributeValue::N(text)
        }
        Value::String(value) => {
            *size += value.len();
            AttributeValue::S(value)
        }
        Value::Array(values) => {
            *size += 3 + values.len();
            AttributeValue::L(
                values
                    .into_iter()
                    .map(|value| attribute(value, depth + 1, size))
                    .collect::<Result<_, _>>()?,
            )
        }
        Value::Object(fields) => {
            *size += 3 + fields.len();
            let mut map = HashMap::with_capacity(fields.len());
            for (name, value) in fields {
                *size += name_size(&name)?;
                map.insert(name, attribute(value, depth + 1, size)?);
            }
            AttributeValue::M(map)
        }
    })
}

#[cfg(test)]
mod tests;
