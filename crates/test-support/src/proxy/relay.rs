//! Connections: each call is read whole, meets its fault, is passed on, and answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use embedded_kinesis::{
    Fault,
    line::{Body, BrokenOff, Reset, Socket, is_fresh, wrong_date},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, TRANSFER_ENCODING},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::aws::ACCESS_KEY;

use super::{
    Shared, TableAsked, Tally,
    call::{Call, Service},
};

/// The service that calls are passed on to.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Upstream {
    pub(super) fn new(base: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    async fn ask(&self, mut head: Parts, body: Bytes) -> Result<Response<Incoming>, BrokenOff> {
        let path = head.uri.path_and_query().map_or("/", |it| it.as_str());
        head.uri = Uri::try_from(format!("{}{path}", self.base)).map_err(|_| BrokenOff)?;
        for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        let request = Request::from_parts(head, Full::new(body));
        self.client.request(request).await.map_err(|_| BrokenOff)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) shared: Arc<Shared>,
    pub(super) upstream: Upstream,
    pub(super) stopped: CancellationToken,
}

impl Relay {
    pub(super) async fn serve(self, listener: TcpListener) {
        let stopped = self.stopped.clone();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(self.clone().connection(stream))),
                    // Out of file descriptors, most likely: one may be free in a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = accept => {}
        }
    }

    async fn connection(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let reset = Reset::default();
        let socket = TokioIo::new(Socket::new(stream, reset.clone()));
        let stopped = self.stopped.clone();
        let service = service_fn(|request| self.clone().answer(request, reset.clone()));
        tokio::select! {
            () = stopped.cancelled() => {}
            _ = http1::Builder::new().serve_connection(socket, service) => {}
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        reset: Reset,
    ) -> Result<Response<Body>, BrokenOff> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| BrokenOff)?.to_bytes();
        let call = Call::read(&head.headers, &body);
        let fault = self.shared.faults.take(&call.operation, call.only());
        self.shared.came_in(&call, body.len(), fault.is_some());
        let broken_off = || {
            reset.request();
            Err(BrokenOff)
        };
        match fault {
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Reset) => return broken_off(),
            Some(Fault::Aws {
                code,
                message,
                status,
            }) => {
                let body = call.service.error(&code, &message);
                return Ok(self.made(&call, status, call.service.content_type(), body));
            }
            Some(Fault::Status(status)) => {
                return Ok(self.made(&call, status, "text/html", Bytes::new()));
            }
            Some(Fault::Garbage) => {
                let garbage = Bytes::from_static(b"\x00\xff<<<{[garbage");
                return Ok(self.made(&call, 200, call.service.content_type(), garbage));
            }
            Some(Fault::EmptyJson) => {
                return Ok(self.made(&call, 200, call.service.content_type(), "{}"));
            }
            _ => {}
        }
        let clock = *self.shared.clock.lock().unwrap();
        let date = clock.map(wrong_date);
        let signed = head.headers.get("x-amz-date");
        let signed = signed.and_then(|signed| signed.to_str().ok());
        // The tests' own clients keep this machine's time.
        let clock = clock.filter(|_| call.access_key != ACCESS_KEY);
        let is_stale = clock
            .zip(signed)
            .is_some_and(|(ahead, signed)| !is_fresh(signed, ahead));
        let status = self.shared.status(&call);
        let describes = call.operation == "DescribeTable";
        let refusal = if is_stale {
            Some(("InvalidSignatureException", "Signature expired"))
        } else {
            // DynamoDB has one word for a table that is not there and one that cannot be used.
            let unusable = ("ResourceNotFoundException", "Requested resource not found");
            status.filter(|_| !describes).map(|_| unusable)
        };
        if let Some((code, message)) = refusal {
            let body = call.service.error(code, message);
            let mut answer = self.made(&call, 400, call.service.content_type(), body);
            if let Some(date) = date {
                answer.headers_mut().insert(DATE, date);
            }
            return Ok(answer);
        }
        let answer = self.pass(head, body, &call).await;
        let answer = answer.map(|answer| match status {
            Some(status) => answer.map(|body| body.with_status(status)),
            None => answer,
        });
        let mut answer = match answer {
            Ok(answer) => answer.map(Passed::into_body),
            Err(_) => return broken_off(),
        };
        if let Some(date) = date {
            answer.headers_mut().insert(DATE, date);
        }
        match fault {
            Some(Fault::LoseAnswer) => broken_off(),
            Some(Fault::HalfBody) => Ok(answer.map(Body::halved)),
            Some(Fault::Slow(rate)) => Ok(answer.map(|body| body.slowed(rate))),
            Some(Fault::Events { after, then }) => {
                Ok(answer.map(|body| body.troubled(after, then)))
            }
            Some(Fault::WrongDate(seconds)) => {
                answer.headers_mut().insert(DATE, wrong_date(seconds));
                Ok(answer)
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(answer)
            }
            // What only the service itself can do wrong.
            Some(_) | None => Ok(answer),
        }
    }

    async fn pass(
        &self,
        head: Parts,
        body: Bytes,
        call: &Call,
    ) -> Result<Response<Passed>, BrokenOff> {
        let body = call.metered().unwrap_or(body);
        let answer = self.upstream.ask(head, body).await?;
        let (mut head, body) = answer.into_parts();
        trim(&mut head.headers);
        let kind = head.headers.get(CONTENT_TYPE);
        if kind.is_some_and(|kind| kind == "application/vnd.amazon.eventstream") {
            let events = self.counted(call, body);
            return Ok(Response::from_parts(head, Passed::Events(events)));
        }
        let body = body.collect().await.map_err(|_| BrokenOff)?.to_bytes();
        self.shared.answered(call, head.status, &body);
        Ok(Response::from_parts(head, Passed::Whole(body)))
    }

    /// An event stream, whose bytes are counted as they come.
    fn counted(&self, call: &Call, events: Incoming) -> Body {
        let (shared, key) = (Arc::clone(&self.shared), Shared::key(call));
        let events = events.map_err(|_| BrokenOff).map_frame(move |frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            shared.count_at(key.clone(), |tally| tally.answer_bytes += bytes as u64);
            frame
        });
        Body::events(events)
    }

    /// An answer that the service did not give.
    fn made(
        &self,
        call: &Call,
        status: u16,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let body = body.into();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        if status.as_u16() >= 400 {
            self.shared.count(call, |tally| tally.refused += 1);
        }
        let mut answer = Response::new(Body::new(body));
        *answer.status_mut() = status;
        let content_type = HeaderValue::from_static(content_type);
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        answer
    }
}

