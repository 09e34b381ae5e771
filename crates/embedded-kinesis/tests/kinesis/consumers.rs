//! Consumers for enhanced fan-out.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::Consumer;

use crate::support::*;
use embedded_kinesis::{Config, EmbeddedKinesis};

async fn started(config: Config) -> (EmbeddedKinesis, Client, String) {
    let (server, client) = server_with(config).await;
    create(&client, "s", 1).await;
    let arn = server.stream_arn("s");
    (server, client, arn)
}

async fn names(client: &Client, arn: &str) -> Vec<String> {
    let list = client.list_stream_consumers().stream_arn(arn).send().await;
    let list = list.unwrap();
    let names = list.consumers().iter().map(Consumer::consumer_name);
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn registered_described_listed_and_deregistered() {
    let (_server, client, arn) = started(Config::default()).await;
    let registered = register(&client, &arn, "app").await;
    assert_eq!(registered.consumer_status().as_str(), "ACTIVE");
    let consumer = registered.consumer_arn();
    let named = format!("{arn}/consumer/app:");
    let second: i64 = consumer.strip_prefix(&named).unwrap().parse().unwrap();
    assert_eq!(registered.consumer_creation_timestamp().secs(), second);

    let describe = || client.describe_stream_consumer();
    let by_name = describe().stream_arn(&arn).consumer_name("app");
    let by_arn = describe().consumer_arn(consumer);
    let by_both = by_name.clone().consumer_arn(consumer);
    for call in [by_name.clone(), by_arn, by_both] {
        let answer = call.send().await.unwrap();
        let described = answer.consumer_description().unwrap();
        assert_eq!(described.consumer_name(), "app");
        assert_eq!(described.consumer_arn(), consumer);
        assert_eq!(described.stream_arn(), arn);
    }
    let other = describe().consumer_arn(consumer).consumer_name("other");
    assert_eq!(code(other.send().await), "InvalidArgumentException");
    let half = describe().consumer_name("app");
    assert_eq!(code(half.send().await), "InvalidArgumentException");

    let again = client.register_stream_consumer().stream_arn(&arn);
    let again = again.consumer_name("app").send().await;
    assert_eq!(code(again), "ResourceInUseException");
    register(&client, &arn, "aaa").await;
    assert_eq!(names(&client, &arn).await, ["aaa", "app"]);
    let summary = client.describe_stream_summary().stream_name("s");
    let summary = summary.send().await.unwrap();
    let count = summary
        .stream_description_summary()
        .unwrap()
        .consumer_count();
    assert_eq!(count, Some(2));

    let gone = client.deregister_stream_consumer().consumer_arn(consumer);
    gone.clone().send().await.unwrap();
    assert_eq!(code(gone.send().await), "ResourceNotFoundException");
    assert_eq!(code(by_name.send().await), "ResourceNotFoundException");
    let anew = register(&client, &arn, "app").await;
    assert_ne!(anew.consumer_arn(), consumer, "an ARN is not used twice");
}

#[tokio::test]
async fn a_new_consumer_is_creating_for_a_while() {
    let config = Config {
        consumer_creating: Duration::from_secs(10),
        consumer_deleting: Duration::from_secs(10),
        ..Config::default()
    };
    let (server, client, arn) = started(config).await;
    let consumer = register(&client, &arn, "app").await;
    assert_eq!(consumer.consumer_status().as_str(), "CREATING");
    let consumer = consumer.consumer_arn();
    let refused = subscribe(&client, consumer, latest()).await;
    assert_eq!(code(refused), "ResourceInUseException");
    let status = async || {
        let call = client.describe_stream_consumer().consumer_arn(consumer);
        let answer = call.send().await.unwrap();
        let status = answer.consumer_description().unwrap().consumer_status();
        status.as_str().to_owned()
    };
    assert_eq!(status().await, "CREATING");
    server.advance(Duration::from_secs(10));
    assert_eq!(status().await, "ACTIVE");
    subscribe(&client, consumer, latest()).await.unwrap();

    let gone = client.deregister_stream_consumer().consumer_arn(consumer);
    gone.send().await.unwrap();
    assert_eq!(status().await, "DELETING");
    server.advance(Duration::from_secs(10));
    assert!(names(&client, &arn).await.is_empty());
}

#[tokio::test]
async fn a_stream_has_so_many_consumers() {
    let (server, client, arn) = started(Config::default()).await;
    for i in 0..20 {
        register(&client, &arn, &format!("app-{i:02}")).await;
    }
    let register = || client.register_stream_consumer().stream_arn(&arn);
    let beyond = register().consumer_name("beyond");
    assert_eq!(code(beyond.clone().send().await), "LimitExceededException");
    let list = || client.list_stream_consumers().stream_arn(&arn);
    let first = list().max_results(15).send().await.unwrap();
    assert_eq!(first.consumers().len(), 15);
    let rest = list().next_token(first.next_token().unwrap());
    let rest = rest.send().await.unwrap();
    assert_eq!((rest.consumers().len(), rest.next_token()), (5, None));
    assert_eq!(rest.consumers()[0].consumer_name(), "app-15");

    server.configure(|config| {
        config.consumer_limit = 50;
        config.consumer_creating = Duration::from_secs(10);
    });
    for i in 0..5 {
        let call = register().consumer_name(format!("creating-{i}"));
        call.send().await.unwrap();
    }
    assert_eq!(code(beyond.send().await), "LimitExceededException");
}

#[tokio::test]
async fn what_is_not_there_or_cannot_be() {
    let (server, client, arn) = started(Config::default()).await;
    let nowhere = client.register_stream_consumer().consumer_name("app");
    let nowhere = nowhere.stream_arn(server.stream_arn("nope")).send().await;
    assert_eq!(code(nowhere), "ResourceNotFoundException");
    let bad = client.register_stream_consumer().stream_arn(&arn);
    let bad = bad.consumer_name("a b").send().await;
    assert_eq!(code(bad), "ValidationException");
    for consumer in [&format!("{arn}/consumer/nope:1"), "arn:aws:s3:::x"] {
        let refused = code(subscribe(&client, consumer, latest()).await);
        let wanted = match consumer.starts_with(&arn) {
            true => "ResourceNotFoundException",
            false => "ValidationException",
        };
        assert_eq!(refused, wanted);
    }
}
