//! Enhanced fan-out over the wire: a whole worker with the SDK, and an embedded Kinesis.

use std::{sync::Arc, time::Duration};

use aws_sdk_kinesis::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    primitives::Blob,
};
use embedded_kinesis::{EmbeddedKinesis, FOREVER, Fault, Trouble};
use futures::future::join_all;
use kinesis_consumer::{
    Batch, Checkpointer, Config, Error, FanOut, InitialPosition, KinesisError, Retrieval, Worker,
    each_batch,
    shards::StartFrom,
    test_util::{Kinesis, MemoryTable, SdkKinesis, Subscription},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

const STREAM: &str = "orders";
const SUBSCRIBE: &str = "SubscribeToShard";

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    kinesis: EmbeddedKinesis,
    client: Client,
}

/// A worker, and what it did.
struct Running {
    /// The numbers in its records, in order; events by name.
    seen: watch::Receiver<(Vec<u64>, Vec<String>)>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Error>>,
}

impl Server {
    async fn start(change: impl FnOnce(&mut embedded_kinesis::Config)) -> Self {
        let mut config = embedded_kinesis::Config {
            creating: Duration::ZERO,
            updating: Duration::ZERO,
            ..embedded_kinesis::Config::default()
        };
        change(&mut config);
        let kinesis = EmbeddedKinesis::start(config).await.expect("a server");
        let client = test_support::aws::kinesis(&kinesis.endpoint());
        let create = client.create_stream().stream_name(STREAM).shard_count(1);
        create.send().await.expect("created");
        Self { kinesis, client }
    }

    async fn put(&self, number: u64) {
        let put = self.client.put_record().stream_name(STREAM);
        let put = put
            .partition_key("key")
            .data(Blob::new(number.to_be_bytes()));
        put.send().await.expect("put");
    }

