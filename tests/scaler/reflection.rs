//! grpcurl works without a proto file.

use crate::support::{self, Stack};
use futures::stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Asks one question over a new stream; `v1` and `v1alpha` have the same messages under different
/// types.
macro_rules! ask {
    ($version:ident, $channel:expr, $request:ident($text:expr)) => {{
        use tonic_reflection::pb::$version as pb;
        let mut client = pb::server_reflection_client::ServerReflectionClient::new($channel);
        let request = pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(pb::server_reflection_request::MessageRequest::$request(
                $text.to_owned(),
            )),
        };
        let answers = client
            .server_reflection_info(stream::iter([request]))
            .await
            .unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        format!("{:?}", answer.message_response.unwrap())
    }};
}

#[tokio::test]
async fn services_are_listed_and_described() {
    let stack = Stack::start().await;
    let channel = support::channel(stack.address).await;
    let listed = [
        ask!(v1, channel.clone(), ListServices("")),
        ask!(v1alpha, channel.clone(), ListServices("")),
    ];
    for services in listed {
        for service in [
            "externalscaler.ExternalScaler",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ] {
            assert!(
                services.contains(service),
                "{service} is missing in {services}"
            );
        }
    }
    let described = [
        ask!(
            v1,
            channel.clone(),
            FileContainingSymbol("externalscaler.ExternalScaler")
        ),
        ask!(
            v1alpha,
            channel.clone(),
            FileContainingSymbol("externalscaler.GetMetricsRequest")
        ),
        ask!(v1, channel, FileByFilename("externalscaler.proto")),
    ];
    for file in described {
        assert!(file.contains("FileDescriptorResponse"), "{file}");
    }
}

#[tokio::test]
async fn what_is_asked_and_not_read_is_bounded() {
    use tonic_reflection::pb::v1 as pb;
    const STREAMS: usize = 100;
    let stack = Stack::start().await;
    let channel = support::channel(stack.address).await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..STREAMS {
        let (asks, asked) = mpsc::channel(1);
        let asked = ReceiverStream::new(asked);
        let channel = channel.clone();
        let mut client = pb::server_reflection_client::ServerReflectionClient::new(channel);
        match client.server_reflection_info(asked).await {
            Ok(answers) => open.push((asks, answers)),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                refused += 1;
            }
        }
    }
    // Of 16 MiB each takes what it may hold.
    assert_eq!((open.len(), refused), (34, STREAMS - 34));
    drop(open);
    let listed = async {
        loop {
            let channel = channel.clone();
            let mut client = pb::server_reflection_client::ServerReflectionClient::new(channel);
            let answer = client.server_reflection_info(stream::empty()).await;
            if answer.is_ok() {
                return;
            }
        }
    };
    support::eventually("the streams of before to be gone", listed).await;
}
