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

/// The clock of whoever answered last with a Date; where nobody has and somebody answered without,
/// this machine's. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct AwsClock(Arc<Mutex<Heard>>);

#[derive(Clone, Copy, Debug, Default)]
enum Heard {
    #[default]
    Nothing,
    /// An answer, whose Date is none.
    NoDate,
    Date(Timestamp, Instant),
}

impl AwsClock {
    /// The time there, to a second and what the answer took to arrive. `None`: nobody answered yet.
    pub fn now(&self) -> Option<Timestamp> {
        match self.heard() {
            Heard::Nothing => None,
            Heard::NoDate => Some(Self::this_machines()),
            Heard::Date(date, at) => date.checked_add(at.elapsed()).ok(),
        }
    }

    /// Is it this machine's, as no answer has a Date?
    pub fn is_this_machines(&self) -> bool {
        matches!(self.heard(), Heard::NoDate)
    }

    /// This machine's time.
    pub fn this_machines() -> Timestamp {
        Timestamp::now()
    }

    fn heard(&self) -> Heard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (date, *heard) {
            (Some(date), _) => *heard = Heard::Date(date, Instant::now()),
            (None, Heard::Nothing) => *heard = Heard::NoDate,
            (None, _) => {}
        }
        drop(heard);
        Ok(())
    }
}
