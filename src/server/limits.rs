//! The memory that requests hold: one bound in bytes for all of them together, shared by peer.
//!
//! A call counts from its headers to its answer, with what it costs at least, its headers, and what
//! of its message has come. A peer may hold as much as is left free for others: one alone gets half
//! of the bound, two get a third each, once calls of before have ended. So there is room for a
//! newcomer, and never is more held than the bound.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use http_body::{Body, Frame, SizeHint};
use tonic::{
    Status,
    codegen::{
        Service,
        http::{HeaderMap, Request, Response},
    },
    server::NamedService,
};
use tracing::warn;

use super::connection::Peer;
use crate::{metrics::Metrics, telemetry::Seldom};

/// What a call costs without headers and message: its task, its HTTP/2 stream, its answer.
const CALL: usize = 8 * 1024;

/// What a stream may hold beside: messages sent ahead, and answers that its client does not read,
/// of which hyper keeps 400 KiB.
const UNREAD: usize = super::STREAM_WINDOW as usize + 400 * 1024;

/// What HTTP/2 counts for each header, beside its text.
const HEADER: usize = 32;

/// The bytes that all calls together may hold.
const TOGETHER: usize = 32 * 1024 * 1024;

/// What calls hold, by peer.
#[derive(Debug)]
pub(super) struct Memory {
    held: Mutex<Held>,
    metrics: Arc<Metrics>,
    told: Seldom,
}

#[derive(Debug, Default)]
struct Held {
    together: usize,
    by_peer: HashMap<Arc<str>, usize>,
}

/// What one call holds, until it is dropped.
#[derive(Debug)]
struct Charge {
    memory: Arc<Memory>,
    peer: Arc<str>,
    bytes: usize,
}

/// A gRPC service whose requests are bounded together with those of others.
#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    service: S,
    memory: Arc<Memory>,
    streams: Streams,
}

/// What becomes of a call's cost once its answer has begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Streams {
    /// It ends: open streams have a bound of their own.
    Bounded,
    /// It stays as long as the answer goes on.
    Counted,
    /// The same, of a stream that is asked on and on: what waits to be read is counted, too, on
    /// either side.
    Conversation,
}

/// A body, with what is held for it: a request's own bytes, too, as they are received.
#[derive(Debug)]
pub(super) struct Counted {
    body: tonic::body::Body,
    charge: Charge,
    receives: bool,
}

impl Memory {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            metrics,
            told: Seldom::default(),
        })
    }

    fn take(&self, peer: &Arc<str>, bytes: usize) -> Result<(), Status> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let its = held.by_peer.get(peer).copied().unwrap_or(0) + bytes;
        let together = held.together + bytes;
        if its > TOGETHER.saturating_sub(held.together - (its - bytes)) / 2 {
            drop(held);
            self.metrics.limited("requests");
            if let Some(left_out) = self.told.now() {
                warn!(
                    left_out,
                    "requests are too many or too long at once: {peer} is refused"
                );
            }
            return Err(Status::resource_exhausted(
                "too many or too long requests at once: send fewer, or shorter ones",
            ));
        }
        held.together = together;
        held.by_peer.insert(Arc::clone(peer), its);
        Ok(())
    }

    fn give_back(&self, peer: &Arc<str>, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.together -= bytes;
        if let Some(its) = held.by_peer.get_mut(peer) {
            *its -= bytes;
            if *its == 0 {
                held.by_peer.remove(peer);
            }
        }
    }
}

impl Charge {
    fn new(memory: &Arc<Memory>, peer: Arc<str>) -> Self {
        Self {
            memory: Arc::clone(memory),
            peer,
            bytes: 0,
        }
    }

    fn more(&mut self, bytes: usize) -> Result<(), Status> {
        self.memory.take(&self.peer, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.give_back(&self.peer, self.bytes);
    }
}

impl<S> Bounded<S> {
    pub(super) fn new(service: S, memory: &Arc<Memory>, streams: Streams) -> Self {
        Self {
            service,
            memory: Arc::clone(memory),
            streams,
        }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<tonic::body::Body>> for Bounded<S>
where
    S: Service<Request<Counted>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<S::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.unwrap_or_default().name;
        let mut charge = Charge::new(&self.memory, Arc::clone(&peer));
        let unread = match self.streams {
            Streams::Conversation => UNREAD,
            Streams::Bounded | Streams::Counted => 0,
        };
        if let Err(refused) = charge.more(CALL + unread + size(request.headers())) {
            return std::future::ready(Ok(refused.into_http())).boxed();
        }
        let charged = Charge::new(&self.memory, peer);
        let answer = self.service.call(request.map(|body| Counted {
            body,
            charge: charged,
            receives: true,
        }));
        let streams = self.streams;
        async move {
            let answer = answer.await?;
            Ok(match streams {
                Streams::Bounded => answer,
                Streams::Counted | Streams::Conversation => answer.map(|body| {
                    tonic::body::Body::new(Counted {
                        body,
                        charge,
                        receives: false,
                    })
                }),
            })
        }
        .boxed()
    }
}

fn size(headers: &HeaderMap) -> usize {
    let each = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER);
    each.sum()
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
            Some(frame.and_then(|frame| match frame.data_ref() {
                Some(data) if self.receives => self.charge.more(data.len()).map(|()| frame),
                _ => Ok(frame),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As much as a peer gets, a call at a time.
    fn fill(memory: &Arc<Memory>, peer: &str, bytes: usize) -> Vec<Charge> {
        let one = || {
            let mut charge = Charge::new(memory, peer.into());
            charge.more(bytes).ok()?;
            Some(charge)
        };
        std::iter::from_fn(one).collect()
    }

    #[tokio::test]
    async fn whoever_takes_all_that_it_gets_leaves_room_for_others_and_the_bound_holds() {
        let memory = Memory::new(Arc::default());
        let held = |calls: &Vec<Charge>| calls.iter().map(|it| it.bytes).sum::<usize>();
        let mut floods = vec![fill(&memory, "flood", CALL)];
        assert_eq!(held(&floods[0]), TOGETHER / 2, "half for one alone");
        let keda = fill(&memory, "keda", CALL);
        assert_eq!(held(&keda), TOGETHER / 4, "half of what is left");
        floods.remove(0);
        floods.push(fill(&memory, "flood", CALL));
        assert!(held(&floods[0]) < TOGETHER / 2, "less beside another");
        floods.push(keda);
        floods.extend((0..100).map(|number| fill(&memory, &number.to_string(), 1_000)));
        let together: usize = floods.iter().map(held).sum();
        assert!(together <= TOGETHER);
        assert_eq!(memory.held.lock().unwrap().together, together);
        drop(floods);
        let held = memory.held.lock().unwrap();
        assert_eq!((held.together, held.by_peer.len()), (0, 0));
    }
}
