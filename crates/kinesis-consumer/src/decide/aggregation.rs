//! KPL aggregation: one Kinesis record that carries many user records
//! (`retrieval/AggregatorUtil.java`, `messages.proto`).
//!
//! Magic number, protobuf, MD5 of the protobuf. Whatever is not exactly that is delivered as it
//! came, as KCL does. Where KCL drops an aggregate, or fails on it, it is set aside whole.
//!
//! An aggregate of 10 MiB may hold more than a million user records, which take far more memory
//! than itself: it is judged whole, and taken apart piece by piece.

use bytes::{Buf, Bytes};
use md5::{Digest, Md5};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::model::{
    record::{Record, UnfitAggregate},
    shard::{HashRange, hash_key},
};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_LEN: usize = 16;

// The fields of `messages.proto`'s AggregatedRecord.
const PARTITION_KEY: u32 = 1;
const EXPLICIT_HASH_KEY: u32 = 2;
const USER_RECORD: u32 = 3;

/// What is `required` there is optional here, so that its absence shows. Its tags (4) are of no use
/// to anybody: the KPL never sets them.
#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    #[prost(uint64, optional, tag = "1")]
    partition_key: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

/// What a record of the stream carries.
#[derive(Debug)]
pub(crate) enum Carried {
    /// Itself: it is no aggregate.
    Plain(Record),
    /// The user records of a KPL aggregate.
    Users(Aggregate),
    /// A KPL aggregate that is not delivered record by record.
    Unfit(Unfit),
}

/// An aggregate that is not delivered record by record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unfit {
    /// The record that carries it, with the sub-sequence number of the last user record in it: a
    /// checkpoint there covers all of it.
    pub(crate) record: Record,
    /// How many user records it has; 1 where that is not known.
    pub(crate) users: usize,
    pub(crate) reason: UnfitAggregate,
}

/// A KPL aggregate that is being taken apart. Data are slices of the aggregate's data, not copies:
/// they keep it in memory.
#[derive(Debug)]
pub(crate) struct Aggregate {
    carrier: Record,
    tables: Tables,
    /// The message from the next user record on.
    rest: Bytes,
    next: usize,
    users: usize,
}

/// Keys are bytes, as Java reads texts that are not UTF-8, too.
#[derive(Debug, Default)]
struct Tables {
    message: Bytes,
    partition_keys: Vec<Slice>,
    explicit_hash_keys: Vec<Slice>,
    longest_partition_key: usize,
    longest_hash_key: usize,
}

/// A part of the message, in half the bytes that a range of it would take.
#[derive(Clone, Copy, Debug)]
struct Slice {
    start: u32,
    len: u32,
}

/// A field of the message that says something.
enum Field {
    PartitionKey(Slice),
    ExplicitHashKey(Slice),
    User(UserRecord),
}

/// What is in the message as a whole.
struct Contents {
    tables: Tables,
    users: usize,
    /// The first user record that does not fit.
    unfit: Option<UnfitAggregate>,
}

/// With `range`, the hash keys of the shard that it was read from: an aggregate of which any user
/// record belongs elsewhere is unfit, as the KPL sends it again after a reshard.
pub(crate) fn open(record: Record, range: Option<HashRange>) -> Carried {
    let Some(contents) = message(&record.data).and_then(|message| read(message, range)) else {
        return Carried::Plain(record);
    };
    let Contents {
        tables,
        users,
        unfit,
    } = contents;
    let unfit = if users == 0 {
        Some(UnfitAggregate::Malformed("it has no user records"))
    } else {
        unfit
    };
    let Some(reason) = unfit else {
        return Carried::Users(Aggregate {
            carrier: record,
            rest: tables.message.clone(),
            tables,
            next: 0,
            users,
        });
    };
    let mut record = record;
    let users = if let UnfitAggregate::Misplaced { .. } = reason {
        record.sub_sequence_number = users as u64 - 1;
        users
    } else {
        1
    };
    Carried::Unfit(Unfit {
        record,
        users,
        reason,
    })
}

/// The sub-sequence number of the last user record that a record of the stream carries: a
/// checkpoint of its sequence number before that leaves a remainder. 0 for a plain record.
pub fn last_sub_sequence_number(data: &Bytes) -> u64 {
    let contents = message(data).and_then(|message| read(message, None));
    contents.map_or(0, |contents| contents.users.saturating_sub(1) as u64)
}

