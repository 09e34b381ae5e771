//! The embedded DynamoDB behind a proxy that fails calls on demand, and knows who called what.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;

/// What happens to calls of an operation on a table.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error with that code; nothing is done.
    Error(&'static str),
    /// It is done, and answered with a 500.
    LoseAnswer,
    /// No answer, ever.
    Hang,
}

/// How calls go: all of them pass, but for those of faults.
#[derive(Clone)]
pub struct DynamoDb {
    address: std::net::SocketAddr,
    proxy: Arc<Proxy>,
}

struct Proxy {
    client: Client<HttpConnector, Body>,
    target: std::net::SocketAddr,
    faults: Mutex<Vec<(&'static str, String, Fault, usize)>>,
    /// Access key, operation, table.
    calls: Mutex<BTreeSet<(String, String, String)>>,
}

impl DynamoDb {
    pub async fn start() -> Self {
        let database = dynoxide::Database::memory().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        tokio::spawn(dynoxide::server::serve_on(listener, database));

        let client = Client::builder(TokioExecutor::new()).build_http();
        let proxy = Arc::new(Proxy {
            client,
            target,
            faults: Mutex::default(),
            calls: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(pass).with_state(Arc::clone(&proxy));
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { address, proxy }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` calls of `operation` on `table` meet `fault`.
    pub fn inject(&self, operation: &'static str, table: &str, fault: Fault, times: usize) {
        self.proxy
            .faults
            .lock()
            .unwrap()
            .push((operation, table.to_owned(), fault, times));
    }

    /// The operations that the owner of an access key has called, each with its table.
    pub fn called_by(&self, access_key: &str) -> BTreeSet<(String, String)> {
        let calls = self.proxy.calls.lock().unwrap();
        let calls = calls.iter().filter(|(key, ..)| key == access_key);
        calls
            .map(|(_, operation, table)| (operation.clone(), table.clone()))
            .collect()
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        self.proxy.faults.lock().unwrap().clear();
    }
}

impl Proxy {
    fn record(&self, authorization: &str, operation: &str, body: &[u8]) {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let credential = authorization.split_once("Credential=");
        let key = credential.and_then(|(_, rest)| rest.split('/').next());
        let operation = operation.rsplit('.').next();
        let (Some(key), Some(operation)) = (key, operation) else {
            return;
        };
        let one = body["TableName"].as_str();
        let several = body["RequestItems"].as_object();
        let tables = several
            .into_iter()
            .flat_map(|tables| tables.keys().map(String::as_str));
        let mut calls = self.calls.lock().unwrap();
        for table in one.into_iter().chain(tables) {
            calls.insert((key.to_owned(), operation.to_owned(), table.to_owned()));
        }
    }

    fn fault(&self, operation: &str, body: &[u8]) -> Option<Fault> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        let mut faults = self.faults.lock().unwrap();
        let met = faults.iter_mut().find(|(faulty, table, _, left)| {
            *left > 0 && operation.ends_with(*faulty) && body["TableName"] == table.as_str()
        })?;
        met.3 -= 1;
        Some(met.2.clone())
    }
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name| {
        head.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    };
    let operation = header("x-amz-target").to_owned();
    proxy.record(header("authorization"), &operation, &body);
    let fault = proxy.fault(&operation, &body);
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Error(code)) => {
            let body = format!(
                r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"injected"}}"#
            );
            return (
                StatusCode::BAD_REQUEST,
                [("content-type", "application/x-amz-json-1.0")],
                body,
            )
                .into_response();
        }
        _ => {}
    }
    head.uri = Uri::try_from(format!("http://{}/", proxy.target)).unwrap();
    let answer = proxy
        .client
        .request(Request::from_parts(head, Body::from(body)))
        .await
        .unwrap();
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    answer.map(Body::new).into_response()
}
