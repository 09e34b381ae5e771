//! SubscribeToShard through the real SDK, over HTTP/1.1. The server's clock stands in most tests:
//! what arrives then was pushed, and by nothing that is repeated after a time.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};

use crate::support::*;
use embedded_kinesis::{Config, EmbeddedKinesis};

const LIFE: Duration = Duration::from_secs(300);
const TAKE_OVER: Duration = Duration::from_secs(5);

/// With one shard, a consumer, and a clock that stands.
pub(crate) async fn started(config: Config) -> (EmbeddedKinesis, Client, String) {
    let (server, client) = server_with(config).await;
    server.stop_clock();
    create(&client, "s", 1).await;
    let consumer = register(&client, &server.stream_arn("s"), "app").await;
    (server, client, consumer.consumer_arn().to_owned())
}

fn at(kind: ShardIteratorType, number: &str) -> StartingPosition {
    let position = StartingPosition::builder().r#type(kind);
    position.sequence_number(number).build().unwrap()
}

/// AWS's code of the error that ends the stream, after which nothing comes.
async fn ended_by(events: &mut Events) -> String {
    let end = loop {
        match events.recv().await {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                assert!(event.records().is_empty());
            }
            other => break other,
        }
    };
    assert!(events.recv().await.unwrap().is_none());
    code(end)
}

async fn split(client: &Client, shard: &str) {
    let call = client.split_shard().stream_name("s").shard_to_split(shard);
    let call = call.new_starting_hash_key((1_u128 << 127).to_string());
    call.send().await.unwrap();
}

#[tokio::test]
async fn a_put_is_pushed() {
    let (server, client, consumer) = started(Config::default()).await;
    put(&client, "before").await;
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    assert_eq!(server.subscriptions(), 1);
    for i in 0..5 {
        let number = put(&client, &format!("r{i}")).await;
        let event = event(&mut events).await;
        let [record] = event.records() else {
            panic!("{event:?}")
        };
        assert_eq!(text(record), format!("r{i}"));
        assert_eq!(record.partition_key(), Some("k"));
        assert!(record.approximate_arrival_timestamp().is_some());
        assert_eq!(record.sequence_number(), number);
        assert!(event.continuation_sequence_number() >= number.as_str());
        assert_eq!(event.millis_behind_latest(), 0);
        assert!(event.child_shards.is_none());
    }
    drop(events);
    server.wait_for_subscriptions(0).await;
}

#[tokio::test]
async fn many_events_come_in_order_and_say_how_far_behind_they_are() {
    let (server, client, consumer) = started(Config::default()).await;
    // More than an event holds, by bytes.
    for _ in 0..5 {
        put_raw(&server, &[300_000, 300_000]).await;
    }
    server.advance(Duration::from_secs(7));
    let start = position(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &consumer, start).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 10 {
        let event = event(&mut events).await;
        let records = event.records().iter();
        numbers.extend(records.map(|it| it.sequence_number().to_owned()));
        let behind = if numbers.len() < 10 { 7000 } else { 0 };
        assert_eq!(event.millis_behind_latest(), behind);
    }
    assert!(numbers.is_sorted());
}

