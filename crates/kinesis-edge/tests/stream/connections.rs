//! A client with a bound on its connections.

use std::time::Duration;

use embedded_kinesis::{Config, EmbeddedKinesis, Fault};
use kinesis_edge::{Consumer, ConsumerStatus, ShardFilter, StartFrom, Stream};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn calls_beyond_the_bound_wait_and_subscriptions_go_by_others() {
    let kinesis = EmbeddedKinesis::start(Config::default()).await;
    let kinesis = kinesis.expect("a server");
    let client = super::connection().await.bounded(2);
    let client = client.kinesis(Some(&kinesis.endpoint()));
    let create = client.create_stream().stream_name("orders").shard_count(1);
    create.send().await.expect("created");
    let stream = Stream::new(client, "orders").patient();
    let arn = stream.arn().await.expect("an ARN");
    stream
        .register_consumer(&arn, "billing")
        .await
        .expect("made");
    let consumer = loop {
        let Consumer { arn, status } = stream.consumer(&arn, "billing").await.expect("there");
        if status == ConsumerStatus::Active {
            break arn;
        }
        sleep(Duration::from_millis(10)).await;
    };

    kinesis.faults().inject("ListShards", Fault::Hang, 2);
    let list = || {
        let stream = stream.clone();
        tokio::spawn(async move { stream.shards(ShardFilter::All).await })
    };
    let hanging = [list(), list()];
    let both_hang = async {
        while kinesis.count("ListShards") < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, both_hang).await.expect("both came");
    let waiting = list();
    let shard = "shardId-000000000000";
    let subscribed = stream.subscribe(&consumer, shard, &StartFrom::<String>::TrimHorizon);
    let subscribed = timeout(PATIENCE, subscribed).await.expect("in time");
    drop(subscribed.expect("a subscription"));
    assert_eq!(kinesis.count("ListShards"), 2, "no connection is free");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    let listed = timeout(PATIENCE, waiting).await.expect("in time");
    assert_eq!(listed.expect("no panic").expect("a list").len(), 1);
}
