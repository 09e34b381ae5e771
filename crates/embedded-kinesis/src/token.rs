//! Opaque text handed out and taken back: shard iterators and NextTokens.
//!
//! Sealed with a checksum over a salt of this server, so that altered or foreign text is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const SUM: usize = 16;

#[derive(Debug)]
pub(crate) struct Seal {
    salt: [u8; 16],
}

impl Seal {
    pub(crate) fn new() -> Self {
        Self {
            salt: fastrand::u128(..).to_be_bytes(),
        }
    }

    fn sum(&self, payload: &[u8]) -> [u8; SUM] {
        Md5::new()
            .chain_update(self.salt)
            .chain_update(payload)
            .finalize()
            .into()
    }

    pub(crate) fn seal<T: Serialize>(&self, value: &T) -> String {
        let payload = serde_json::to_vec(value).unwrap_or_default();
        let mut bytes = Vec::with_capacity(SUM + payload.len());
        bytes.extend_from_slice(&self.sum(&payload));
        bytes.extend_from_slice(&payload);
        STANDARD.encode(bytes)
    }

    /// `None` where the text is not this server's.
    pub(crate) fn open<T: DeserializeOwned>(&self, text: &str) -> Option<T> {
        let bytes = STANDARD.decode(text).ok()?;
        let (sum, payload) = bytes.split_at_checked(SUM)?;
        (self.sum(payload) == sum).then(|| serde_json::from_slice(payload).ok())?
    }
}

/// A place in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardIterator {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) stream: String,
    pub(crate) stream_id: u64,
    pub(crate) shard: u32,
    /// Number in the shard of the next record to read.
    pub(crate) next: u64,
    /// Milliseconds since the epoch.
    pub(crate) issued: u64,
}

/// Where a listing of shards goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardsToken {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) stream: String,
    pub(crate) stream_id: u64,
    /// The last shard listed.
    pub(crate) after: u32,
    /// The filter: oldest and latest time at which a shard must have been open.
    pub(crate) open_within: (u64, u64),
    pub(crate) issued: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn altered_or_foreign_text_is_refused() {
        let seal = Seal::new();
        let text = seal.seal(&("x", 7));
        assert_eq!(seal.open::<(String, u32)>(&text), Some(("x".to_owned(), 7)));
        assert_eq!(Seal::new().open::<(String, u32)>(&text), None);
        let mut altered = text.into_bytes();
        altered[30] ^= 1;
        assert_eq!(
            seal.open::<(String, u32)>(std::str::from_utf8(&altered).unwrap()),
            None
        );
        assert_eq!(seal.open::<(String, u32)>("AAAA"), None);
        assert_eq!(seal.open::<(String, u32)>("?"), None);
    }
}