    /// A worker whose client gives up on any answer after three seconds.
    fn work(&self, fan_out: FanOut) -> Running {
        let mut config = Config::new(STREAM, "billing", "a");
        config.initial_position = InitialPosition::TrimHorizon;
        config.retrieval = Retrieval::FanOut(fan_out);
        let most = Duration::from_secs(3);
        let times = TimeoutConfig::builder()
            .read_timeout(most)
            .operation_attempt_timeout(most)
            .operation_timeout(most);
        let client = self
            .client
            .config()
            .to_builder()
            .timeout_config(times.build());
        let client = client.retry_config(RetryConfig::disabled());
        let kinesis = SdkKinesis::new(Client::from_conf(client.build()), STREAM);
        let (tell, seen) = watch::channel(<(Vec<u64>, Vec<String>)>::default());
        let tell = Arc::new(tell);
        let to = Arc::clone(&tell);
        let processor = each_batch(move |batch: Batch, checkpointer: Checkpointer| {
            let to = Arc::clone(&to);
            async move {
                let number = |data: &[u8]| u64::from_be_bytes(data[..8].try_into().unwrap());
                let numbers = batch.records.iter().map(|record| number(&record.data));
                to.send_modify(|(seen, _)| seen.extend(numbers));
                Ok(checkpointer.checkpoint().await?)
            }
        });
        let worker = Worker::over(config, kinesis, MemoryTable::new(), processor);
        let worker = worker.on_event(move |event| {
            tell.send_modify(|(_, events)| events.push(format!("{event:?}")));
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(worker.run(async move {
            let _ = stopped.await;
        }));
        Running { seen, stop, run }
    }
}

impl Running {
    /// Waits until the records up to a number are delivered: all of them, once and in order.
    async fn until_delivered(&mut self, count: u64) {
        let is_there = |seen: &(Vec<u64>, Vec<String>)| seen.0.len() >= count as usize;
        let delivered = timeout(PATIENCE, self.seen.wait_for(is_there)).await;
        let seen = delivered.map(|seen| seen.expect("it runs").clone());
        let seen = seen.unwrap_or_else(|_| self.seen.borrow().clone());
        assert_eq!(seen.0, (0..count).collect::<Vec<_>>(), "{:#?}", seen.1);
    }

    async fn until_told(&mut self, what: &str, times: usize) {
        let is_told = |seen: &(Vec<u64>, Vec<String>)| told(&seen.1, what) >= times;
        let told = timeout(PATIENCE, self.seen.wait_for(is_told));
        let is_told = told.await.is_ok();
        assert!(is_told, "not told {what}: {:#?}", self.seen.borrow());
    }

    fn told(&self, what: &str) -> usize {
        told(&self.seen.borrow().1, what)
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.run.await.expect("no panic").expect("stopped");
    }
}

fn told(events: &[String], what: &str) -> usize {
    events
        .iter()
        .filter(|event| event.starts_with(what))
        .count()
}

fn impatient() -> FanOut {
    let mut fan_out = FanOut::default();
    fan_out.idle_deadline = Duration::from_secs(1);
    fan_out
}

/// The client's time-outs are shorter than the silence between two events, and than a session.
#[tokio::test]
async fn sessions_follow_each_other_and_no_time_out_of_the_client_ends_one() {
    let server = Server::start(|config| {
        config.subscription_life = Duration::from_secs(9);
        config.heartbeat = Duration::from_secs(4);
    })
    .await;
    let mut worker = server.work(FanOut::default());
    worker.until_told("Subscribed", 1).await;
    worker.until_told("Polled", 2).await;
    for number in 0..20 {
        server.put(number).await;
    }
    worker.until_delivered(20).await;
    worker.until_told("Subscribed", 2).await;
    for number in 20..40 {
        server.put(number).await;
        worker.until_delivered(number + 1).await;
    }
    assert_eq!(worker.told("ConsumerRegistered"), 1);
    assert_eq!((worker.told("Retrying"), worker.told("Throttled")), (0, 0));
    assert_eq!(server.kinesis.count("DescribeStreamSummary"), 1);
    worker.stop().await;
}

fn events(after: u32, then: Trouble) -> Fault {
    Fault::Events { after, then }
}

fn exception(code: &str) -> Trouble {
    Trouble::Exception {
        code: code.to_owned(),
        message: "by fault".to_owned(),
    }
}

/// Each with a service and a worker of its own, all at a time: five seconds pass before a shard may
/// be subscribed to again.
#[tokio::test]
async fn what_goes_wrong_loses_and_repeats_nothing() {
    let faults = [
        events(1, Trouble::Cut),
        events(1, Trouble::Silence),
        events(0, Trouble::Silence),
        events(1, exception("ResourceInUseException")),
        events(1, exception("InternalFailureException")),
        events(1, exception("KMSThrottlingException")),
        Fault::HalfBody,
        Fault::Garbage,
        Fault::Reset,
        Fault::Hang,
        Fault::LoseAnswer,
        Fault::throttling(),
        Fault::access_denied(),
    ];
    join_all(faults.map(go_wrong)).await;
}

async fn go_wrong(fault: Fault) {
    let server = Server::start(|config| {
        config.heartbeat = Duration::from_millis(300);
    })
    .await;
    server.kinesis.faults().inject(SUBSCRIBE, fault.clone(), 1);
    let mut worker = server.work(impatient());
    for number in 0..5 {
        server.put(number).await;
    }
    let failed =
        |seen: &(Vec<u64>, Vec<String>)| told(&seen.1, "Retrying") + told(&seen.1, "Throttled") > 0;
    let failed = timeout(PATIENCE, worker.seen.wait_for(failed))
        .await
        .is_ok();
    assert!(failed, "{fault:?} is not told: {:#?}", worker.seen.borrow());
    for number in 5..10 {
        server.put(number).await;
    }
    worker.until_delivered(10).await;
    worker.stop().await;
}

#[tokio::test]
async fn children_follow_at_a_closed_shards_end() {
    let server = Server::start(|_| {}).await;
    let mut worker = server.work(FanOut::default());
    for number in 0..5 {
        server.put(number).await;
    }
    worker.until_delivered(5).await;
    let split = server.client.split_shard().stream_name(STREAM);
    let split = split.shard_to_split("shardId-000000000000");
    let middle = (u128::MAX / 2).to_string();
    split
        .new_starting_hash_key(middle)
        .send()
        .await
        .expect("split");
    server.put(5).await;
    worker.until_delivered(6).await;
    worker.until_told("ShardEnded", 1).await;
    worker.until_told("ShardStarted", 3).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_stream_without_a_place_for_a_consumer_is_polled_if_that_is_allowed() {
    let server = Server::start(|config| config.consumer_limit = 0).await;
    server.put(0).await;
    let mut fan_out = FanOut::default();
    fan_out.or_polling = true;
    let mut worker = server.work(fan_out);
    worker.until_told("FellBackToPolling", 1).await;
    worker.until_delivered(1).await;
    assert_eq!(server.kinesis.count(SUBSCRIBE), 0);
    worker.stop().await;
}

// === the seam ===

fn kinesis(server: &Server) -> SdkKinesis {
    SdkKinesis::new(server.client.clone(), STREAM)
}

async fn subscribe(
    kinesis: &SdkKinesis,
    consumer: &str,
) -> Result<Box<dyn Subscription>, KinesisError> {
    let shard = "shardId-000000000000".into();
    kinesis
        .subscribe(consumer, &shard, &StartFrom::TrimHorizon)
        .await
}

#[tokio::test]
async fn an_event_is_read_when_there_is_room_for_it() {
    const DATA: usize = 900_000;
    let server = Server::start(|_| {}).await;
    let kinesis = kinesis(&server);
    let arn = kinesis
        .register_consumer("billing")
        .await
        .expect("registered")
        .arn;
    for _ in 0..3 {
        let put = server
            .client
            .put_record()
            .stream_name(STREAM)
            .partition_key("a");
        put.data(Blob::new(vec![7; DATA]))
            .send()
            .await
            .expect("put");
    }
    let mut subscription = subscribe(&kinesis, &arn).await.expect("subscribed");
    let mut read = 0;
    while read < 3 {
        let bytes = subscription.arriving().await.expect("well").expect("open");
        let again = subscription.event().await.expect("well").expect("an event");
        assert!(bytes >= again.records.len() * DATA, "{bytes}");
        read += again.records.len();
        assert!(again.continuation.is_some() && again.children.is_empty());
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = Server::start(|config| config.consumer_limit = 1).await;
    let kinesis = kinesis(&server);
    assert!(kinesis.consumer("billing").await.expect("asked").is_none());
    let arn = kinesis
        .register_consumer("billing")
        .await
        .expect("registered")
        .arn;
    assert_eq!(
        kinesis
            .consumer("billing")
            .await
            .expect("asked")
            .expect("there")
            .arn,
        arn
    );
    let twice = kinesis.register_consumer("billing").await;
    assert!(matches!(twice, Err(KinesisError::InUse(_))), "{twice:?}");
    let many = kinesis.register_consumer("shipping").await;
    assert!(
        matches!(many, Err(KinesisError::LimitExceeded(_))),
        "{many:?}"
    );
    let _first = subscribe(&kinesis, &arn).await.expect("subscribed");
    let second = subscribe(&kinesis, &arn).await;
    assert!(matches!(second, Err(KinesisError::InUse(_))), "{second:?}");
    let nobody = subscribe(&kinesis, &arn.replace("billing", "nobody")).await;
    assert!(
        matches!(nobody, Err(KinesisError::NotFound(_))),
        "{nobody:?}"
    );
    server
        .kinesis
        .faults()
        .inject(SUBSCRIBE, Fault::throttling(), FOREVER);
    let often = subscribe(&kinesis, &arn).await;
    assert!(
        matches!(often, Err(KinesisError::Throttled(_))),
        "{often:?}"
    );
}
