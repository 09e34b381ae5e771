//! Faults as the real SDK meets them, and recovery after each.

use std::time::Duration;

use crate::support::*;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use embedded_kinesis::{Config, EmbeddedKinesis, FOREVER, Fault};

const SUMMARY: &str = "DescribeStreamSummary";

#[tokio::test]
async fn errors_in_awss_shape() {
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    for (fault, wanted, status) in [
        (Fault::throttling(), "LimitExceededException", 400),
        (Fault::access_denied(), "AccessDeniedException", 400),
        (Fault::not_found(), "ResourceNotFoundException", 400),
        (Fault::expired_token(), "ExpiredTokenException", 400),
        (Fault::internal_error(), "InternalFailure", 500),
    ] {
        server.faults().inject(SUMMARY, fault, 1);
        let error = client
            .describe_stream_summary()
            .stream_name("s")
            .send()
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(wanted));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert_eq!(open_shards(&client, "s").await, 1);
    }
}

#[tokio::test]
async fn broken_answers() {
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    let ask = || client.describe_stream_summary().stream_name("s").send();

    server.faults().inject("*", Fault::Status(503), 1);
    let error = ask().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 503);

    server.faults().inject(SUMMARY, Fault::Garbage, 1);
    assert!(matches!(
        ask().await.unwrap_err(),
        SdkError::ResponseError(_)
    ));

    server.faults().inject(SUMMARY, Fault::HalfBody, 1);
    let error = ask().await.unwrap_err();
    assert!(matches!(error, SdkError::ResponseError(_)), "{error:?}");

    server.faults().inject(SUMMARY, Fault::Reset, 1);
    let error = ask().await.unwrap_err();
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
    let text = format!("{error:?}");
    assert!(
        text.contains("ConnectionReset") || text.contains("reset"),
        "{text}"
    );

    // `{}` decodes: the SDK fills in what is missing, a zero among it.
    server.faults().inject(SUMMARY, Fault::EmptyJson, 1);
    let answer = ask().await.unwrap();
    let made_up = answer.stream_description_summary().unwrap();
    assert_eq!((made_up.stream_name(), made_up.open_shard_count()), ("", 0));

    server
        .faults()
        .inject(SUMMARY, Fault::Delay(Duration::from_millis(5)), 1);
    ask().await.unwrap();
    assert_eq!(open_shards(&client, "s").await, 1);
    assert_eq!(server.count(SUMMARY), 7);
}

#[tokio::test]
async fn a_lost_answer_is_to_a_call_that_was_made() {
    let (server, client) = server().await;
    server.faults().inject("CreateStream", Fault::LoseAnswer, 1);
    let lost = client
        .create_stream()
        .stream_name("s")
        .shard_count(2)
        .send()
        .await
        .unwrap_err();
    assert!(matches!(lost, SdkError::DispatchFailure(_)), "{lost:?}");
    assert_eq!(open_shards(&client, "s").await, 2);
    server.faults().inject("CreateStream", Fault::Reset, 1);
    client
        .create_stream()
        .stream_name("t")
        .shard_count(2)
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        code(
            client
                .describe_stream_summary()
                .stream_name("t")
                .send()
                .await
        ),
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn what_hangs_ends_with_the_client() {
    let (server, client) = server().await;
    server.faults().inject("ListStreams", Fault::Hang, FOREVER);
    let asking = tokio::spawn(async move { client.list_streams().send().await.map(drop) });
    server.wait_for_held_calls(1).await;
    asking.abort();
    server.wait_for_held_calls(0).await;
    server.wait_for_calls("ListStreams", 1).await;
}

#[tokio::test]
async fn what_hangs_ends_with_the_server() {
    let (server, client) = server().await;
    server.faults().inject("ListStreams", Fault::Hang, FOREVER);
    let asking = tokio::spawn(async move { client.list_streams().send().await.map(drop) });
    server.wait_for_held_calls(1).await;
    server.shutdown().await;
    asking.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_dropped_server_is_gone_and_its_port_is_free() {
    let (server, client) = server().await;
    let address = server
        .endpoint()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    client.list_streams().send().await.unwrap();
    server.shutdown().await;
    assert!(matches!(
        client.list_streams().send().await.unwrap_err(),
        SdkError::DispatchFailure(_)
    ));
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let again = EmbeddedKinesis::serve(listener, Config::default())
        .await
        .unwrap();
    client.list_streams().send().await.unwrap();
    drop(again);
}

#[tokio::test]
async fn faults_can_be_for_one_stream() {
    let (server, client) = server().await;
    create(&client, "a", 1).await;
    create(&client, "b", 1).await;
    server
        .faults()
        .inject_on("a", "*", Fault::access_denied(), FOREVER);
    assert_eq!(
        code(
            client
                .describe_stream_summary()
                .stream_name("a")
                .send()
                .await
        ),
        "AccessDeniedException"
    );
    assert_eq!(
        code(
            client
                .describe_stream_summary()
                .stream_arn(server.stream_arn("a"))
                .send()
                .await
        ),
        "AccessDeniedException"
    );
    assert_eq!(open_shards(&client, "b").await, 1);
    server.faults().clear();
    assert_eq!(open_shards(&client, "a").await, 1);
}

/// Not the SDK: a client that sends nonsense.
#[tokio::test]
async fn nonsense_is_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (server, client) = server().await;
    let address = server
        .endpoint()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let ask = |request: String| {
        let address = address.clone();
        async move {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A refused body may be answered by a reset after the answer.
            let _ = socket.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        }
    };
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let auth = "authorization: AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0\r\n";
    let target = "x-amz-target: Kinesis_20131202.ListStreams\r\ncontent-type: application/x-amz-json-1.1\r\n";

    let answer = ask(format!("{head}content-length: 0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = ask(format!("{head}{target}content-length: 2\r\n\r\n{{}}")).await;
    assert!(
        answer.contains("MissingAuthenticationTokenException"),
        "{answer}"
    );
    let answer = ask(format!("{head}{auth}{target}content-length: 2\r\n\r\n{{]")).await;
    assert!(answer.contains("SerializationException"), "{answer}");
    let unknown = target.replace("ListStreams", "MakeCoffee");
    let answer = ask(format!(
        "{head}{auth}{unknown}content-length: 2\r\n\r\n{{}}"
    ))
    .await;
    assert!(answer.contains("UnknownOperationException"), "{answer}");
    let answer = ask(format!(
        "{head}{auth}{target}content-length: 99999999999\r\n\r\n"
    ))
    .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    client.list_streams().send().await.unwrap();
    // A client that never sends what it promised does not keep the server from stopping.
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let kept = head.replace("connection: close\r\n", "");
    socket
        .write_all(format!("{kept}{auth}{target}content-length: 2\r\n\r\n{{}}").as_bytes())
        .await
        .unwrap();
    socket.read_u8().await.unwrap();
    socket
        .write_all(format!("{kept}{auth}{target}content-length: 5\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut unfinished = tokio::net::TcpStream::connect(&address).await.unwrap();
    unfinished.write_all(b"POST / HT").await.unwrap();
    client.list_streams().send().await.unwrap();
    server.shutdown().await;
}