#[tokio::test]
async fn five_places_to_start() {
    let (server, client, consumer) = started(Config::default()).await;
    let first = put(&client, "a").await;
    server.advance(Duration::from_secs(60));
    let second = put(&client, "b").await;
    put(&client, "c").await;
    let [event_of_b, ..] = &read_all(&client).await[1..] else {
        panic!("b is there")
    };
    let timestamp = StartingPosition::builder().r#type(ShardIteratorType::AtTimestamp);
    let timestamp = timestamp.timestamp(*event_of_b).build().unwrap();
    for (start, wanted) in [
        (
            position(ShardIteratorType::TrimHorizon),
            &["a", "b", "c"][..],
        ),
        (
            at(ShardIteratorType::AtSequenceNumber, &second),
            &["b", "c"],
        ),
        (at(ShardIteratorType::AfterSequenceNumber, &second), &["c"]),
        (
            at(ShardIteratorType::AfterSequenceNumber, &first),
            &["b", "c"],
        ),
        (timestamp, &["b", "c"]),
    ] {
        let mut events = subscribe(&client, &consumer, start).await.unwrap();
        assert_eq!(arrivals(&mut events).await, wanted);
        server.advance(TAKE_OVER);
    }
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    put(&client, "d").await;
    assert_eq!(arrivals(&mut events).await, ["d"]);

    server.advance(TAKE_OVER);
    let later = StartingPosition::builder().r#type(ShardIteratorType::AtTimestamp);
    let later = later.timestamp(DateTime::from_secs(9_000_000_000));
    for wrong in [
        later.build().unwrap(),
        position(ShardIteratorType::AtTimestamp),
        position(ShardIteratorType::AtSequenceNumber),
        at(ShardIteratorType::AtSequenceNumber, "12"),
    ] {
        let refused = subscribe(&client, &consumer, wrong).await;
        assert_eq!(code(refused), "InvalidArgumentException");
    }
    // What was refused has taken nothing over.
    put(&client, "e").await;
    assert_eq!(arrivals(&mut events).await, ["e"]);
}

/// When the records arrived.
async fn read_all(client: &Client) -> Vec<DateTime> {
    let from = iterator(client, SHARD, ShardIteratorType::TrimHorizon).await;
    let page = read(client, &from).await;
    let times = page.records().iter();
    times
        .map(|it| *it.approximate_arrival_timestamp().unwrap())
        .collect()
}

