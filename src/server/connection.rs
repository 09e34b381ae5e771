//! A connection that ends when its place is needed more elsewhere, or when its client says nothing.
//!
//! Only what is received counts: a client that does not read what it asked for, or answers no
//! pings, says nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::places::Place;
use crate::trigger::tenant::Tenant;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until its first byte.
    pub(super) first: Duration,
    /// Between two bytes.
    pub(super) silence: Duration,
    /// In all; `None`: no limit.
    pub(super) life: Option<Duration>,
}

/// Who is at the other end.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// The name in its certificate, else its address.
    pub(super) name: Arc<str>,
    /// Cancelled when its certificate would not be admitted any more.
    pub(super) expelled: CancellationToken,
}

/// A bounded connection.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    patience: Patience,
    ends: Option<Instant>,
    deadline: Pin<Box<Sleep>>,
    taken: Pin<Box<WaitForCancellationFutureOwned>>,
    /// By silence, and counted.
    ended: bool,
    place: Place,
    /// Told when it ends.
    _gone: DropGuard,
}

impl Peer {
    /// By its address; that of IPv4 in IPv6 is the same.
    pub(super) fn at(address: SocketAddr) -> Self {
        Self::named(&address.ip().to_canonical().to_string())
    }

    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            expelled: CancellationToken::new(),
        }
    }

    /// The tenant of a connection, which is nobody's in particular.
    pub(super) fn tenant(&self) -> Tenant {
        Tenant {
            peer: Arc::clone(&self.name),
            namespace: String::new(),
        }
    }
}

/// Does it come from this very machine, as `kubectl port-forward` does?
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl<S> Connection<S> {
    /// `gone` is cancelled when the connection is dropped.
    pub(super) fn new(
        stream: S,
        peer: Peer,
        place: Place,
        patience: Patience,
        gone: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let ends = patience.life.map(|life| now + life);
        Self {
            stream,
            peer,
            patience,
            ends,
            deadline: Box::pin(sleep_until(now + patience.first)),
            taken: Box::pin(place.taken.clone().cancelled_owned()),
            ended: false,
            place,
            _gone: gone.drop_guard(),
        }
    }

    fn heard(&mut self) {
        let silent = Instant::now() + self.patience.silence;
        let deadline = self.ends.map_or(silent, |ends| ends.min(silent));
        self.deadline.as_mut().reset(deadline);
    }

    /// Ready when the connection has to end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.taken.as_mut().poll(cx).is_ready() {
            let why = "its place was needed more elsewhere";
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        ready!(self.deadline.as_mut().poll(cx));
        if !self.ended {
            self.ended = true;
            self.place.count("silence");
        }
        let why = "the client said nothing for too long";
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(why) = self.poll_end(cx) {
            return Poll::Ready(Err(why));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(why) = self.poll_end(cx) {
            return Poll::Ready(Err(why));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
