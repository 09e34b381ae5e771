//! Connections in, with TLS or without: each has a place from its first moment on.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tracing::{debug, warn};

use super::{
    connection::{Connection, Patience, Peer},
    descriptors::ran_out,
    places::{Place, Places},
};
use crate::{server::tls::Tls, telemetry::Seldom};

/// The longest TLS handshake; a slower client is disconnected.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a client that is no longer admitted has to end its calls.
const GRACE: Duration = Duration::from_secs(10);

/// The longest pause after the system refused a connection, as when file descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait, after their handshake, for the server to take them.
const QUEUE: usize = 16;

/// A listener whose connections are bounded.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    places: Arc<Places>,
    /// All that clients hold descriptors by, whichever port they came to.
    all: Arc<[Arc<Places>]>,
    patience: Patience,
    told: Seldom,
}

impl Listener {
    pub(super) fn new(
        listener: TcpListener,
        places: Arc<Places>,
        all: Arc<[Arc<Places>]>,
        patience: Patience,
    ) -> Self {
        Self {
            listener,
            places,
            all,
            patience,
            told: Seldom::default(),
        }
    }

    /// The next that gets a place; others are closed at once.
    async fn next(&self) -> (TcpStream, Peer, SocketAddr, Place) {
        loop {
            let accepted = self.listener.accept().await;
            let accepted = accepted.and_then(|(stream, address)| {
                stream.set_nodelay(true)?;
                Ok((stream, address))
            });
            match accepted {
                Ok((stream, address)) => {
                    let peer = Peer::at(address);
                    if let Ok(place) = self.places.take(peer.tenant()) {
                        return (stream, peer, address, place);
                    }
                }
                Err(error) => {
                    if let Some(left_out) = self.told.now() {
                        warn!(left_out, "cannot accept a connection: {error}");
                    }
                    let largest = self.all.iter().max_by_key(|places| places.taken());
                    let largest = largest.filter(|it| ran_out(&error) && it.shed());
                    match largest {
                        // It is not given up before its task has run.
                        Some(places) => drop(timeout(PAUSE, places.freed()).await),
                        None => sleep(PAUSE).await,
                    }
                }
            }
        }
    }
}

/// The listener closes when the stream is dropped.
pub(super) fn plain(listener: Listener) -> ReceiverStream<io::Result<Connection<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let (stream, peer, _, place) = tokio::select! {
                () = sender.closed() => return,
                next = listener.next() => next,
            };
            let gone = CancellationToken::new();
            let connection = Connection::new(stream, peer, place, listener.patience, gone);
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// A server of its own for each TLS connection, so that one can be told to go.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) tls: Arc<Tls>,
    pub(super) router: Router,
    /// The places of connections whose client is known. Those of the listener are for handshakes.
    pub(super) connections: Arc<Places>,
    pub(super) patience: Patience,
    pub(super) closing: CancellationToken,
}

impl Secured {
    /// Serves until the end, and then until no connection is left. A slow handshake delays no other
    /// connection.
    pub(super) async fn serve(self, listener: Listener) {
        let it = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer, _, place) = tokio::select! {
                () = it.closing.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                next = listener.next() => next,
            };
            connections.spawn(Arc::clone(&it).serve_one(stream, peer, place));
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn serve_one(self: Arc<Self>, stream: TcpStream, peer: Peer, handshake: Place) {
        let taken = handshake.taken.clone();
        let shaken = tokio::select! {
            () = taken.cancelled() => return,
            () = self.closing.cancelled() => return,
            shaken = timeout(HANDSHAKE, self.tls.accept(stream)) => shaken,
        };
        let (stream, client) = match shaken {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(error)) => {
                handshake.count("handshake");
                debug!("TLS handshake failed: {error}");
                return;
            }
            Err(_) => {
                handshake.count("handshake");
                debug!("TLS handshake took too long");
                return;
            }
        };
        drop(handshake);
        let peer = client.as_ref().map_or(peer, |it| Peer::named(&it.name));
        let Ok(place) = self.connections.take(peer.tenant()) else {
            return;
        };
        let (cut, gone) = (place.taken.clone(), CancellationToken::new());
        let expelled = peer.expelled.clone();
        let expels = async {
            match &client {
                Some(client) => self.tls.expels(client).await,
                None => std::future::pending().await,
            }
            self.connections.count("certificate");
            expelled.cancel();
        };
        let end = async {
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = gone.cancelled() => {}
                () = expels => {}
            }
        };
        let connection = Connection::new(stream, peer, place, self.patience, gone.clone());
        let incoming = stream::iter([Ok::<_, io::Error>(connection)]).chain(stream::pending());
        let router = self.router.clone();
        let mut served = std::pin::pin!(router.serve_with_incoming_shutdown(incoming, end));
        let too_late = async {
            expelled.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            // It fails by its listener only.
            _ = &mut served => return,
            () = too_late => cut.cancel(),
        }
        drop(served.await);
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, peer, address, place) = self.next().await;
        let gone = CancellationToken::new();
        let connection = Connection::new(stream, peer, place, self.patience, gone);
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
