//! One call, held back, timed and named for what became of it.

use std::{error::Error as StdError, fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use tokio::{sync::SemaphorePermit, time::Instant};

use crate::{Failure, Kind, Service};

/// What stands before every call of a [`Stream`](crate::Stream) or [`Table`](crate::Table), each
/// page counting as one: it may hold a call back, and learns how it ended.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync {
    /// Waits for the call's turn, which lasts until the permit is dropped.
    async fn turn(&self) -> Option<SemaphorePermit<'_>>;

    /// The call has ended, after `took` from its turn on. Where credentials failed,
    /// [`Failure::operation`] is what was asked in place of `operation`.
    fn ended(&self, operation: &'static str, took: Duration, failure: Option<&Failure>);
}

/// Calls of one service.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) service: Service,
    pub(crate) gate: Option<Arc<dyn Gate>>,
}

impl Calls {
    /// Sends the request, in its turn.
    pub(crate) async fn call<T, E>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T, Failure>
    where
        T: Send,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        self.judged(operation, request, |_| Ok(())).await
    }

    /// As [`call`](Self::call), where an answer says something even with nothing in it: that a
    /// write is done, or that there is no such item. A proxy's empty page reads the same, so an
    /// answer counts only with the id that AWS, and each service made like it, gives it.
    pub(crate) async fn call_by_id<T, E>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T, Failure>
    where
        T: RequestId + Send,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let is_answer = |answer: &T| match answer.request_id() {
            Some(_) => Ok(()),
            None => {
                let message = "an answer of status 200 without x-amzn-requestid, which every \
                               answer of AWS has: something else answered, and it is unknown \
                               whether the call was done";
                let call = (self.service, operation);
                let (kind, code) = (Kind::Unavailable, "UnreadableAnswer");
                Err(Failure::new(call, kind, code, message))
            }
        };
        self.judged(operation, request, is_answer).await
    }

    /// `judge` says whether an answer is one.
    async fn judged<T, E>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
        judge: impl Fn(&T) -> Result<(), Failure> + Send + Sync,
    ) -> Result<T, Failure>
    where
        T: Send,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let failed = |error| Failure::from_sdk((self.service, operation), error);
        let judged = |answer: T| judge(&answer).map(|()| answer);
        let Some(gate) = &self.gate else {
            return request.await.map_err(failed).and_then(judged);
        };
        let _turn = gate.turn().await;
        let started = Instant::now();
        let answer = request.await.map_err(failed).and_then(judged);
        gate.ended(operation, started.elapsed(), answer.as_ref().err());
        answer
    }

    /// An answer without what every such answer has.
    pub(crate) fn senseless(&self, operation: &'static str, message: &str) -> Failure {
        Failure::senseless(self.service, operation, message)
    }
}