/// What the service answered.
enum Passed {
    Whole(Bytes),
    Events(Body),
}

impl Passed {
    /// Of DescribeTable, with that status.
    fn with_status(self, status: &str) -> Self {
        match self {
            Self::Whole(body) => Self::Whole(with_status(&body, status)),
            events @ Self::Events(_) => events,
        }
    }

    fn into_body(self) -> Body {
        match self {
            Self::Whole(body) => Body::new(body),
            Self::Events(body) => body,
        }
    }
}

/// Headers that are about the connection behind, or about a body that may have changed.
fn trim(headers: &mut HeaderMap) {
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// An answer of DescribeTable, with that status.
fn with_status(body: &Bytes, status: &str) -> Bytes {
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(of_table) = answer.pointer_mut("/Table/TableStatus") {
        *of_table = status.into();
    }
    answer.to_string().into()
}

impl Shared {
    /// Of the call's table, if it cannot be used.
    fn status(&self, call: &Call) -> Option<&'static str> {
        let table = call.only().filter(|_| call.service == Service::DynamoDb)?;
        self.statuses.lock().unwrap().get(table).copied()
    }

    fn came_in(&self, call: &Call, bytes: usize, fault: bool) {
        self.count(call, |tally| {
            tally.calls += 1;
            tally.faults += u64::from(fault);
            tally.request_bytes += bytes as u64;
        });
        let mut callers = self.callers.lock().unwrap();
        for on in &call.on {
            let caller = (call.access_key.clone(), call.operation.clone(), on.clone());
            callers.insert(caller);
        }
        drop(callers);
        if let Some(table) = call.table() {
            self.tables.lock().unwrap().insert(TableAsked {
                table: table.to_owned(),
                region: call.region.clone(),
                access_key: call.access_key.clone(),
            });
        }
        self.changed.send_replace(());
    }

    fn answered(&self, call: &Call, status: StatusCode, body: &Bytes) {
        let mut tally = Tally {
            answer_bytes: body.len() as u64,
            refused: u64::from(status.as_u16() >= 400),
            ..Tally::default()
        };
        if call.service == Service::DynamoDb {
            let answer = serde_json::from_slice(body).unwrap_or_default();
            if status.is_success() {
                tally.items(call.items());
            }
            tally.answer(&call.operation, &answer);
        }
        self.count(call, |all| *all += tally);
    }

    fn count(&self, call: &Call, add: impl FnOnce(&mut Tally)) {
        self.count_at(Self::key(call), add);
    }

    fn key(call: &Call) -> (String, String) {
        let on = call.only().unwrap_or_default();
        (call.operation.clone(), on.to_owned())
    }

    fn count_at(&self, key: (String, String), add: impl FnOnce(&mut Tally)) {
        add(self.tallies.lock().unwrap().entry(key).or_default());
    }
}
