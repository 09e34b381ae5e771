//! `examples/iam/consumer-policy.json` allows what the consumer calls, table by table, and nothing
//! else.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{APPLICATION, STREAM, TABLE, World, until};
use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::types::ScalingType;
use kinesis_consumer::{
    Batch, Checkpointer, Config, InitialPosition, ProcessorError, RecordProcessor, Worker,
};
use test_support::{aws, eventually, policy};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The consumer's, so that its calls are told from the test's own.
const KEY: &str = "AKIDCONSUMER";

struct Checkpoints;

impl RecordProcessor for Checkpoints {
    async fn process_records(
        &mut self,
        _: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_policy_is_what_the_consumer_calls() {
    let world = World::tutorial(1).await;
    world.rejects_table("rejects").await;
    let consumer = world
        .consumer("pod-1")
        .with("AWS_ACCESS_KEY_ID", KEY)
        .with("REJECTS_TABLE", "rejects")
        .start();
    world.put("bad", "no JSON").await;
    world.put("good", "{}").await;
    world.user_when("good", |_| true).await;
    consumer.stop().await;

    // Finished leases go after twelve failover times, which the library takes shorter ones for than
    // the consumer.
    reshard_until_a_finished_lease_goes(&world).await;

    let names = [
        ("kinesis-keda-demo", STREAM),
        ("users", TABLE),
        ("users-rejects", "rejects"),
        ("kinesis-keda-demo-consumer", APPLICATION),
        (
            "kinesis-keda-demo-consumer-CoordinatorState",
            "demo-app-CoordinatorState",
        ),
    ];
    assert_eq!(
        needed(&world),
        policy::allowed("consumer-policy.json", &names)
    );
}

/// Calls about a consumer count for its stream here, which the embedded service tells them by.
#[tokio::test]
async fn the_policy_of_fan_out_is_what_the_consumer_calls_besides() {
    let world = World::tutorial(1).await;
    let consumer = world
        .consumer("pod-1")
        .with("AWS_ACCESS_KEY_ID", KEY)
        .with("RETRIEVAL", "fanout")
        .start();
    world.put("good", "{}").await;
    world.user_when("good", |_| true).await;
    consumer.stop().await;
    let consumer = "kinesis-keda-demo/consumer/kinesis-keda-demo-consumer:*";
    let names = [("kinesis-keda-demo", STREAM), (consumer, STREAM)];
    let allowed = policy::allowed("consumer-fan-out-policy.json", &names);
    let needed = needed(&world);
    let of_stream = |(action, _): &&policy::Permission| action.starts_with("kinesis:");
    let polling = ["ListShards", "GetShardIterator", "GetRecords"];
    let polling = polling.map(|action| (format!("kinesis:{action}"), format!("stream/{STREAM}")));
    let besides: BTreeSet<_> = needed
        .iter()
        .filter(of_stream)
        .filter(|needed| !polling.contains(needed))
        .cloned()
        .collect();
    assert_eq!(besides, allowed);
}

/// A leader of KCL 3.0 to 3.4 looks for workers in a table of their own.
#[tokio::test]
async fn the_policy_of_kcl_3_is_what_the_consumer_calls_besides() {
    let world = World::tutorial(1).await;
    let (state, workers) = ("demo-app-CoordinatorState", "demo-app-WorkerMetricStats");
    for (table, key) in [(state, "key"), (workers, "wid")] {
        let keys = [(key, KeyType::Hash, ScalarAttributeType::S)];
        world.table(table, &keys).await;
    }
    let led = world.dynamodb.client.put_item().table_name(state);
    let led = led.item("key", AttributeValue::S("Migration3.0".to_owned()));
    let led = led.item("cv", AttributeValue::S("CLIENT_VERSION_3X".to_owned()));
    led.send().await.unwrap();
    let consumer = world
        .consumer("pod-1")
        .with("AWS_ACCESS_KEY_ID", KEY)
        .start();
    until("its report", async || world.items(workers).await.pop()).await;
    consumer.stop().await;
    let left = world.items(workers).await;
    assert!(left.is_empty(), "who stops is given nothing more: {left:?}");
    let names = [("kinesis-keda-demo-consumer-WorkerMetricStats", workers)];
    let allowed = policy::allowed("consumer-kcl3-policy.json", &names);
    let of_it = |(_, resource): &policy::Permission| resource.ends_with(workers);
    let besides: BTreeSet<_> = needed(&world).into_iter().filter(of_it).collect();
    assert_eq!(besides, allowed);
}

/// By a pattern, one stream of that name and by another.
#[tokio::test]
async fn the_policy_of_streams_is_what_the_consumer_calls_besides() {
    let world = World::tutorial(1).await;
    let account = world.embedded.stream_arn(STREAM);
    let consumer = world
        .consumer("pod-1")
        .with("AWS_ACCESS_KEY_ID", KEY)
        .without("STREAM_NAME");
    world.put("good", "{}").await;
    let by_pattern = consumer.clone().with("STREAMS", "ord*").start();
    world.user_when("good", |_| true).await;
    by_pattern.stop().await;
    let by_name = consumer.with("STREAMS", &account).start();
    by_name.consuming().await;
    by_name.stop().await;
    let mut called = needed(&world);
    called.retain(|(action, _)| action.starts_with("kinesis:"));
    let names = [("kinesis-keda-demo-*", STREAM)];
    assert_eq!(
        called,
        policy::allowed("consumer-streams-policy.json", &names)
    );
}

fn needed(world: &World) -> BTreeSet<policy::Permission> {
    let tables = world.dynamodb.called_by(KEY);
    policy::needed(&world.embedded.calls(), tables, KEY)
}

async fn reshard_until_a_finished_lease_goes(world: &World) {
    let aws = |endpoint: &str| {
        let config = aws::config(endpoint).into_builder();
        config.credentials_provider(aws::credentials(KEY)).build()
    };
    let mut config = Config::new(STREAM, APPLICATION, "pod-2");
    config.initial_position = InitialPosition::TrimHorizon;
    // Short, but so that a busy machine still renews in time.
    config.failover_time = Some(Duration::from_secs(1));
    config.scan_interval = Some(Duration::from_millis(200));
    config.shard_sync_interval = Some(Duration::from_millis(200));
    config.parent_poll_interval = Duration::from_millis(50);
    config.idle_between_reads = Some(Duration::from_millis(50));
    let worker = Worker::new(
        config,
        aws_sdk_kinesis::Client::new(&aws(&world.embedded.endpoint())),
        aws_sdk_dynamodb::Client::new(&aws(&world.dynamodb.endpoint())),
        |_| Checkpoints,
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
    let reshard = world.kinesis.update_shard_count().stream_name(STREAM);
    let reshard = reshard
        .target_shard_count(2)
        .scaling_type(ScalingType::UniformScaling);
    reshard.send().await.unwrap();
    // Children get going by a record each, wherever its key falls.
    let records = async {
        for n in 0.. {
            world.put(&n.to_string(), "{}").await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    let deleted = world.dynamodb.wait_for_calls("DeleteItem", 1);
    tokio::select! {
        () = eventually("a finished lease to go", deleted) => {}
        () = records => {}
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}
