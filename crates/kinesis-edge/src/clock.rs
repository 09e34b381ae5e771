//! AWS's own time, by the Date of its answers.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_kinesis::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use tokio::time::Instant;

use crate::KinesisClient;

/// The clock of whoever answered last. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct AwsClock(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl AwsClock {
    /// The time there, to a second and what the answer took to arrive. `None`: nobody answered yet,
    /// or without a Date.
    pub fn now(&self) -> Option<Timestamp> {
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (date, at) = heard?;
        date.checked_add(at.elapsed()).ok()
    }

    /// By how much that is ahead of this machine's clock.
    pub fn ahead(&self) -> Option<SignedDuration> {
        Some(self.now()?.duration_since(Timestamp::now()))
    }

    /// The client, heard by this clock.
    pub fn hear_kinesis(&self, client: &KinesisClient) -> KinesisClient {
        let config = client.config().to_builder().interceptor(self.clone());
        KinesisClient::from_conf(config.build())
    }
}

impl Intercept for AwsClock {
    fn name(&self) -> &'static str {
        "AwsClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        if let Some(date) = date {
            let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *heard = Some((date, Instant::now()));
        }
        Ok(())
    }
}
