//! Answers that are read only where there is room for them: the length is known before the body is
//! read.

use std::{error::Error as StdError, fmt, future::Future, sync::Arc};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};

use crate::KinesisClient;

/// No answer to GetRecords is larger: 10 MiB of data, in Base64, and what is around it. One that
/// says it is gets no more memory at once.
const LARGEST: u64 = 16 << 20;

/// Is there room for an answer of so many bytes? Asked before its body is read; where the answer is
/// no, the body is dropped and the call fails.
pub type Room = Arc<dyn Fn(u64) -> bool + Send + Sync>;

tokio::task_local! {
    static ROOM: Room;
}

/// The answer was larger than the room.
#[derive(Debug)]
pub(crate) struct NoRoom(u64);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room for an answer of {} bytes", self.0)
    }
}

impl StdError for NoRoom {}

/// The call, with this room for its answer.
pub(crate) fn within<F: Future>(room: Room, call: F) -> impl Future<Output = F::Output> {
    ROOM.scope(room, call)
}

/// The client, whose calls heed their room. One that has no HTTP client of its own stays as it is.
pub fn heed_room(client: &KinesisClient) -> KinesisClient {
    let config = client.config();
    match config.http_client() {
        Some(inner) => {
            let config = config.to_builder().http_client(Heeding(inner));
            KinesisClient::from_conf(config.build())
        }
        None => client.clone(),
    }
}

#[derive(Debug)]
struct Heeding(SharedHttpClient);

impl HttpClient for Heeding {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(HeedingConnector(
            self.0.http_connector(settings, components),
        ))
    }
}

#[derive(Debug)]
struct HeedingConnector(SharedHttpConnector);

impl HttpConnector for HeedingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let called = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut answer = called.await?;
            let length = answer.headers().get("content-length");
            if let Some(length) = length.and_then(|length| length.parse().ok())
                && let Ok(room) = ROOM.try_with(Arc::clone)
            {
                if !room(length) {
                    return Err(ConnectorError::other(Box::new(NoRoom(length)), None));
                }
                read(&mut answer, length).await?;
            }
            Ok(answer)
        })
    }
}

/// Reads the body into one piece of its length. The SDK would gather the pieces as they come, and
/// then copy them into one.
async fn read(answer: &mut HttpResponse, length: u64) -> Result<(), ConnectorError> {
    let mut whole = Vec::with_capacity(length.min(LARGEST) as usize);
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    let mut body = ByteStream::new(body);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| ConnectorError::io(error.into()))?;
        whole.extend_from_slice(&piece);
    }
    *answer.body_mut() = SdkBody::from(whole);
    Ok(())
}
