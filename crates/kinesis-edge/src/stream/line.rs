//! The connection that a call went by, so that no other call does where nothing comes of it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_kinesis::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;

/// One call's connection, once it has one. Clones are of the same call.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<Mutex<Option<CaptureSmithyConnection>>>);

/// Condemns the line when dropped, unless an answer came.
#[derive(Debug)]
pub(super) struct Unanswered(Option<Line>);

impl Line {
    pub(super) fn condemn(&self) {
        let captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = captured.as_ref().and_then(CaptureSmithyConnection::get);
        if let Some(connection) = connection {
            connection.poison();
        }
    }

    pub(super) fn unanswered(&self) -> Unanswered {
        Unanswered(Some(self.clone()))
    }
}

impl Unanswered {
    pub(super) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.condemn();
        }
    }
}

impl Intercept for Line {
    fn name(&self) -> &'static str {
        "Line"
    }

    /// The SDK's own interceptor has asked the HTTP client to say which connection it takes.
    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *captured = config.load::<CaptureSmithyConnection>().cloned();
        Ok(())
    }
}
