//! What AWS is asked depends on the streams alone, not on how many ask the scaler.

use std::{collections::HashMap, time::Duration};

use crate::support::{
    self, Process, Stack, eventually, never_again, value, wait_for_value, world::Application,
};
use embedded_kinesis::{EmbeddedKinesis, FOREVER, Fault};
use futures::future::join_all;
use tonic::Code;

const DESCRIBE: &str = "DescribeStreamSummary";

#[tokio::test]
async fn hundreds_of_askers_and_push_streams_cost_one_call_a_stream() {
    let stack = Stack::with(never_again).await;
    let names = ["a", "b", "c"];
    for name in names {
        stack.create_stream(name, 2).await;
    }
    let client = stack.client().await;
    let mut pushed = Vec::new();
    for number in 0..300 {
        let shards = (number % 5 + 1).to_string();
        let object = stack.object(names[number % 3], &[("shardCount", &shards)]);
        let mut client = client.clone();
        let mut states = client.stream_is_active(object).await.unwrap().into_inner();
        assert!(states.message().await.unwrap().unwrap().result);
        pushed.push(states);
    }
    let asked = (0..300).map(|number| {
        let shards = (number % 5 + 1).to_string();
        let object = stack.object(names[number % 3], &[("shardCount", &shards)]);
        let mut client = client.clone();
        async move {
            for _ in 0..3 {
                assert_eq!(value(&mut client, &object).await.unwrap(), 2.0);
                assert!(
                    client
                        .is_active(object.clone())
                        .await
                        .unwrap()
                        .into_inner()
                        .result
                );
            }
        }
    });
    eventually("all answers", join_all(asked)).await;
    let described = stack.kinesis.calls();
    let described: Vec<_> = described
        .iter()
        .filter(|call| call.operation == DESCRIBE)
        .collect();
    assert_eq!(described.len(), 3, "{described:?}");
    assert_eq!(stack.kinesis.count("ListShards"), 0);
}

#[tokio::test]
async fn a_spent_budget_is_made_up_for_by_list_shards() {
    let stack = Stack::with(|config, tuning| {
        never_again(config, tuning);
        config.aws.calls_per_second = 1;
    })
    .await;
    let mut client = stack.client().await;
    for number in 1..=20 {
        let name = format!("s{number}");
        stack.create_stream(&name, number).await;
        let object = stack.object(&name, &[]);
        assert_eq!(
            value(&mut client, &object).await.unwrap(),
            f64::from(number)
        );
    }
    assert!(stack.kinesis.count("ListShards") >= 10);
    assert_eq!(
        stack.kinesis.count("ListShards") + stack.kinesis.count(DESCRIBE),
        20
    );
}

#[tokio::test]
async fn one_stream_that_may_not_be_listed_leaves_the_way_open_to_others() {
    let stack = Stack::start().await;
    let faults = stack.kinesis.faults();
    faults.inject(DESCRIBE, Fault::throttling(), FOREVER);
    faults.inject_on("secret", "ListShards", Fault::access_denied(), FOREVER);
    stack.create_stream("secret", 1).await;
    stack.create_stream("orders", 4).await;
    let mut client = stack.client().await;
    let secret = stack.object("secret", &[]);
    let status = value(&mut client, &secret).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let orders = stack.object("orders", &[]);
    assert_eq!(value(&mut client, &orders).await.unwrap(), 4.0);
}

#[tokio::test]
async fn the_permission_that_is_missing_is_named_once_with_what_to_grant() {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    let faults = kinesis.faults();
    faults.inject("ListShards", Fault::access_denied(), FOREVER);
    let config = "
        aws: {callsPerSecond: 1, refresh: 500ms}
        policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]
    ";
    let env = [
        ("AWS_ACCESS_KEY_ID", "AKIDSCALER"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", support::REGION),
    ];
    let scaler = Process::start(config, &env).await;
    let mut client = scaler.client().await;
    for name in ["a", "b", "c", "d"] {
        support::create_stream(&support::aws(&kinesis), name, 2).await;
        let endpoint = kinesis.endpoint();
        let pairs = [("streamName", name), ("awsEndpoint", &endpoint)];
        let object = support::object(support::metadata(&pairs));
        wait_for_value(&mut client, &object, 2.0).await;
    }
    // None of them finds a call left at each of its refreshes.
    let all = |text: &str| text.contains("keda_kinesis_scaler_unlisted_streams 4\n");
    support::scraped(scaler.admin, "four streams", all).await;
    let log = scaler.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("kinesis:ListShards"));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("arn:aws:kinesis:us-east-1:"), "{lines:?}");
}

