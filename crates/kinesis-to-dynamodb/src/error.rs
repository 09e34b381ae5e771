//! What can go wrong, each with what to do about it.

use std::{fmt, net::SocketAddr};

use kinesis_edge::{Failure, WrongEnvironment};

use crate::item::Rejected;

/// Why the consumer cannot start, go on, or store a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense.
    #[error("{name} {value:?}: want {want}")]
    Setting {
        /// The environment variable's name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        want: &'static str,
    },
    /// The environment says what cannot be.
    #[error(transparent)]
    Environment(#[from] WrongEnvironment),
    /// The admin port cannot be had.
    #[error(
        "ADMIN {address}: {source}: want an address that nobody else listens on, such as --admin 127.0.0.1:0 for a second \
         consumer on this machine"
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// What the start found missing, wrong or denied: all of it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Start(Vec<Problem>),
    /// A write cannot succeed as things are.
    #[error(transparent)]
    Write(Problem),
    /// AWS gave no answer, and waiting did not help.
    #[error(transparent)]
    Aws(Box<Failure>),
    /// A record cannot be stored, and ON_REJECT=halt.
    #[error(
        "shard {shard} stops before the record at {position}, which cannot be stored: {reason}. It goes on when that record can be stored, or \
         with ON_REJECT=skip (and REJECTS_TABLE to keep the record)"
    )]
    Halted {
        /// The shard.
        shard: String,
        /// Sequence number, and sub-sequence number within an aggregate.
        position: String,
        /// Why the record cannot be stored.
        reason: Rejected,
    },
    /// The worker cannot go on.
    #[error("{source}{hint}")]
    Worker {
        /// Why.
        source: Box<kinesis_consumer::Error>,
        /// What to do, where the library cannot know it.
        hint: String,
    },
}

/// Something missing, wrong or denied, and what mends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What it is.
    pub what: String,
    /// What mends it, a sentence: a command, or who must change what.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.fix)
    }
}

impl std::error::Error for Problem {}
