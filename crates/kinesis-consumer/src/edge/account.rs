//! The streams of an account, as a seam: for applications that read several.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    edge::kinesis::{Kinesis, KinesisError},
    model::keys::StreamIdentifier,
};

#[cfg(feature = "test-util")]
pub(crate) mod memory;
pub(crate) mod sdk;

/// A stream that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundStream {
    /// What its leases' keys begin with.
    pub id: StreamIdentifier,
    /// Its ARN.
    pub arn: String,
}

impl FoundStream {
    /// Is that its name or ARN?
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.id.name == name || self.arn == name
    }
}

/// An account's streams in one region, as one worker finds them.
#[async_trait]
pub trait Account: fmt::Debug + Send + Sync {
    /// All streams that can be read now.
    async fn streams(&self) -> Result<Vec<FoundStream>, KinesisError>;

    /// The stream of that name or ARN. One that is being made is in use
    /// ([`KinesisError::InUse`]).
    async fn stream(&self, stream: &str) -> Result<FoundStream, KinesisError>;

    /// What is asked of the stream.
    fn open(&self, stream: &FoundStream) -> Arc<dyn Kinesis>;
}
