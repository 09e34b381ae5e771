//! `/explain`: what is said of each ScaledObject, as JSON and as a page.

use crate::support::world::{Application, named};
use crate::support::*;
use embedded_kinesis::{FOREVER, Fault};
use serde_json::Value;
use tonic::Code;

#[tokio::test]
async fn shards_say_what_they_are_and_whose_and_why() {
    let (application, worker) = Application::resharded().await;
    let mut client = application.stack.client().await;
    let object = application.trigger("lag", &[("lagThreshold", "45s")]);
    wait_for_value(&mut client, &named("shop", "billing", object), 1.0).await;

    let json = application.explained("/explain/shop/billing", 2).await;
    let trigger = &json["triggers"][0];
    assert_eq!(trigger["keda"]["target"], 1, "{json:#}");
    assert_eq!(trigger["keda"]["metricName"], "aws-kinesis-orders");
    assert_eq!(trigger["keda"]["decision"]["running"], 1);
    let shards = trigger["source"]["application"]["shards"]
        .as_array()
        .unwrap();
    let unread = &shards[0];
    assert_eq!(unread["state"], "unread", "the worst comes first: {json:#}");
    assert_eq!(unread["closed"], true);
    assert_eq!(unread["lease"]["owner"], "billing-7d9f");
    assert!(unread["ageMs"].is_u64(), "{unread}");
    let child = shards
        .iter()
        .find(|shard| shard["state"] == "waits")
        .unwrap();
    let why = child["why"].as_str().unwrap();
    let parent = child["parents"][0].as_str().unwrap();
    assert!(why.contains(parent) && why.contains("SHARD_END"), "{why}");
    let keys = trigger["metadata"].as_array().unwrap();
    let threshold = keys
        .iter()
        .find(|key| key["key"] == "lagThreshold")
        .unwrap();
    assert_eq!(threshold["value"], "45s");
    drop(worker);
}

#[tokio::test]
async fn an_error_is_told_with_its_code_and_what_holds_now_is_not_the_journals_last() {
    let stack = Stack::with(|config, _| config.aws.max_stale = std::time::Duration::ZERO).await;
    stack.create_stream("orders", 3).await;
    let mut client = stack.client().await;
    let object = named(
        "shop",
        "orders",
        stack.object("orders", &[("dbPasswordFromEnv", "topsecret")]),
    );
    wait_for_value(&mut client, &object, 3.0).await;
    stack
        .kinesis
        .faults()
        .inject("*", Fault::access_denied(), FOREVER);
    wait_for_code(&mut client, &object, Code::PermissionDenied).await;

    let (status, body) = http_get(stack.admin, "/explain/shop/orders?format=json").await;
    assert_eq!(status, 200);
    let json: Value = serde_json::from_str(&body).unwrap();
    let trigger = &json["triggers"][0];
    assert_eq!(trigger["keda"]["code"], "PERMISSION_DENIED", "{json:#}");
    let failure = trigger["source"]["failure"].as_str().unwrap();
    assert!(failure.contains("AccessDeniedException"), "{failure}");
    assert_eq!(trigger["answers"][0]["value"], 3);
    assert!(!body.contains("topsecret"), "{body}");

    let (_, page) = http_get(stack.admin, "/explain/shop/orders").await;
    assert!(page.contains("No answer: PERMISSION_DENIED"), "{page}");
    assert!(!page.contains("topsecret"), "{page}");
    let (_, index) = http_get(stack.admin, "/explain").await;
    assert!(index.contains("href=\"/explain/shop/orders\""), "{index}");
}

/// The whole answer, head and body.
async fn whole(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn names_are_text_and_nothing_else() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 1).await;
    let mut client = stack.client().await;
    let hostile = "\"><script>alert(1)</script>/../&'";
    value(
        &mut client,
        &named(hostile, hostile, stack.object("orders", &[])),
    )
    .await
    .unwrap();
    let index = whole(stack.admin, "/explain").await;
    assert!(index.contains("&lt;script&gt;"), "{index}");
    let link = index.split("href=\"/explain/").nth(1).unwrap();
    let link = link.split('"').next().unwrap().replace("&amp;", "&");
    let object = whole(stack.admin, &format!("/explain/{link}")).await;
    assert!(object.starts_with("HTTP/1.1 200"), "{link}: {object}");
    for page in [index, object] {
        assert!(!page.contains("<script"), "{page}");
        for header in [
            "content-security-policy: default-src 'none';",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "content-type: text/html",
        ] {
            assert!(page.contains(header), "{header} is missing in {page}");
        }
    }
}

#[tokio::test]
async fn who_did_not_ask_is_not_found() {
    let stack = Stack::start().await;
    assert_eq!(http_get(stack.admin, "/explain/shop/none").await.0, 404);
    let (status, index) = http_get(stack.admin, "/explain").await;
    assert!(
        status == 200 && index.contains("Nobody has asked yet"),
        "{index}"
    );
    let (_, json) = http_get(stack.admin, "/explain?format=json").await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["scaledObjects"], Value::Array(vec![]));
}
