//! Connections in, with TLS or without: each has a place from its first moment on.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use super::{
    connection::{Connection, Patience, Peer},
    places::{Place, Places},
};
use crate::server::tls::Tls;

/// The longest TLS handshake; a slower client is disconnected.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after the system refused a connection, as when file descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait, after their handshake, for the server to take them.
const QUEUE: usize = 16;

/// A listener whose connections are bounded.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    places: Arc<Places>,
    patience: Patience,
}

impl Listener {
    pub(super) fn new(listener: TcpListener, places: Arc<Places>, patience: Patience) -> Self {
        Self {
            listener,
            places,
            patience,
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
                    warn!("cannot accept a connection: {error}");
                    sleep(PAUSE).await;
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
            let connection = Connection::new(stream, peer, place, listener.patience);
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// As [`plain`], with TLS; a slow handshake delays no other connection.
pub(super) fn tls(
    listener: Listener,
    tls: Tls,
) -> ReceiverStream<io::Result<Connection<TlsStream<TcpStream>>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let tls = Arc::new(tls);
    tokio::spawn(async move {
        loop {
            let (stream, peer, _, place) = tokio::select! {
                () = sender.closed() => return,
                next = listener.next() => next,
            };
            let (tls, sender, patience) = (Arc::clone(&tls), sender.clone(), listener.patience);
            tokio::spawn(async move {
                let taken = place.taken.clone();
                let shaken = tokio::select! {
                    () = taken.cancelled() => return,
                    shaken = timeout(HANDSHAKE, tls.accept(stream)) => shaken,
                };
                match shaken {
                    Ok(Ok((stream, name))) => {
                        let peer = name.map_or(peer, Peer);
                        let connection = Connection::new(stream, peer, place, patience);
                        // Closed meanwhile: the server shuts down.
                        drop(sender.send(Ok(connection)).await);
                    }
                    Ok(Err(error)) => {
                        place.count("handshake");
                        debug!("TLS handshake failed: {error}");
                    }
                    Err(_) => {
                        place.count("handshake");
                        debug!("TLS handshake took too long");
                    }
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

impl axum::serve::Listener for Listener {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, peer, address, place) = self.next().await;
        let connection = Connection::new(stream, peer, place, self.patience);
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