/// More than may be under way for one identity.
#[tokio::test]
async fn a_dynamodb_that_does_not_answer_holds_no_kinesis_up() {
    const APPLICATIONS: u64 = 70;
    let stack = Stack::with(|config, _| config.aws.timeout = Duration::from_secs(300)).await;
    let dynamodb = support::DynamoDb::start().await;
    dynamodb.faults().inject("Scan", Fault::Hang, FOREVER);
    let endpoint = dynamodb.endpoint();
    let client = stack.client().await;
    let asking = (0..APPLICATIONS).map(|number| {
        let name = format!("application-{number}");
        let object = stack.object(
            "orders",
            &[
                ("scaleOn", "readableShards"),
                ("applicationName", &name),
                ("leaseTableEndpoint", &endpoint),
            ],
        );
        let mut client = client.clone();
        async move { client.is_active(object).await.unwrap_err() }
    });
    // Each of them gets no answer; their watchers go on asking.
    eventually("no answers", join_all(asking)).await;
    eventually("scans", dynamodb.wait_for_calls("Scan", 64)).await;

    stack.create_stream("orders", 3).await;
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client.clone(), &object, 3.0).await;
}

#[tokio::test]
async fn one_application_whose_table_does_not_answer_holds_no_other_up() {
    let application = Application::start(2).await;
    let worker = application.run("one", 0);
    application.leases(2).await;
    let client = application.stack.client().await;
    let dynamodb = &application.dynamodb;
    let hanging = ("applicationName", "hanging");
    dynamodb
        .faults()
        .inject_on("hanging", "Scan", Fault::Hang, FOREVER);
    // Both kinds of source of one application, asked all along.
    let hangs = ["readableShards", "lag"].map(|scale_on| application.trigger(scale_on, &[hanging]));
    for object in &hangs {
        client.clone().is_active(object.clone()).await.unwrap_err();
    }
    let answers = application.trigger("readableShards", &[]);
    wait_for_value(&mut client.clone(), &answers, 2.0).await;
    let scans = |table: &str| {
        let tallies = dynamodb.tallies_on(table);
        let scans = tallies.iter().find(|(operation, _)| operation == "Scan");
        scans.map_or(0, |(_, tally)| tally.calls)
    };
    let before = scans("billing");
    let fresh = async {
        while scans("billing") < before + 20 {
            assert_eq!(value(&mut client.clone(), &answers).await.unwrap(), 2.0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("twenty refreshes", fresh).await;
    assert!(scans("hanging") > 0);
    worker.stop().await;
}

#[tokio::test]
async fn list_shards_counts_open_shards_only() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 4).await;
    stack.update_shard_count("orders", 2).await;
    stack
        .kinesis
        .faults()
        .inject(DESCRIBE, Fault::throttling(), FOREVER);
    let object = stack.object("orders", &[]);
    assert_eq!(
        value(&mut stack.client().await, &object).await.unwrap(),
        2.0
    );
    assert!(stack.kinesis.count("ListShards") >= 1);
}

#[tokio::test]
async fn a_list_without_shards_is_no_zero() {
    let stack = Stack::start().await;
    stack.create_stream("orders", 4).await;
    stack
        .kinesis
        .faults()
        .inject(DESCRIBE, Fault::throttling(), FOREVER);
    stack
        .kinesis
        .faults()
        .inject("ListShards", Fault::EmptyJson, FOREVER);
    let object = stack.object("orders", &[]);
    let status = value(&mut stack.client().await, &object).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{}", status.message());
}

#[tokio::test]
async fn throttling_is_not_retried_on_the_spot() {
    let stack = Stack::with(never_again).await;
    stack.create_stream("orders", 4).await;
    stack
        .kinesis
        .faults()
        .inject(DESCRIBE, Fault::throttling(), 1);
    stack
        .kinesis
        .faults()
        .inject("ListShards", Fault::access_denied(), 1);
    let object = stack.object("orders", &[]);
    let status = value(&mut stack.client().await, &object).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(stack.kinesis.count(DESCRIBE), 1);
}

#[tokio::test]
async fn a_thousand_cold_streams_are_asked_about_in_their_order() {
    const STREAMS: usize = 1_000;
    let stack = Stack::with(|config, tuning| {
        never_again(config, tuning);
        config.aws.calls_per_second = 400;
    })
    .await;
    stack
        .kinesis
        .configure(|config| config.shard_limit = 2 * STREAMS);
    let create = (0..STREAMS).map(|number| {
        stack
            .aws
            .create_stream()
            .stream_name(format!("s{number}"))
            .shard_count(1)
            .send()
    });
    for created in join_all(create).await {
        created.unwrap();
    }
    // Listing is not allowed, and that is known.
    stack.create_stream("first", 1).await;
    stack
        .kinesis
        .faults()
        .inject(DESCRIBE, Fault::throttling(), 1);
    stack
        .kinesis
        .faults()
        .inject("ListShards", Fault::access_denied(), 1);
    let mut client = stack.client().await;
    let status = value(&mut client, &stack.object("first", &[]))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    stack.kinesis.clear_calls();

    let mut open = Vec::new();
    for number in 0..STREAMS {
        let object = stack.object(&format!("s{number}"), &[]);
        open.push(client.stream_is_active(object).await.unwrap().into_inner());
    }
    for states in &mut open {
        let state = eventually("the first state", states.message()).await;
        assert!(state.unwrap().unwrap().result);
    }
    let asked: Vec<usize> = stack
        .kinesis
        .calls()
        .iter()
        .filter(|call| call.operation == DESCRIBE)
        .filter_map(|call| call.stream.as_ref()?.strip_prefix('s')?.parse().ok())
        .collect();
    assert_eq!(asked.len(), STREAMS);
    assert_eq!(stack.kinesis.count("ListShards"), 0);
    // Calls under way at the same time may overtake each other, and only those.
    for (place, number) in asked.iter().enumerate() {
        assert!(
            place.abs_diff(*number) < 200,
            "stream {number} was asked about as number {place}"
        );
    }
}

#[tokio::test]
async fn one_tenants_answer_is_never_given_to_another_role() {
    let kinesis = embedded_kinesis::EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    let endpoint = kinesis.endpoint();
    let aws = support::aws(&kinesis);
    support::create_stream(&aws, "orders", 3).await;
    let config = "
        aws: {refresh: 50ms, timeout: 2s, callsPerSecond: 1000}
        policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*'], roles: ['*']}]
    ";
    let process = Process::start(
        config,
        &[
            ("AWS_ACCESS_KEY_ID", "AKIDOWN"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", support::REGION),
            ("AWS_ENDPOINT_URL_STS", &endpoint),
        ],
    )
    .await;
    let mut client = process.client().await;
    let object = |more: &[(&str, &str)]| {
        let mut all = vec![("streamName", "orders"), ("awsEndpoint", endpoint.as_str())];
        all.extend_from_slice(more);
        support::object(support::metadata(&all))
    };
    let own = object(&[]);
    wait_for_value(&mut client, &own, 3.0).await;

    let other_account = "arn:aws:iam::444455556666:role/other";
    let same_account = "arn:aws:iam::111122223333:role/same";
    let other = object(&[("awsRoleArn", other_account), ("awsExternalId", "x-1")]);
    let status = support::wait_for_code(&mut client, &other, Code::NotFound).await;
    assert!(status.message().contains("orders"), "{}", status.message());
    let same = object(&[("awsRoleArn", same_account)]);
    wait_for_value(&mut client, &same, 3.0).await;
    wait_for_value(&mut client, &own, 3.0).await;

    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    for call in kinesis.calls() {
        if call.operation == DESCRIBE {
            keys.entry(call.account)
                .or_default()
                .push(call.access_key_id);
        }
    }
    assert_eq!(keys.len(), 2, "two accounts were asked: {keys:?}");
    assert!(keys["444455556666"].iter().all(|key| key != "AKIDOWN"));
    let assumed: Vec<_> = kinesis.calls();
    let assumed = assumed
        .iter()
        .find(|call| call.role_arn.as_deref() == Some(other_account));
    assert_eq!(assumed.unwrap().external_id.as_deref(), Some("x-1"));
}
