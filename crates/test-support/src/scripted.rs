//! An AWS that answers each call as the test says: pages, and what emulators never do.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::{Value, json};

use tokio::net::TcpListener;

/// The answer, or AWS's code of an error.
pub type Said = Result<Value, &'static str>;

/// Kinesis and DynamoDB at one address.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// Where it listens.
    pub endpoint: String,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Scripted {
    /// `answer` is given the operation and what was sent.
    pub async fn start(answer: impl Fn(&str, &Value) -> Said + Send + Sync + 'static) -> Self {
        let calls = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let record = Arc::clone(&calls);
        let answered = move |head: &HeaderMap, body: &Bytes| {
            let target = head["x-amz-target"].to_str().unwrap();
            let operation = target.rsplit('.').next().unwrap();
            let asked: Value = serde_json::from_slice(body).unwrap();
            let said = answer(operation, &asked);
            record.lock().unwrap().push((operation.to_owned(), asked));
            match said {
                Ok(answer) => response(StatusCode::OK, &answer),
                Err(code) => response(
                    StatusCode::BAD_REQUEST,
                    &json!({"__type": code, "message": "scripted"}),
                ),
            }
        };
        let answered = Arc::new(answered);
        let router = Router::new().route(
            "/",
            post(async move |head: HeaderMap, body: Bytes| answered(&head, &body)),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, calls }
    }

    /// What was sent with the calls of an operation, oldest first.
    pub fn calls(&self, operation: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let calls = calls.iter().filter(|(called, _)| called == operation);
        calls.map(|(_, asked)| asked.clone()).collect()
    }
}

fn response(status: StatusCode, body: &Value) -> Response {
    let head = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amzn-requestid", "scripted"),
    ];
    (status, head, body.to_string()).into_response()
}

/// The shards of `0 1. 0>2. 2+3>4.`: closed, open, child of one, child of two. As ListShards has
/// them.
pub fn shards(text: &str) -> Vec<Value> {
    let shard = |word: &str| {
        let open = word.ends_with('.');
        let word = word.trim_end_matches('.');
        let (parents, number) = word.split_once('>').unwrap_or(("", word));
        let mut parents = parents.split('+').filter(|it| !it.is_empty());
        let mut shard = json!({
            "ShardId": shard_id(number),
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
            "SequenceNumberRange": {"StartingSequenceNumber": "1"},
        });
        if let Some(parent) = parents.next() {
            shard["ParentShardId"] = shard_id(parent).into();
        }
        if let Some(parent) = parents.next() {
            shard["AdjacentParentShardId"] = shard_id(parent).into();
        }
        if !open {
            shard["SequenceNumberRange"]["EndingSequenceNumber"] = "2".into();
        }
        shard
    };
    text.split(' ').map(shard).collect()
}

/// `2`: `shardId-000000000002`.
pub fn shard_id(number: &str) -> String {
    format!("shardId-{number:0>12}")
}
