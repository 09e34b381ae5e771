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

    /// Ready when the connection has to end, whatever the client says.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.taken.as_mut().poll(cx).is_ready() {
            let why = "its place was needed more elsewhere";
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        match self.ends {
            Some(ends) if ends <= Instant::now() => Poll::Ready(self.silent()),
            _ => Poll::Pending,
        }
    }

    /// Nothing is there from the client, or it takes nothing: ready when that is so for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(self.silent())
    }

    fn silent(&mut self) -> io::Error {
        if !self.ended {
            self.ended = true;
            self.place.count("silence");
        }
        let why = "the client said nothing for too long";
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(why) = self.poll_taken(cx) {
            return Poll::Ready(Err(why));
        }
        let before = buffer.filled().len();
        // On a busy machine it may be late that somebody looks: what came in time counts.
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => read?,
            Poll::Pending => return self.poll_silence(cx).map(Err),
        }
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
        if let Poll::Ready(why) = self.poll_taken(cx) {
            return Poll::Ready(Err(why));
        }
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.poll_silence(cx).map(Err),
        }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::server::places::{Places, Stay};

    const SILENCE: Duration = Duration::from_secs(80);

    fn connection(life: Option<Duration>) -> (DuplexStream, Connection<DuplexStream>) {
        let places = Places::new("connections", 1, Stay::Long, &Arc::default());
        let (client, stream) = duplex(1024);
        let peer = Peer::named("keda");
        let place = places.take(peer.tenant()).unwrap();
        let patience = Patience {
            first: SILENCE,
            silence: SILENCE,
            life,
        };
        let gone = CancellationToken::new();
        (client, Connection::new(stream, peer, place, patience, gone))
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_said_in_time_counts_however_late_somebody_looks() {
        let (mut client, mut connection) = connection(None);
        client.write_all(b"ping").await.unwrap();
        tokio::time::advance(2 * SILENCE).await;
        assert!(connection.write(b"first").await.is_ok());
        let mut heard = [0; 8];
        assert_eq!(connection.read(&mut heard).await.unwrap(), 4);
        let begun = Instant::now();
        let ended = connection.read(&mut heard).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), SILENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_talks_on_and_on_ends_with_its_life() {
        let (mut client, mut connection) = connection(Some(2 * SILENCE));
        client.write_all(&[b'x'; 100]).await.unwrap();
        tokio::time::advance(2 * SILENCE).await;
        assert!(connection.read(&mut [0; 1]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_silent() {
        let (_client, mut connection) = connection(None);
        let ended = connection.write_all(&[b'x'; 2048]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }
}
