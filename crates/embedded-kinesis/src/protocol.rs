//! The wire: AWS JSON 1.1 and its CBOR twin, and errors in AWS's shape.
//!
//! In JSON blobs are base64 text and timestamps are seconds with a fraction; in CBOR (the Java
//! SDK's choice) blobs are byte strings and timestamps are tag 1 over whole milliseconds.

mod fields;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use fields::{Blob, Stored, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Json,
    Cbor,
}

impl Wire {
    pub(crate) fn of(content_type: &str) -> Self {
        if content_type.starts_with("application/x-amz-cbor") {
            Self::Cbor
        } else {
            Self::Json
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    pub(crate) fn parse<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, AwsError> {
        let refused = |why: String| AwsError::new("SerializationException", why);
        match self {
            Self::Json if body.is_empty() => {
                serde_json::from_slice(b"{}").map_err(|e| refused(e.to_string()))
            }
            Self::Json => serde_json::from_slice(body).map_err(|e| refused(e.to_string())),
            Self::Cbor => ciborium::from_reader(body).map_err(|e| refused(e.to_string())),
        }
    }

    pub(crate) fn write<T: Serialize>(self, value: &T) -> Result<Vec<u8>, AwsError> {
        let mut out = Vec::new();
        let written = match self {
            Self::Json => serde_json::to_writer(&mut out, value).map_err(|e| e.to_string()),
            Self::Cbor => ciborium::into_writer(value, &mut out).map_err(|e| e.to_string()),
        };
        match written {
            Ok(()) => Ok(out),
            Err(why) => Err(AwsError::internal(why)),
        }
    }
}

/// An answer that knows how to write itself.
pub(crate) trait Answer {
    fn encode(&self, wire: Wire) -> Result<Vec<u8>, AwsError>;
}

/// Any plain answer.
#[derive(Debug)]
pub(crate) struct Plain<T>(pub(crate) T);

impl<T: Serialize> Answer for Plain<T> {
    fn encode(&self, wire: Wire) -> Result<Vec<u8>, AwsError> {
        wire.write(&self.0)
    }
}

/// AWS answers with an empty body.
impl Answer for () {
    fn encode(&self, _: Wire) -> Result<Vec<u8>, AwsError> {
        Ok(Vec::new())
    }
}

/// An error as AWS words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct AwsError {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) status: u16,
}

impl AwsError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            status: 400,
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self {
            status: 500,
            ..Self::new("InternalFailure", message)
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    pub(crate) fn throughput(message: impl Into<String>) -> Self {
        Self::new("ProvisionedThroughputExceededException", message)
    }

    pub(crate) fn encode(&self, wire: Wire) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            __type: &'a str,
            message: &'a str,
        }
        wire.write(&Body {
            __type: &self.code,
            message: &self.message,
        })
        .unwrap_or_default()
    }
}