/// About how many user records the record takes apart into, without taking it apart, and the bytes
/// of the texts that each of them has at the most. 0: it is no aggregate.
pub(crate) fn user_records(record: &Record) -> (usize, usize) {
    let Some(mut message) = record.data.strip_prefix(&MAGIC) else {
        return (0, 0);
    };
    let (mut count, mut key, mut hash_key) = (0, 0, 0);
    while let Ok((tag, wire_type)) = decode_key(&mut message) {
        let before = message.len();
        let context = DecodeContext::default();
        if skip_field(wire_type, tag, &mut message, context).is_err() {
            break;
        }
        let bytes = before - message.len();
        match tag {
            PARTITION_KEY => key = bytes.max(key),
            EXPLICIT_HASH_KEY => hash_key = bytes.max(hash_key),
            USER_RECORD => count += 1,
            _ => {}
        }
    }
    (count, key + hash_key)
}

impl Aggregate {
    /// How many user records are left in it.
    pub(crate) fn left(&self) -> usize {
        self.users - self.next
    }

    /// The bytes of the texts that a user record has at the most.
    pub(crate) fn texts(&self) -> usize {
        self.tables.longest_partition_key + self.tables.longest_hash_key
    }

    /// Appends the next user records to `out`, so many at the most.
    pub(crate) fn take(&mut self, users: usize, out: &mut Vec<Record>) {
        out.reserve(users.min(self.left()));
        for _ in 0..users.min(self.left()) {
            let Some(user) = self.next_user() else {
                unreachable!("all of it was read before")
            };
            out.push(user);
        }
    }

    fn next_user(&mut self) -> Option<Record> {
        let user = loop {
            match next_field(&self.tables.message, &mut self.rest).ok()?? {
                Field::User(user) => break user,
                Field::PartitionKey(_) | Field::ExplicitHashKey(_) => {}
            }
        };
        let sub_sequence_number = self.next as u64;
        self.next += 1;
        let partition_key = self.tables.partition_key(&user)?;
        Some(Record {
            sequence_number: self.carrier.sequence_number.clone(),
            sub_sequence_number,
            aggregated: true,
            partition_key: self.tables.text(partition_key),
            explicit_hash_key: match user.explicit_hash_key {
                Some(at) => Some(self.tables.text(self.tables.hash_key(at)?)),
                None => None,
            },
            data: user.data.unwrap_or_default(),
            arrival: self.carrier.arrival,
        })
    }
}

impl Tables {
    fn text(&self, Slice { start, len }: Slice) -> String {
        let key = &self.message[start as usize..][..len as usize];
        String::from_utf8_lossy(key).into_owned()
    }

    fn partition_key(&self, user: &UserRecord) -> Option<Slice> {
        let at = index(user.partition_key.unwrap_or(u64::MAX));
        self.partition_keys.get(at).copied()
    }

    fn hash_key(&self, at: u64) -> Option<Slice> {
        self.explicit_hash_keys.get(index(at)).copied()
    }
}

/// Is a user record of the shard's?
struct Judge {
    range: Option<HashRange>,
    /// By partition key, as many records share few.
    known: Vec<Option<bool>>,
}

impl Judge {
    /// An error without a place: the caller knows which one it is.
    fn fits(&mut self, user: &UserRecord, tables: &Tables) -> Result<bool, &'static str> {
        let partition_key = tables.partition_key(user);
        let partition_key = partition_key.ok_or("a partition key is not in its table")?;
        let explicit = match user.explicit_hash_key {
            Some(at) => {
                let key = tables.hash_key(at);
                Some(key.ok_or("an explicit hash key is not in its table")?)
            }
            None => None,
        };
        let Some(range) = self.range else {
            return Ok(true);
        };
        if let Some(key) = explicit {
            let key = explicit_hash_key(&tables.text(key))?;
            return Ok(key.is_some_and(|key| range.contains(key)));
        }
        let at = index(user.partition_key.unwrap_or(u64::MAX));
        if self.known.len() <= at {
            self.known.resize(tables.partition_keys.len(), None);
        }
        let is_ours = || range.contains(hash_key(&tables.text(partition_key)));
        Ok(*self.known[at].get_or_insert_with(is_ours))
    }
}

/// The protobuf of an aggregate. `None`: it is none.
fn message(data: &Bytes) -> Option<Bytes> {
    if !data.starts_with(&MAGIC) || data.len() <= MAGIC.len() + DIGEST_LEN {
        return None;
    }
    let (message, digest) = (
        data.slice(MAGIC.len()..data.len() - DIGEST_LEN),
        &data[data.len() - DIGEST_LEN..],
    );
    (Md5::digest(&message)[..] == *digest).then_some(message)
}