/// An idle shard's numbers move on, and both ways of starting at them pass nothing twice.
#[tokio::test]
async fn an_idle_shard_says_where_to_go_on() {
    let (server, client, consumer) = started(Config::default()).await;
    put(&client, "old").await;
    let start = position(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &consumer, start).await.unwrap();
    let mut last = event(&mut events).await.continuation_sequence_number;
    for _ in 0..3 {
        server.advance(Duration::from_secs(5));
        let idle = event(&mut events).await;
        assert!(idle.records().is_empty());
        let next = idle.continuation_sequence_number;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    let new = put(&client, "new").await;
    assert!(last < new);
    for kind in [
        ShardIteratorType::AfterSequenceNumber,
        ShardIteratorType::AtSequenceNumber,
    ] {
        let from = at_sequence(&client, kind.clone(), &last).await;
        assert_eq!(texts(&read(&client, &from).await), ["new"]);
        server.advance(TAKE_OVER);
        let again = subscribe(&client, &consumer, at(kind, &last)).await;
        assert_eq!(arrivals(&mut again.unwrap()).await, ["new"]);
    }
}

#[tokio::test]
async fn a_shard_without_records_says_where_to_go_on() {
    let (server, client, consumer) = started(Config::default()).await;
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    server.advance(Duration::from_secs(5));
    let place = event(&mut events).await.continuation_sequence_number;
    put(&client, "first").await;
    assert_eq!(arrivals(&mut events).await, ["first"]);
    server.advance(TAKE_OVER);
    let after = at(ShardIteratorType::AfterSequenceNumber, &place);
    let mut again = subscribe(&client, &consumer, after).await.unwrap();
    assert_eq!(arrivals(&mut again).await, ["first"]);
}

#[tokio::test]
async fn five_minutes_then_it_ends_and_the_next_goes_on_at_once() {
    let (server, client, consumer) = started(Config::default()).await;
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    server.advance(LIFE - Duration::from_millis(1));
    let place = event(&mut events).await.continuation_sequence_number;
    server.advance(Duration::from_millis(1));
    assert!(events.recv().await.unwrap().is_none());
    server.wait_for_subscriptions(0).await;
    put(&client, "between").await;
    let after = at(ShardIteratorType::AfterSequenceNumber, &place);
    let mut events = subscribe(&client, &consumer, after).await.unwrap();
    assert_eq!(arrivals(&mut events).await, ["between"]);
    server.configure(|config| config.subscription_life = Duration::from_secs(1));
    server.advance(Duration::from_secs(1));
    assert!(events.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn who_comes_after_five_seconds_takes_over() {
    let (server, client, consumer) = started(Config::default()).await;
    let mut first = subscribe(&client, &consumer, latest()).await.unwrap();
    server.advance(TAKE_OVER - Duration::from_millis(1));
    let early = subscribe(&client, &consumer, latest()).await;
    assert_eq!(code(early), "ResourceInUseException");
    server.advance(Duration::from_millis(1));
    let mut second = subscribe(&client, &consumer, latest()).await.unwrap();
    assert_eq!(ended_by(&mut first).await, "ResourceInUseException");
    put(&client, "mine").await;
    assert_eq!(arrivals(&mut second).await, ["mine"]);

    // Whether the last one has gone makes no difference.
    drop(second);
    server.wait_for_subscriptions(0).await;
    let early = subscribe(&client, &consumer, latest()).await;
    assert_eq!(code(early), "ResourceInUseException");
    server.advance(TAKE_OVER);
    subscribe(&client, &consumer, latest()).await.unwrap();
}

#[tokio::test]
async fn consumers_do_not_disturb_each_other() {
    let (server, client, consumer) = started(Config::default()).await;
    let other = register(&client, &server.stream_arn("s"), "other").await;
    let mut first = subscribe(&client, &consumer, latest()).await.unwrap();
    let mut second = subscribe(&client, other.consumer_arn(), latest())
        .await
        .unwrap();
    put(&client, "both").await;
    assert_eq!(arrivals(&mut first).await, ["both"]);
    assert_eq!(arrivals(&mut second).await, ["both"]);
}

#[tokio::test]
async fn the_end_of_a_shard_names_its_children() {
    let (server, client, consumer) = started(Config::default()).await;
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    put(&client, "last").await;
    assert_eq!(arrivals(&mut events).await, ["last"]);
    split(&client, SHARD).await;
    let end = event(&mut events).await;
    assert_eq!(end.continuation_sequence_number(), "");
    let children = end.child_shards();
    let ids: Vec<_> = children.iter().map(|it| number(it.shard_id())).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(children[0].parent_shards(), [SHARD]);
    assert!(children[1].hash_key_range().is_some());
    assert!(events.recv().await.unwrap().is_none());

    // Whoever comes when all is over is told at once, and again.
    for _ in 0..2 {
        let start = position(ShardIteratorType::TrimHorizon);
        let mut again = subscribe(&client, &consumer, start).await.unwrap();
        let end = event(&mut again).await;
        assert_eq!(end.records().len(), 1);
        assert_eq!(end.child_shards().len(), 2);
        assert!(again.recv().await.unwrap().is_none());
    }
    server.wait_for_subscriptions(0).await;
}

/// The steps of a reshard come one by one: nobody calls when they are due.
#[tokio::test]
async fn a_shard_ends_when_its_reshard_is_done() {
    let config = Config {
        updating: Duration::from_secs(3),
        ..Config::default()
    };
    let (server, client, consumer) = started(config).await;
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    split(&client, SHARD).await;
    put(&client, "meanwhile").await;
    assert_eq!(arrivals(&mut events).await, ["meanwhile"]);
    server.advance(Duration::from_secs(3));
    assert_eq!(event(&mut events).await.child_shards().len(), 2);
    assert!(events.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_deleted_ends_its_subscriptions() {
    let (server, client, consumer) = started(Config::default()).await;
    let mut events = subscribe(&client, &consumer, latest()).await.unwrap();
    let call = client.deregister_stream_consumer();
    call.consumer_arn(&consumer).send().await.unwrap();
    assert_eq!(ended_by(&mut events).await, "ResourceNotFoundException");

    let consumer = register(&client, &server.stream_arn("s"), "app").await;
    let consumer = consumer.consumer_arn();
    let mut events = subscribe(&client, consumer, latest()).await.unwrap();
    let delete = client.delete_stream().stream_name("s");
    delete.send().await.unwrap();
    assert_eq!(ended_by(&mut events).await, "ResourceNotFoundException");
}

#[tokio::test]
async fn two_mib_a_second() {
    let config = Config {
        read_limits: true,
        ..Config::default()
    };
    let (server, client, consumer) = started(config).await;
    for _ in 0..8 {
        put_raw(&server, &[900_000]).await;
    }
    let start = position(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &consumer, start).await.unwrap();
    let mut came = 0;
    // The first second's worth, then what a second brings.
    for wanted in [3, 5, 7, 8] {
        while came < wanted {
            came += arrivals(&mut events).await.len();
        }
        assert_eq!(came, wanted);
        // Another call's way there and back leaves time for what would be too early.
        open_shards(&client, "s").await;
        tokio::select! {
            biased;
            event = events.recv() => panic!("{event:?} is too early"),
            () = std::future::ready(()) => {}
        }
        server.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_call_a_second_where_that_is_limited() {
    let config = Config {
        api_limits: true,
        ..Config::default()
    };
    let (server, client, consumer) = started(config).await;
    let _events = subscribe(&client, &consumer, latest()).await.unwrap();
    let again = subscribe(&client, &consumer, latest()).await;
    assert_eq!(code(again), "LimitExceededException");
    server.advance(Duration::from_secs(1));
    let again = subscribe(&client, &consumer, latest()).await;
    assert_eq!(code(again), "ResourceInUseException");
}

/// Records that expire while their reader is away are passed over.
#[tokio::test]
async fn what_is_past_retention_is_not_sent() {
    let (server, client, consumer) = started(Config::default()).await;
    put(&client, "old").await;
    server.advance(Duration::from_secs(25 * 3600));
    put(&client, "new").await;
    let start = position(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &consumer, start).await.unwrap();
    assert_eq!(arrivals(&mut events).await, ["new"]);
}

/// Many write, and the stream is resharded meanwhile: whoever is subscribed sees each record once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_miss_nothing() {
    const WRITERS: usize = 8;
    const CALLS: usize = 40;
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    let consumer = register(&client, &server.stream_arn("s"), "app").await;
    let consumer = consumer.consumer_arn().to_owned();
    let reader = tokio::spawn(read_shards(client.clone(), consumer));
    server.wait_for_subscriptions(1).await;
    let writers = (0..WRITERS).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for call in 0..CALLS {
                let put = client.put_record().stream_name("s");
                let put = put.partition_key(writer.to_string());
                let put = put.data(Blob::new(format!("{writer}/{call:05}")));
                put.send().await.unwrap();
            }
        })
    });
    let writers = futures::future::join_all(writers);
    server
        .wait_for_calls("PutRecord", WRITERS * CALLS / 3)
        .await;
    resize(&client, "s", 2).await;
    for written in writers.await {
        written.unwrap();
    }
    resize(&client, "s", 1).await;
    put(&client, "end").await;
    let mut seen = reader.await.unwrap();
    assert_eq!(seen.len(), WRITERS * CALLS);
    seen.dedup();
    assert_eq!(seen.len(), WRITERS * CALLS);
}

/// Reads children after their parents, until a record says "end".
async fn read_shards(client: Client, consumer: String) -> Vec<String> {
    let mut seen = Vec::new();
    let mut todo = std::collections::VecDeque::from([SHARD.to_owned()]);
    let mut done = std::collections::HashSet::new();
    while let Some(shard) = todo.pop_front() {
        if !done.insert(shard.clone()) {
            continue;
        }
        let call = client.subscribe_to_shard().consumer_arn(&consumer);
        let call = call.shard_id(&shard);
        let call = call.starting_position(position(ShardIteratorType::TrimHorizon));
        let mut events = call.send().await.unwrap().event_stream;
        while let Some(event) = events.recv().await.unwrap() {
            let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
                panic!("{event:?}")
            };
            for record in event.records() {
                if text(record) == "end" {
                    return seen;
                }
                seen.push(text(record));
            }
            let children = event.child_shards().iter();
            todo.extend(children.map(|it| it.shard_id().to_owned()));
        }
    }
    seen
}
