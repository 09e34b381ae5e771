//! HTTP/2: from the first byte as the Java KCL's client speaks it, and over TLS by ALPN.

use aws_sdk_kinesis::Client;
use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use bytes::{Bytes, BytesMut};
use ciborium::Value;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, Version};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::subscriptions::started;
use crate::support::*;
use embedded_kinesis::{Certificate, Config, EmbeddedKinesis};

const CBOR: &str = "application/x-amz-cbor-1.1";

fn request(server: &EmbeddedKinesis, body: &Value) -> Request<Full<Bytes>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(body, &mut bytes).unwrap();
    let scope = "AKIDRAW/20261123/us-east-1/kinesis/aws4_request";
    Request::post(server.endpoint())
        .version(Version::HTTP_2)
        .header("x-amz-target", "Kinesis_20131202.SubscribeToShard")
        .header("content-type", CBOR)
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={scope}"),
        )
        .body(Full::from(bytes))
        .unwrap()
}

/// Header `name` of a message.
fn header(message: &aws_smithy_types::event_stream::Message, name: &str) -> String {
    let mut headers = message.headers().iter();
    let header = headers.find(|it| it.name().as_str() == name).unwrap();
    header.value().as_string().unwrap().as_str().to_owned()
}

#[tokio::test]
async fn from_the_first_byte_with_cbor() {
    let (server, client, consumer) = started(Config::default()).await;
    let http: HttpClient<_, Full<Bytes>> = HttpClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let map = |fields: &[(&str, Value)]| {
        let fields = fields.iter().cloned();
        Value::Map(fields.map(|(key, value)| (key.into(), value)).collect())
    };
    let latest = map(&[("Type", "LATEST".into())]);
    let body = map(&[
        ("ConsumerARN", consumer.as_str().into()),
        ("ShardId", SHARD.into()),
        ("StartingPosition", latest),
    ]);
    let answer = http.request(request(&server, &body)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.version(), Version::HTTP_2);
    let kind = &answer.headers()["content-type"];
    assert_eq!(kind, "application/vnd.amazon.eventstream");
    put(&client, "pushed").await;

    let mut body = answer.into_body();
    let mut bytes = BytesMut::new();
    let mut messages = Vec::new();
    while messages.len() < 2 {
        match read_message_from(&bytes[..]) {
            Ok(message) => {
                let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                let _ = bytes.split_to(length as usize);
                messages.push(message);
            }
            // Not all of it is here.
            Err(_) => {
                let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
                bytes.extend_from_slice(&data);
            }
        }
    }
    let [first, second] = &messages[..] else {
        panic!("two messages")
    };
    assert_eq!(header(first, ":message-type"), "event");
    assert_eq!(header(first, ":event-type"), "initial-response");
    assert_eq!(header(second, ":event-type"), "SubscribeToShardEvent");
    assert_eq!(header(second, ":content-type"), CBOR);
    let event: Value = ciborium::from_reader(&second.payload()[..]).unwrap();
    let field = |value: &Value, name: &str| {
        let fields = value.as_map().unwrap();
        let found = fields.iter().find(|(key, _)| key.as_text() == Some(name));
        found.unwrap().1.clone()
    };
    let record = field(&event, "Records").as_array().unwrap()[0].clone();
    assert_eq!(field(&record, "Data").as_bytes().unwrap(), b"pushed");
    let at = field(&record, "SequenceNumber");
    assert!(field(&event, "ContinuationSequenceNumber").as_text() >= at.as_text());
}

/// A server with a certificate of its own, and a client that trusts it.
async fn over_tls() -> (EmbeddedKinesis, Client) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = Certificate {
        chain: own.cert.pem(),
        key: own.signing_key.serialize_pem(),
    };
    let trusted = TrustStore::empty().with_pem_certificate(own.cert.pem());
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context.unwrap())
        .build_https();
    let config = Config {
        certificate: Some(certificate),
        ..Config::default()
    };
    let server = EmbeddedKinesis::start(config).await.unwrap();
    let config = test_support::aws::config(&server.endpoint()).into_builder();
    let client = Client::new(&config.http_client(http).build());
    (server, client)
}

#[tokio::test]
async fn over_tls_many_share_a_connection() {
    const SHARDS: usize = 40;
    let (server, client) = over_tls().await;
    assert!(server.endpoint().starts_with("https://"));
    create(&client, "s", SHARDS as i32).await;
    let consumer = register(&client, &server.stream_arn("s"), "app").await;
    let mut subscriptions = Vec::new();
    for shard in shards(&client, "s").await {
        let call = client.subscribe_to_shard().shard_id(shard.shard_id());
        let call = call.consumer_arn(consumer.consumer_arn());
        let answer = call.starting_position(latest()).send().await.unwrap();
        subscriptions.push((shard, answer.event_stream));
    }
    assert_eq!(server.subscriptions(), SHARDS);
    for (shard, events) in &mut subscriptions {
        let key = shard.hash_key_range().unwrap().starting_hash_key();
        let put = client.put_record().stream_name("s").partition_key("k");
        let put = put.explicit_hash_key(key);
        let data = aws_sdk_kinesis::primitives::Blob::new(shard.shard_id());
        put.data(data).send().await.unwrap();
        assert_eq!(arrivals(events).await, [shard.shard_id()]);
    }
    assert!(server.calls().iter().all(|call| call.http2));
    drop(subscriptions);
    server.wait_for_subscriptions(0).await;
}

#[tokio::test]
async fn what_is_no_certificate_does_not_start() {
    let certificate = Certificate {
        chain: "none".to_owned(),
        key: "none".to_owned(),
    };
    let config = Config {
        certificate: Some(certificate),
        ..Config::default()
    };
    assert!(EmbeddedKinesis::start(config).await.is_err());
}
