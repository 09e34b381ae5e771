//! Limits on the memory that requests hold while they are being received.
//!
//! Requests of an ordinary size are always accepted. The bytes beyond that size, of all requests
//! together, have one bound: whoever sends many long requests at once, or never ends them, is
//! refused, and nobody else.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tonic::{
    Status,
    codegen::{Service, http::Request},
    server::NamedService,
};

/// Bytes of each request that are exempt from the shared limit.
const ORDINARY: usize = 8 * 1024;

/// The shared limit: bytes beyond the exempt ones, of all requests together.
const TOGETHER: usize = 16 * 1024 * 1024;

/// A gRPC service whose requests are bounded together.
#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    service: S,
    held: Arc<AtomicUsize>,
}

/// The body of a request, counted while it is being received.
#[derive(Debug)]
pub(super) struct Counted {
    body: tonic::body::Body,
    received: usize,
    together: Arc<AtomicUsize>,
}

impl<S> Bounded<S> {
    pub(super) fn new(service: S) -> Self {
        Self {
            service,
            held: Arc::default(),
        }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Counted>>> Service<Request<tonic::body::Body>> for Bounded<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> S::Future {
        let together = Arc::clone(&self.held);
        self.service.call(request.map(|body| Counted {
            body,
            received: 0,
            together,
        }))
    }
}

impl Counted {
    fn beyond(&self) -> usize {
        self.received.saturating_sub(ORDINARY)
    }

    fn receive(&mut self, bytes: usize) -> Result<(), Status> {
        let before = self.beyond();
        self.received += bytes;
        let more = self.beyond() - before;
        let together = self.together.fetch_add(more, Ordering::Relaxed) + more;
        if more > 0 && together > TOGETHER {
            return Err(Status::resource_exhausted(
                "too many long requests at once: send shorter ones, or fewer",
            ));
        }
        Ok(())
    }
}

impl Body for Counted {
    type Data = <tonic::body::Body as Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| {
            let frame = frame?;
            Some(frame.and_then(|frame| {
                let bytes = frame.data_ref().map_or(0, |data| data.len());
                self.receive(bytes).map(|()| frame)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.together.fetch_sub(self.beyond(), Ordering::Relaxed);
    }
}
