//! Streams through the real SDK: making, describing, listing, deleting; regions, accounts, ARNs.

use std::time::Duration;

use crate::support::*;
use aws_sdk_kinesis::types::{StreamMode, StreamModeDetails};
use embedded_kinesis::Config;

#[tokio::test]
async fn a_stream_from_creating_to_gone() {
    let hour = Duration::from_secs(3600);
    let (server, client) = server_with(Config {
        creating: hour,
        deleting: hour,
        ..Config::default()
    })
    .await;
    create(&client, "s", 2).await;
    assert_eq!(status(&client, "s").await, "CREATING");
    assert_eq!(open_shards(&client, "s").await, 0);
    let put = client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .data(b"x".to_vec().into());
    assert_eq!(code(put.send().await), "ResourceNotFoundException");
    assert_eq!(
        code(client.list_shards().stream_name("s").send().await),
        "ResourceInUseException"
    );

    server.advance(hour);
    assert_eq!(status(&client, "s").await, "ACTIVE");
    assert_eq!(open_shards(&client, "s").await, 2);
    let again = client
        .create_stream()
        .stream_name("s")
        .shard_count(1)
        .send()
        .await;
    let (code_, message) = refusal(again);
    assert_eq!(
        (code_.as_str(), message.as_str()),
        (
            "ResourceInUseException",
            "Stream s under account 111122223333 already exists."
        )
    );

    client
        .delete_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    assert_eq!(status(&client, "s").await, "DELETING");
    server.advance(hour);
    let (code, message) = refusal(
        client
            .describe_stream_summary()
            .stream_name("s")
            .send()
            .await,
    );
    assert_eq!(
        (code.as_str(), message.as_str()),
        (
            "ResourceNotFoundException",
            "Stream s under account 111122223333 not found."
        )
    );
    assert!(
        client
            .list_streams()
            .send()
            .await
            .unwrap()
            .stream_names()
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_said_of_a_stream() {
    let (server, client) = server().await;
    let call = client
        .create_stream()
        .stream_name("s")
        .shard_count(3)
        .max_record_size_in_kib(4096);
    call.send().await.unwrap();
    let answer = client
        .describe_stream_summary()
        .stream_arn(server.stream_arn("s"))
        .send()
        .await
        .unwrap();
    let summary = answer.stream_description_summary().unwrap();
    assert_eq!(summary.stream_name(), "s");
    assert_eq!(
        summary.stream_arn(),
        "arn:aws:kinesis:us-east-1:111122223333:stream/s"
    );
    assert_eq!(summary.open_shard_count(), 3);
    assert_eq!(summary.retention_period_hours(), 24);
    assert_eq!(summary.max_record_size_in_kib(), Some(4096));
    assert_eq!(
        summary.stream_mode_details().unwrap().stream_mode(),
        &StreamMode::Provisioned
    );
    assert!(summary.stream_creation_timestamp().secs() > 1_700_000_000);

    let answer = client
        .describe_stream()
        .stream_name("s")
        .limit(2)
        .send()
        .await
        .unwrap();
    let description = answer.stream_description().unwrap();
    assert_eq!(numbers(description.shards()), [0, 1]);
    assert!(description.has_more_shards());
    let rest = client
        .describe_stream()
        .stream_name("s")
        .exclusive_start_shard_id("shardId-000000000001");
    let rest = rest.send().await.unwrap();
    assert_eq!(numbers(rest.stream_description().unwrap().shards()), [2]);

    client
        .increase_stream_retention_period()
        .stream_name("s")
        .retention_period_hours(48)
        .send()
        .await
        .unwrap();
    client
        .update_max_record_size()
        .stream_arn(server.stream_arn("s"))
        .max_record_size_in_kib(10_240)
        .send()
        .await
        .unwrap();
    let answer = client
        .describe_stream_summary()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    let summary = answer.stream_description_summary().unwrap();
    assert_eq!(
        (
            summary.retention_period_hours(),
            summary.max_record_size_in_kib()
        ),
        (48, Some(10_240))
    );
    let longer = client
        .decrease_stream_retention_period()
        .stream_name("s")
        .retention_period_hours(72)
        .send()
        .await;
    assert_eq!(code(longer), "InvalidArgumentException");
}

#[tokio::test]
async fn on_demand_streams_are_not_resharded_by_hand() {
    let (_server, client) = server().await;
    let on_demand = StreamModeDetails::builder()
        .stream_mode(StreamMode::OnDemand)
        .build()
        .unwrap();
    client
        .create_stream()
        .stream_name("s")
        .stream_mode_details(on_demand.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(open_shards(&client, "s").await, 4);
    let resize = client
        .update_shard_count()
        .stream_name("s")
        .target_shard_count(5);
    let resize = resize
        .scaling_type(aws_sdk_kinesis::types::ScalingType::UniformScaling)
        .send()
        .await;
    assert_eq!(code(resize), "ValidationException");
    let both = client
        .create_stream()
        .stream_name("t")
        .shard_count(1)
        .stream_mode_details(on_demand)
        .send()
        .await;
    assert_eq!(code(both), "ValidationException");
    assert_eq!(
        code(client.create_stream().stream_name("t").send().await),
        "ValidationException"
    );
}

#[tokio::test]
async fn regions_and_accounts_are_apart() {
    let config = Config {
        access_keys: vec![("AKIDOTHER".into(), "444455556666".into())],
        ..Config::default()
    };
    let (server, here) = server_with(config).await;
    let there = client(&server.endpoint(), "eu-west-1", credentials("AKIDEMBEDDED"));
    let china = client(
        &server.endpoint(),
        "cn-north-1",
        credentials("AKIDEMBEDDED"),
    );
    let other = client(&server.endpoint(), REGION, credentials("AKIDOTHER"));
    create(&here, "s", 1).await;
    create(&there, "s", 2).await;
    create(&other, "s", 3).await;
    create(&china, "s", 4).await;
    assert_eq!(open_shards(&here, "s").await, 1);
    assert_eq!(open_shards(&there, "s").await, 2);
    assert_eq!(open_shards(&other, "s").await, 3);

    let arn = |answer: aws_sdk_kinesis::operation::list_streams::ListStreamsOutput| {
        answer.stream_summaries()[0].stream_arn().to_owned()
    };
    assert_eq!(
        arn(there.list_streams().send().await.unwrap()),
        "arn:aws:kinesis:eu-west-1:111122223333:stream/s"
    );
    assert_eq!(
        arn(other.list_streams().send().await.unwrap()),
        "arn:aws:kinesis:us-east-1:444455556666:stream/s"
    );
    assert_eq!(
        arn(china.list_streams().send().await.unwrap()),
        "arn:aws-cn:kinesis:cn-north-1:111122223333:stream/s"
    );

    let described = |arn: &str| here.describe_stream_summary().stream_arn(arn).send();
    let foreign = described("arn:aws:kinesis:us-east-1:444455556666:stream/s").await;
    assert_eq!(code(foreign), "AccessDeniedException");
    let elsewhere = described("arn:aws:kinesis:eu-west-1:111122223333:stream/s").await;
    assert_eq!(code(elsewhere), "ResourceNotFoundException");
    assert_eq!(
        code(described("arn:aws:dynamodb:us-east-1:111122223333:table/s").await),
        "ValidationException"
    );
    let both = here
        .describe_stream_summary()
        .stream_arn(server.stream_arn("s"));
    both.clone().stream_name("s").send().await.unwrap();
    assert_eq!(
        code(both.stream_name("t").send().await),
        "InvalidArgumentException"
    );
    assert_eq!(
        code(here.describe_stream_summary().send().await),
        "InvalidArgumentException"
    );

    let call = server
        .calls()
        .into_iter()
        .find(|call| call.region == "eu-west-1")
        .unwrap();
    assert_eq!(
        (
            call.operation.as_str(),
            call.access_key_id.as_str(),
            call.stream.as_deref()
        ),
        ("CreateStream", "AKIDEMBEDDED", Some("s"))
    );
}

#[tokio::test]
async fn lists_of_streams_have_pages() {
    let (_server, client) = server().await;
    for name in ["b", "a", "c"] {
        create(&client, name, 1).await;
    }
    let first = client.list_streams().limit(2).send().await.unwrap();
    assert_eq!(first.stream_names(), ["a", "b"]);
    assert!(first.has_more_streams());
    let second = client
        .list_streams()
        .next_token(first.next_token().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(second.stream_names(), ["c"]);
    assert!(!second.has_more_streams());
    let after = client
        .list_streams()
        .exclusive_start_stream_name("a")
        .send()
        .await
        .unwrap();
    assert_eq!(after.stream_names(), ["b", "c"]);
}

#[tokio::test]
async fn wrong_values_are_named() {
    let (_server, client) = server().await;
    let (code_, message) = refusal(
        client
            .describe_stream_summary()
            .stream_name("a b")
            .send()
            .await,
    );
    assert_eq!(code_, "ValidationException");
    assert_eq!(
        message,
        "1 validation error detected: Value 'a b' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
    );
    let long = "x".repeat(129);
    assert_eq!(
        code(
            client
                .create_stream()
                .stream_name(&long)
                .shard_count(1)
                .send()
                .await
        ),
        "ValidationException"
    );
    assert_eq!(
        code(
            client
                .create_stream()
                .stream_name("s")
                .shard_count(0)
                .send()
                .await
        ),
        "ValidationException"
    );
    let (code, message) = refusal(
        client
            .create_stream()
            .stream_name("s")
            .shard_count(501)
            .send()
            .await,
    );
    assert_eq!(code, "LimitExceededException");
    assert!(
        message.starts_with(
            "This request would exceed the shard limit for the account 111122223333 in us-east-1."
        ),
        "{message}"
    );
}

#[tokio::test]
async fn the_control_plane_has_rates() {
    let (server, client) = server_with(Config {
        api_limits: true,
        ..Config::default()
    })
    .await;
    server.stop_clock();
    create(&client, "s", 1).await;
    let calls = (0..40).map(|_| client.describe_stream_summary().stream_name("s").send());
    let answers = futures::future::join_all(calls).await;
    let refused = answers
        .into_iter()
        .filter_map(Result::err)
        .collect::<Vec<_>>();
    assert_eq!(refused.len(), 20);
    for error in refused {
        let message = error.as_service_error().unwrap().to_string();
        assert!(
            message.contains("Rate exceeded for account 111122223333."),
            "{message}"
        );
    }
    server.advance(Duration::from_secs(1));
    let elsewhere =
        crate::support::client(&server.endpoint(), "eu-west-1", credentials("AKIDEMBEDDED"));
    create(&elsewhere, "s", 1).await;
    assert_eq!(open_shards(&elsewhere, "s").await, 1);
    assert_eq!(open_shards(&client, "s").await, 1);
}

#[tokio::test]
async fn a_stream_that_is_made_anew_at_once_begins_after_all_that_the_older_had() {
    let (_server, client) = server().await;
    let begins = async || {
        let shards = client.list_shards().stream_name("s").send().await.unwrap();
        let range = shards.shards()[0].sequence_number_range().unwrap().clone();
        range.starting_sequence_number
    };
    create(&client, "s", 1).await;
    let last = put(&client, "a").await;
    for _ in 0..3 {
        let delete = client.delete_stream().stream_name("s");
        delete.send().await.unwrap();
        create(&client, "s", 1).await;
        let begun = begins().await;
        assert!(begun > last, "{begun} {last}");
    }
}
