//! Field types that read differently in JSON and in CBOR.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// Seconds with three digits, as AWS writes them in JSON.
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_f64(self.seconds())
        } else {
            ciborium::tag::Required::<u64, 1>(self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return f64::deserialize(deserializer).map(|secs| Self((secs * 1000.0).round() as u64));
        }
        let value = ciborium::Value::deserialize(deserializer)?;
        let value = match value {
            ciborium::Value::Tag(_, inner) => *inner,
            other => other,
        };
        match value {
            ciborium::Value::Integer(n) => u64::try_from(n).map(Self).map_err(de::Error::custom),
            ciborium::Value::Float(secs) => Ok(Self((secs * 1000.0).round() as u64)),
            _ => Err(de::Error::custom("a timestamp is a number")),
        }
    }
}

/// A blob as it came in: base64 text, not yet checked (JSON), or bytes (CBOR).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blob {
    Base64(Box<str>),
    Raw(Box<[u8]>),
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a blob")
            }
            fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob::Base64(text.into()))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob::Raw(bytes.into()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob::Raw(bytes.into()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A stored blob, in the form it came in: what came as base64 goes out as base64 with no work.
#[derive(Debug)]
pub(crate) enum Stored {
    Base64 { text: Box<str>, length: usize },
    Raw(Box<[u8]>),
}

impl Blob {
    /// Checks the base64. `None`: it is none.
    pub(crate) fn store(self, scratch: &mut Vec<u8>) -> Option<Stored> {
        match self {
            Self::Raw(bytes) => Some(Stored::Raw(bytes)),
            Self::Base64(text) => {
                scratch.clear();
                STANDARD.decode_vec(text.as_bytes(), scratch).ok()?;
                Some(Stored::Base64 {
                    text,
                    length: scratch.len(),
                })
            }
        }
    }
}

impl Stored {
    /// Bytes of the blob itself, whatever it is stored as.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Base64 { length, .. } => *length,
            Self::Raw(bytes) => bytes.len(),
        }
    }

    pub(crate) fn push_base64(&self, out: &mut Vec<u8>) {
        match self {
            Self::Base64 { text, .. } => out.extend_from_slice(text.as_bytes()),
            Self::Raw(bytes) => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
        }
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return match self {
                Self::Base64 { text, .. } => serializer.serialize_str(text),
                Self::Raw(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            };
        }
        match self {
            Self::Raw(bytes) => serializer.serialize_bytes(bytes),
            Self::Base64 { text, .. } => {
                let bytes = STANDARD
                    .decode(text.as_bytes())
                    .map_err(serde::ser::Error::custom)?;
                serializer.serialize_bytes(&bytes)
            }
        }
    }
}
