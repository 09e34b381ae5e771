//! Connections in, with TLS or without.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use crate::server::tls::Tls;

/// The longest TLS handshake; a slower client is disconnected.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after the system refused a connection, as when file descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait, after their handshake, for the server to take them.
const QUEUE: usize = 16;

/// The listener closes when the stream is dropped.
pub(super) fn plain(listener: TcpListener) -> ReceiverStream<io::Result<TcpStream>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(stream) = next(&listener, &sender).await {
            if sender.send(Ok(stream)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// As [`plain`], with TLS; a slow handshake delays no other connection.
pub(super) fn tls(
    listener: TcpListener,
    tls: Tls,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let tls = Arc::new(tls);
    tokio::spawn(async move {
        while let Some(stream) = next(&listener, &sender).await {
            let (tls, sender) = (Arc::clone(&tls), sender.clone());
            tokio::spawn(async move {
                match timeout(HANDSHAKE, tls.accept(stream)).await {
                    // Closed meanwhile: the server shuts down.
                    Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                    Ok(Err(error)) => debug!("TLS handshake failed: {error}"),
                    Err(_) => debug!("TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn next<T: Send>(
    listener: &TcpListener,
    sender: &mpsc::Sender<io::Result<T>>,
) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Some(stream),
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}
