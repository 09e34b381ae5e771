//! Positions in a shard: sequence numbers, sub-sequence numbers and KCL's sentinel checkpoints.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

#[cfg(test)]
mod tests;

/// A Kinesis sequence number: a decimal of up to 2^186, ordered by value. Never parsed: no integer
/// type holds it. Clones share its digits, as the user records of an aggregate do.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SequenceNumber(Arc<str>);

/// A record's place: its sequence number, and its index within a KPL aggregate (0 for plain
/// records).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The sequence number of the Kinesis record.
    pub sequence_number: SequenceNumber,
    /// The index of the user record within an aggregate, from 0.
    pub sub_sequence_number: u64,
}

/// What the lease table's `checkpoint` and `checkpointSubSequenceNumber` say: everything up to here
/// is processed.
///
/// Ordered as KCL orders them: AT_TIMESTAMP < TRIM_HORIZON < LATEST < any position < SHARD_END
/// (`retrieval/kpl/ExtendedSequenceNumber.java`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Checkpoint {
    /// Nothing yet; start at the configured time.
    AtTimestamp,
    /// Nothing yet; start at the oldest record.
    TrimHorizon,
    /// Nothing yet; start at records that arrive from now on.
    Latest,
    /// Processed up to and including this record.
    At(Position),
    /// The shard is closed and processed to its end.
    ShardEnd,
}

/// The text is no sequence number.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no sequence number: want decimal digits")]
pub struct InvalidSequenceNumber(pub String);

// === impl SequenceNumber ===

impl SequenceNumber {
    /// The decimal text, without leading zeros.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for SequenceNumber {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = InvalidSequenceNumber;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidSequenceNumber(text));
        }
        if text.len() > 1 && text.starts_with('0') {
            let canonical = text.trim_start_matches('0');
            let canonical = if canonical.is_empty() { "0" } else { canonical };
            return Ok(Self(canonical.into()));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        // The user records of an aggregate are many.
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Position ===

/// The sequence number, and after a dot the sub-sequence number where it is not 0.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sequence_number)?;
        match self.sub_sequence_number {
            0 => Ok(()),
            sub => write!(f, ".{sub}"),
        }
    }
}

// === impl Checkpoint ===

impl Checkpoint {
    /// The text of the lease table's `checkpoint` attribute.
    pub fn as_str(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::At(position) => position.sequence_number.as_str(),
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// The lease table's `checkpointSubSequenceNumber`.
    pub fn sub_sequence_number(&self) -> u64 {
        self.position()
            .map_or(0, |position| position.sub_sequence_number)
    }

    /// The last record that is processed, where one is named.
    pub fn position(&self) -> Option<&Position> {
        match self {
            Self::At(position) => Some(position),
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest | Self::ShardEnd => None,
        }
    }

    /// Reads the two attributes.
    pub fn parse(
        checkpoint: &str,
        sub_sequence_number: u64,
    ) -> Result<Self, InvalidSequenceNumber> {
        Ok(match checkpoint {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => Self::At(Position {
                sequence_number: digits.parse()?,
                sub_sequence_number,
            }),
        })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(position) => position.fmt(f),
            sentinel => f.write_str(sentinel.as_str()),
        }
    }
}
