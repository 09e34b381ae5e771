//! A checkpoint as the lease table has it, ordered as KCL orders them. Of our own, so that a fault
//! of the library's cannot hide itself.

use std::fmt;

use anyhow::{Result, bail};

/// AT_TIMESTAMP < TRIM_HORIZON < LATEST < any position < SHARD_END; positions by sequence number,
/// then by the index within a KPL aggregate.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Checkpoint {
    rank: u8,
    digits: usize,
    sequence: String,
    sub: u64,
}

const POSITION: u8 = 3;

impl Checkpoint {
    /// Reads the two attributes.
    pub(crate) fn parse(text: &str, sub: u64) -> Result<Self> {
        let rank = match text {
            "AT_TIMESTAMP" => 0,
            "TRIM_HORIZON" => 1,
            "LATEST" => 2,
            "SHARD_END" => 4,
            digits if !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()) => {
                POSITION
            }
            other => bail!("{other:?} is no checkpoint"),
        };
        let digits = if rank == POSITION { text.len() } else { 0 };
        let sequence = text.to_owned();
        Ok(Self {
            rank,
            digits,
            sequence,
            sub,
        })
    }

    /// Is the shard processed to its end?
    pub(crate) fn is_shard_end(&self) -> bool {
        self.sequence == "SHARD_END"
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sequence)?;
        if self.rank == POSITION {
            write!(f, ".{}", self.sub)?;
        }
        Ok(())
    }
}
