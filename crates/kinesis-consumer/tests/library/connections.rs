//! One process with 500 shards: the connections that it has to Kinesis and DynamoDB.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use embedded_kinesis::{Config as Services, EmbeddedKinesis};
use kinesis_consumer::{Config, InitialPosition, Worker, each_batch};
use kinesis_edge::{Connection, ConnectionSettings};
use rstest::rstest;
use test_support::{DynamoDb, PATIENCE, Proxy, aws, connections};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

const STREAM: &str = "orders";
const SHARDS: usize = 500;

/// A record for each shard, all at once.
async fn put_to_each_shard(kinesis: &aws_sdk_kinesis::Client) {
    let width = u128::MAX / SHARDS as u128;
    let entries = (0..SHARDS as u128).map(|shard| {
        let entry = PutRecordsRequestEntry::builder()
            .partition_key("key")
            .explicit_hash_key((width * shard + width / 2).to_string())
            .data(Blob::new("data"));
        entry.build().unwrap()
    });
    let put = kinesis.put_records().stream_name(STREAM);
    let answer = put.set_records(Some(entries.collect())).send().await;
    assert_eq!(answer.unwrap().failed_record_count(), Some(0));
}

fn port(proxy: &Proxy) -> u16 {
    let endpoint = proxy.endpoint();
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

/// Looks again and again how many connections there are to these ports, for the most.
async fn count(ports: [u16; 2], most: Arc<AtomicUsize>) {
    let mut looks = interval(Duration::from_millis(200));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let open = connections(None).unwrap();
        let open = open.iter().filter(|port| ports.contains(port)).count();
        most.fetch_max(open, Ordering::Relaxed);
    }
}

#[rstest]
#[case::with_the_default_memory(96 << 20)]
#[case::with_little_memory(1 << 20)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_500_shards_has_no_more_than_64(#[case] memory_bytes: usize) {
    let embedded = EmbeddedKinesis::start(Services::default()).await.unwrap();
    let kinesis = aws::kinesis(&embedded.endpoint());
    let create = kinesis.create_stream().stream_name(STREAM);
    create.shard_count(SHARDS as i32).send().await.unwrap();
    put_to_each_shard(&kinesis).await;
    let dynamodb = DynamoDb::start().await;
    // The tests' own calls go elsewhere.
    let front = Proxy::start(&embedded.endpoint()).await;
    let most = Arc::new(AtomicUsize::new(0));
    let counting = count([port(&front), port(&dynamodb)], Arc::clone(&most));
    let counting = AbortOnDropHandle::new(tokio::spawn(counting));

    let mut config = Config::new(STREAM, "billing", "one");
    config.initial_position = InitialPosition::TrimHorizon;
    config.memory_bytes = memory_bytes;
    // Debug builds are slow, and a lease that is lost has nothing to do with connections.
    config.failover_time = Some(Duration::from_secs(30));
    let aws = Connection::open(ConnectionSettings {
        region: Some(aws::REGION.to_owned()),
        credentials: Some(aws::credentials(aws::ACCESS_KEY)),
        ..ConnectionSettings::default()
    });
    let aws = aws.await;
    let of_kinesis = aws.bounded(config.kinesis_connections());
    let of_dynamodb = aws.bounded(config.dynamodb_connections());
    let (written, mut progress) = watch::channel(0);
    let shards = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&shards);
    let processor = each_batch(move |batch, checkpointer| {
        let (written, seen) = (written.clone(), Arc::clone(&seen));
        async move {
            checkpointer.checkpoint().await?;
            seen.lock().unwrap().insert(checkpointer.lease().clone());
            written.send_modify(|written| *written += batch.records.len());
            Ok(())
        }
    });
    let worker = Worker::new(
        config,
        of_kinesis.kinesis(Some(&front.endpoint())),
        of_dynamodb.dynamodb(Some(&dynamodb.endpoint())),
        processor,
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(stop.clone().cancelled_owned()));

    let mut until = async |records: usize| {
        let enough = progress.wait_for(|written| *written >= records);
        // Thousands of calls, by a debug build, on cores that other tests keep busy.
        timeout(4 * PATIENCE, enough).await.unwrap().unwrap();
    };
    until(SHARDS).await;
    put_to_each_shard(&kinesis).await;
    until(2 * SHARDS).await;
    stop.cancel();
    running.await.unwrap().unwrap();

    assert_eq!(shards.lock().unwrap().len(), SHARDS);
    drop(counting);
    let most = most.load(Ordering::Relaxed);
    assert!((17..=64).contains(&most), "{most}");
}