/// Reads the message once, and its user records once more where a table stands behind them. `None`:
/// it is no aggregate.
fn read(message: Bytes, range: Option<HashRange>) -> Option<Contents> {
    let mut tables = Tables {
        message,
        ..Tables::default()
    };
    let mut users = Users::new(range);
    let mut rest = tables.message.clone();
    let mut table_ends = 0;
    while let Some(field) = next_field(&tables.message, &mut rest).ok()? {
        match field {
            Field::PartitionKey(key) => {
                tables.longest_partition_key = tables.longest_partition_key.max(key.len as usize);
                tables.partition_keys.push(key);
                table_ends = users.count;
            }
            Field::ExplicitHashKey(key) => {
                tables.longest_hash_key = tables.longest_hash_key.max(key.len as usize);
                tables.explicit_hash_keys.push(key);
                table_ends = users.count;
            }
            Field::User(user) => {
                if user.partition_key.is_none() || user.data.is_none() {
                    return None;
                }
                users.judge(&user, &tables);
            }
        }
    }
    if table_ends > 0 && users.unfit.is_some() {
        users = Users::new(range);
        let mut rest = tables.message.clone();
        while let Some(field) = next_field(&tables.message, &mut rest).ok()? {
            if let Field::User(user) = field {
                users.judge(&user, &tables);
            }
        }
    }
    let count = users.count;
    let unfit = users.unfit.map(|(first, reason)| match reason {
        Some(reason) => UnfitAggregate::Malformed(reason),
        None => UnfitAggregate::Misplaced {
            first,
            records: count,
        },
    });
    Some(Contents {
        tables,
        users: count,
        unfit,
    })
}

/// The user records read so far.
struct Users {
    judge: Judge,
    count: usize,
    /// The first that does not fit, and why; of another shard where there is no reason.
    unfit: Option<(u64, Option<&'static str>)>,
}

impl Users {
    fn new(range: Option<HashRange>) -> Self {
        Self {
            judge: Judge {
                range,
                known: Vec::new(),
            },
            count: 0,
            unfit: None,
        }
    }

    fn judge(&mut self, user: &UserRecord, tables: &Tables) {
        if self.unfit.is_none() {
            let at = self.count as u64;
            self.unfit = match self.judge.fits(user, tables) {
                Ok(true) => None,
                Ok(false) => Some((at, None)),
                Err(reason) => Some((at, Some(reason))),
            };
        }
        self.count += 1;
    }
}

/// No protobuf.
struct Garbled;

/// The next field that says something, and `rest` goes on behind it. `None`: there is no more.
fn next_field(message: &Bytes, rest: &mut Bytes) -> Result<Option<Field>, Garbled> {
    while rest.has_remaining() {
        let (tag, wire_type) = decode_key(rest).map_err(|_| Garbled)?;
        if !(PARTITION_KEY..=USER_RECORD).contains(&tag) {
            let skipped = skip_field(wire_type, tag, rest, DecodeContext::default());
            skipped.map_err(|_| Garbled)?;
            continue;
        }
        if wire_type != WireType::LengthDelimited {
            return Err(Garbled);
        }
        let len = decode_varint(rest).map_err(|_| Garbled)?;
        let len = usize::try_from(len).map_err(|_| Garbled)?;
        if len > rest.remaining() {
            return Err(Garbled);
        }
        let start = message.len() - rest.remaining();
        let field = rest.split_to(len);
        // A record has 10 MiB at the most.
        let slice = Slice {
            start: u32::try_from(start).map_err(|_| Garbled)?,
            len: u32::try_from(len).map_err(|_| Garbled)?,
        };
        return Ok(Some(match tag {
            PARTITION_KEY => Field::PartitionKey(slice),
            EXPLICIT_HASH_KEY => Field::ExplicitHashKey(slice),
            _ => Field::User(UserRecord::decode(field).map_err(|_| Garbled)?),
        }));
    }
    Ok(None)
}

/// The number; `None`: it is beyond every shard.
fn explicit_hash_key(key: &str) -> Result<Option<u128>, &'static str> {
    let digits = key.strip_prefix(['-', '+']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("an explicit hash key is no number");
    }
    Ok(key.parse().ok())
}

/// An index beyond what fits is beyond every table.
fn index(wire: u64) -> usize {
    usize::try_from(wire).unwrap_or(usize::MAX)
}
