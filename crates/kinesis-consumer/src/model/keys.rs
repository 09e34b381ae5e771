//! What names a lease: the shard, and the stream where an application reads several.

use std::{borrow::Borrow, convert::Infallible, fmt, str::FromStr, sync::Arc};

/// A shard's id, such as `shardId-000000000002`: unique within its stream. Clones share the text.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(Arc<str>);

/// One incarnation of a stream, written `account:name:epoch`, such as
/// `123456789012:orders:1700000000`. KCL's form in the tables of multi-stream applications
/// (`common/StreamIdentifier.java`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamIdentifier {
    /// The AWS account's number: decimal digits.
    pub account: String,
    /// The stream's name.
    pub name: String,
    /// When the stream was created, in seconds since 1970: tells streams of one name apart.
    pub epoch: u64,
}

/// What names a lease. Its text is the lease table's `leaseKey`: the shard's id, with
/// `account:name:epoch:` before it in the table of a multi-stream application.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseKey {
    /// The shard's stream. `None`: the application reads one stream, which the table does not name.
    pub stream: Option<StreamIdentifier>,
    /// The shard.
    pub shard: ShardId,
}

/// The text is no stream identifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no stream identifier: want account:stream:epoch, such as \
     123456789012:orders:1700000000"
)]
pub struct InvalidStreamIdentifier(pub String);

// === impl ShardId ===

impl ShardId {
    /// The id as AWS writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ShardId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for ShardId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<&Self> for ShardId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl FromStr for ShardId {
    type Err = Infallible;

    fn from_str(id: &str) -> Result<Self, Infallible> {
        Ok(id.into())
    }
}

impl AsRef<str> for ShardId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// So that maps by shard can be asked by text.
impl Borrow<str> for ShardId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for ShardId {
    fn eq(&self, id: &str) -> bool {
        &*self.0 == id
    }
}

impl PartialEq<&str> for ShardId {
    fn eq(&self, id: &&str) -> bool {
        &*self.0 == *id
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<ShardId> for String {
    fn from(id: ShardId) -> Self {
        id.as_str().to_owned()
    }
}

// === impl StreamIdentifier ===

impl FromStr for StreamIdentifier {
    type Err = InvalidStreamIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split(':').collect();
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match parts[..] {
            [account, name, epoch] if digits(account) && !name.is_empty() && digits(epoch) => {
                epoch.parse().ok().map(|epoch| Self {
                    account: account.to_owned(),
                    name: name.to_owned(),
                    epoch,
                })
            }
            _ => None,
        }
        .ok_or_else(|| InvalidStreamIdentifier(text.to_owned()))
    }
}

impl fmt::Display for StreamIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.account, self.name, self.epoch)
    }
}

// === impl LeaseKey ===

impl LeaseKey {
    /// The key of another shard of the same stream, such as a parent.
    #[must_use]
    pub fn sibling(&self, shard: &ShardId) -> Self {
        Self {
            stream: self.stream.clone(),
            shard: shard.clone(),
        }
    }
}

/// Of an application that reads one stream.
impl<T: Into<ShardId>> From<T> for LeaseKey {
    fn from(shard: T) -> Self {
        Self {
            stream: None,
            shard: shard.into(),
        }
    }
}

impl From<&Self> for LeaseKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl FromStr for LeaseKey {
    type Err = InvalidStreamIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A shard's id has no colon.
        let (stream, shard) = match text.rsplit_once(':') {
            Some((stream, shard)) => (Some(stream.parse()?), shard),
            None => (None, text),
        };
        Ok(Self {
            stream,
            shard: shard.into(),
        })
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stream {
            Some(stream) => write!(f, "{stream}:{}", self.shard),
            None => f.pad(self.shard.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_are_written() {
        for text in [
            "shardId-000000000001",
            "123456789012:orders:1700000000:shardId-000000000001",
        ] {
            let key: LeaseKey = text.parse().expect(text);
            assert_eq!(key.to_string(), text);
            assert_eq!(key.shard, "shardId-000000000001");
            assert_eq!(key.stream.is_some(), text.contains("orders"));
        }
        for text in ["orders:shardId-0", "1:orders:-1:shardId-0", ":::"] {
            assert!(text.parse::<LeaseKey>().is_err(), "{text}");
        }
    }
}
