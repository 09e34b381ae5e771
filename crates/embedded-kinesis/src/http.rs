//! Sockets and HTTP, 1.1 or 2: accepting, reading bounded bodies, and breaking connections on
//! purpose.

mod body;
mod messages;
mod socket;
mod tls;

/// Connections that break off, for servers that do so on purpose.
pub mod line {
    pub use super::BrokenOff;
    pub use super::body::{Body, wrong_date};
    pub use super::socket::{Reset, Socket};
    pub use crate::clock::is_fresh;
}

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use self::body::Body;
use self::socket::{Reset, Socket};
pub(crate) use self::tls::acceptor;
use crate::exchange::{Ending, Exchange, Output};
use crate::operations::Content;
use crate::subscription::{Closing, Subscription};
use crate::world::World;

/// A PutRecords call of 10 MiB is 14 MiB of base64, and has keys besides.
const MAX_BODY: usize = 20 << 20;

/// For answers that are on their way when the server stops.
const GRACE: Duration = Duration::from_millis(500);

/// The connection ends without a (whole) answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken off")]
pub struct BrokenOff;

pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    world: Arc<World>,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = world.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(connection(stream, tls.clone(), Arc::clone(&world)));
            }
            // Out of file descriptors, most likely: the next one may be free in a moment.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, world: Arc<World>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let reset = Reset::default();
    let socket = Socket::new(stream, reset.clone());
    let Some(tls) = tls else {
        return serve(socket, reset, world).await;
    };
    let socket = tokio::select! {
        () = world.closing.cancelled() => return,
        socket = tls.accept(socket) => socket,
    };
    match socket {
        Ok(socket) => serve(socket, reset, world).await,
        Err(error) => tracing::debug!(%error, "no TLS with a client"),
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    reset: Reset,
    world: Arc<World>,
) {
    let socket = TokioIo::new(socket);
    let service = service_fn(|request| answer(Arc::clone(&world), request, reset.clone()));
    // The Java KCL's own client speaks HTTP/2 from the first byte.
    let http = auto::Builder::new(TokioExecutor::new());
    let connection = http.serve_connection(socket, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = world.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(ended) => ended,
                // A client that reads nothing, or never ends its request.
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(
    world: Arc<World>,
    request: Request<Incoming>,
    reset: Reset,
) -> Result<Response<Body>, BrokenOff> {
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Ok(response(Output::too_large()));
    }
    let read = tokio::select! {
        () = world.closing.cancelled() => return Err(BrokenOff),
        read = Limited::new(body, MAX_BODY).collect() => read,
    };
    let body = match read {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(response(Output::too_large())),
        Err(_) => return Err(BrokenOff),
    };
    let response = |output, off: i64| {
        let now = i64::try_from(world.clock.now()).unwrap_or(i64::MAX);
        let date = now.saturating_add(off.saturating_mul(1000));
        let mut response = response(output);
        response.headers_mut().insert(DATE, body::date(date));
        response
    };
    match Exchange::new(&world, &head, &body).run().await {
        Ending::Answer(output) => Ok(response(output, 0)),
        Ending::HalfAnswer(output) => Ok(response(output, 0).map(Body::halved)),
        Ending::SlowAnswer(output, rate) => Ok(response(output, 0).map(|body| body.slowed(rate))),
        Ending::TroubledAnswer(output, after, then) => {
            Ok(response(output, 0).map(|body| body.troubled(after, then)))
        }
        Ending::WrongDate(output, seconds) => Ok(response(output, seconds)),
        Ending::Reset => {
            reset.request();
            Err(BrokenOff)
        }
        Ending::BrokenOff => Err(BrokenOff),
    }
}

/// What a subscription says, as it is asked for.
fn messages(
    subscription: Subscription,
) -> impl hyper::body::Body<Data = Bytes, Error = BrokenOff> + Send {
    StreamBody::new(stream::unfold(Some(subscription), async |subscription| {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(message) => Some((Ok(Frame::data(message?)), Some(subscription))),
            Err(Closing) => Some((Err(BrokenOff), None)),
        }
    }))
}

fn response(output: Output) -> Response<Body> {
    let mut response = Response::new(match output.body {
        Content::Whole(body) => Body::new(body),
        Content::Events(subscription) => Body::events(messages(*subscription)),
    });
    *response.status_mut() = output.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(output.content_type));
    let id = format!("{:016x}-{:016x}", fastrand::u64(..), fastrand::u64(..));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-amzn-requestid", id.clone());
        headers.insert("x-amz-id-2", id);
    }
    response
}
