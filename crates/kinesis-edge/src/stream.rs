//! One stream: its shards, iterators and records.

use std::{error::Error as StdError, future::Future, sync::Arc};

use aws_sdk_kinesis::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::{Failure, Gate, KinesisClient, Service, call::call};

mod open;
mod records;
mod shards;

pub use records::{ChildShard, Page, Record, StartFrom};
pub use shards::{Shard, ShardFilter};

/// A stream, as one client sees it. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct Stream {
    client: KinesisClient,
    name: Option<String>,
    arn: Option<String>,
    gate: Option<Arc<dyn Gate>>,
}

impl Stream {
    /// The stream of that name, or of that ARN.
    pub fn new(client: KinesisClient, stream: impl Into<String>) -> Self {
        let stream = stream.into();
        let is_arn = stream.starts_with("arn:");
        Self {
            client,
            name: (!is_arn).then(|| stream.clone()),
            arn: is_arn.then_some(stream),
            gate: None,
        }
    }

    /// The same with a gate before each call.
    #[must_use]
    pub fn behind(self, gate: Arc<dyn Gate>) -> Self {
        let gate = Some(gate);
        Self { gate, ..self }
    }

    /// Its name or ARN, as given.
    pub fn as_str(&self) -> &str {
        let stream = self.arn.as_deref().or(self.name.as_deref());
        stream.unwrap_or_default()
    }

    async fn call<T, E>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T, Failure>
    where
        T: Send,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        call(self.gate.as_deref(), Service::Kinesis, operation, request).await
    }
}

fn senseless(operation: &'static str, message: &str) -> Failure {
    Failure::senseless(Service::Kinesis, operation, message)
}
