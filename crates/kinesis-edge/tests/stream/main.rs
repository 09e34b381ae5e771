//! A stream over the wire: whole lists or errors, and what a gate sees.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use embedded_kinesis::{Config, EmbeddedKinesis, FOREVER, Fault};
use jiff::{SignedDuration, Timestamp};
use kinesis_edge::{
    AttributeValue, ClientSettings, Connection, ConnectionSettings, Failure, Gate, Kind, Listing,
    Service, ShardFilter, StartFrom, Stream, Table, Write, Written,
};
use test_support::{DynamoDb, Proxy, Scripted, aws};
use tokio::sync::{Semaphore, SemaphorePermit};

mod connections;
mod subscriptions;

async fn connection() -> Connection {
    Connection::open(ConnectionSettings {
        region: Some("us-east-1".to_owned()),
        credentials: Some(aws::credentials(aws::ACCESS_KEY)),
        client: ClientSettings {
            attempts: Some(1),
            ..ClientSettings::default()
        },
        ..ConnectionSettings::default()
    })
    .await
}

async fn stream(endpoint: &str) -> Stream {
    Stream::new(connection().await.kinesis(Some(endpoint)), "orders")
}

async fn embedded(shards: i32) -> EmbeddedKinesis {
    let config = Config {
        shard_limit: 20_000,
        ..Config::default()
    };
    let kinesis = EmbeddedKinesis::start(config).await.expect("a server");
    let client = connection().await.kinesis(Some(&kinesis.endpoint()));
    let request = client.create_stream().stream_name("orders");
    let created = request.shard_count(shards).send().await;
    created.expect("created");
    kinesis
}

/// One call at a time; after the first page of a list the next call fails.
#[derive(Debug)]
struct Recorder {
    kinesis: EmbeddedKinesis,
    turns: Semaphore,
    ended: Mutex<Vec<(&'static str, Option<Kind>)>>,
    fault: Fault,
}

#[async_trait]
impl Gate for Recorder {
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    fn ended(&self, operation: &'static str, _: Duration, failure: Option<&Failure>) {
        let mut ended = self.ended.lock().expect("no panic");
        ended.push((operation, failure.map(|failure| failure.kind)));
        if ended.len() == 1 {
            let faults = self.kinesis.faults();
            faults.inject("ListShards", self.fault.clone(), 1);
        }
    }
}

async fn list(fault: Fault) -> (Result<usize, Kind>, Vec<(&'static str, Option<Kind>)>) {
    let recorder = Arc::new(Recorder {
        kinesis: embedded(2_500).await,
        turns: Semaphore::new(1),
        ended: Mutex::default(),
        fault,
    });
    let stream = stream(&recorder.kinesis.endpoint()).await;
    let stream = stream.behind(Arc::clone(&recorder) as Arc<dyn Gate>);
    let shards = stream.shards(ShardFilter::AtLatest).await;
    let ended = recorder.ended.lock().expect("no panic").clone();
    let shards = shards.map(|shards| shards.len());
    (shards.map_err(|failure| failure.kind), ended)
}

#[tokio::test]
async fn a_list_whose_token_expired_is_begun_anew() {
    let (shards, ended) = list(Fault::aws("ExpiredNextTokenException", "expired")).await;
    assert_eq!(shards, Ok(2_500), "each shard once");
    let outcomes: Vec<_> = ended.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(outcomes, [None, Some(Kind::ExpiredToken), None, None, None]);
}

#[tokio::test]
async fn a_list_that_lacks_a_page_is_none() {
    let (shards, ended) = list(Fault::throttling()).await;
    assert_eq!(shards, Err(Kind::Throttled));
    assert_eq!(ended[1], ("ListShards", Some(Kind::Throttled)));
    let (shards, _) = list(Fault::EmptyJson).await;
    assert_eq!(shards, Err(Kind::Senseless), "no Shards are not none");
}

#[tokio::test]
async fn tokens_that_always_expire_end_it() {
    let kinesis = embedded(1).await;
    let fault = Fault::aws("ExpiredNextTokenException", "expired");
    kinesis.faults().inject("ListShards", fault, FOREVER);
    let stream = stream(&kinesis.endpoint()).await;
    let failure = stream.shards(ShardFilter::All).await.expect_err("no list");
    assert_eq!(failure.kind, Kind::ExpiredToken);
    assert_eq!(kinesis.count("ListShards"), 3);
}

/// Answers everything with the same body.
async fn parrot(body: &'static str) -> Scripted {
    Scripted::start(move |_, _| Ok(serde_json::from_str(body).expect("JSON"))).await
}

#[tokio::test]
async fn a_list_that_does_not_end_is_refused() {
    let aws = parrot(r#"{"Shards": [], "NextToken": "on and on"}"#).await;
    let failure = stream(&aws.endpoint).await.shards(ShardFilter::All).await;
    let failure = failure.expect_err("no list");
    assert_eq!(
        (failure.kind, failure.service),
        (Kind::Senseless, Service::Kinesis)
    );
    assert!(failure.to_string().contains("does not end"), "{failure}");
    assert_eq!(aws.calls("ListShards").len(), 100);
}

/// As a service says it that pages by names: the rest would be taken for gone.
#[tokio::test]
async fn a_list_of_streams_that_says_it_is_a_part_is_none() {
    let aws = parrot(r#"{"StreamNames": [], "StreamSummaries": [], "HasMoreStreams": true}"#).await;
    let client = connection().await.kinesis(Some(&aws.endpoint));
    let failure = Listing::new(client).all().await.expect_err("a part");
    assert_eq!(failure.kind, Kind::Senseless);
    assert!(failure.to_string().contains("HasMoreStreams"), "{failure}");
}

#[tokio::test]
async fn a_count_is_none_without_a_number() {
    for body in ["{}", r#"{"StreamDescriptionSummary": {}}"#] {
        let aws = parrot(body).await;
        let count = stream(&aws.endpoint).await.open_shard_count().await;
        let failure = count.expect_err("no count");
        assert_eq!(failure.kind, Kind::Unavailable, "{failure}");
        assert!(failure.message.contains("OpenShardCount"), "{failure}");
    }
    let kinesis = embedded(3).await;
    let stream = stream(&kinesis.endpoint()).await;
    assert_eq!(stream.open_shard_count().await.expect("a count"), 3);
    assert!(stream.try_list().await.is_ok());
}

#[tokio::test]
async fn failures_say_which_call_and_carry_what_aws_said() {
    let kinesis = embedded(1).await;
    let stream = stream(&kinesis.endpoint()).await;
    let shard = &stream.shards(ShardFilter::All).await.expect("a list")[0].id;
    let from = StartFrom::<String>::TrimHorizon;
    let iterator = stream.iterator(shard, &from).await.expect("an iterator");
    let faults = kinesis.faults();
    for (fault, kind, code) in [
        (
            Fault::access_denied(),
            Kind::Denied,
            "AccessDeniedException",
        ),
        (
            Fault::expired_iterator(),
            Kind::ExpiredIterator,
            "ExpiredIteratorException",
        ),
        (
            Fault::expired_token(),
            Kind::ExpiredCredentials,
            "ExpiredTokenException",
        ),
        (
            Fault::internal_error(),
            Kind::Unavailable,
            "InternalFailure",
        ),
        (Fault::Status(503), Kind::Unavailable, "Http503"),
        (Fault::Status(429), Kind::Throttled, "Http429"),
        (Fault::Reset, Kind::Unavailable, "ConnectionFailed"),
        (Fault::Garbage, Kind::Unavailable, "UnreadableAnswer"),
        (Fault::EmptyJson, Kind::Senseless, "UnreadableAnswer"),
    ] {
        faults.inject("GetRecords", fault.clone(), 1);
        let failure = stream.records(&iterator, 10).await.expect_err("a fault");
        assert_eq!(
            (failure.kind, failure.code.as_str()),
            (kind, code),
            "{fault:?}"
        );
        assert_eq!(
            (failure.operation, failure.service),
            ("GetRecords", Service::Kinesis)
        );
        let answered = matches!(fault, Fault::Aws { .. });
        assert!(failure.request_id.is_some() || !answered, "{fault:?}");
        assert_eq!(failure.denial.is_some(), kind == Kind::Denied);
    }
    let nobody = stream_without_server().await;
    let failure = nobody.try_list().await.expect_err("nobody listens");
    assert_eq!(
        (failure.kind, failure.code.as_str()),
        (Kind::Unavailable, "ConnectionFailed")
    );
    assert!(std::error::Error::source(&failure).is_some());
}

#[tokio::test]
async fn answers_of_nobody_are_told_alike_whichever_service_was_asked() {
    let kinesis = embedded(1).await;
    let proxy = Proxy::start(&kinesis.endpoint()).await;
    let stream = stream(&kinesis.endpoint()).await;
    let dynamodb = connection().await.dynamodb(Some(&proxy.endpoint()));
    let table = Table::new(dynamodb, "leases");
    for (fault, code, text) in [
        (
            Fault::Status(503),
            "Http503",
            "answered 503 without an error code",
        ),
        (
            Fault::Status(302),
            "Http302",
            "answered 302 without an error code",
        ),
        (
            Fault::Garbage,
            "UnreadableAnswer",
            "answered with what is no answer to ",
        ),
    ] {
        kinesis.faults().inject("ListShards", fault.clone(), 1);
        proxy.faults().inject("Scan", fault, 1);
        let listed = stream.try_list().await.expect_err("a fault");
        let scanned = table.scan(&[], 1, |_| ()).await.expect_err("a fault");
        for (failure, who) in [(listed, "Kinesis "), (scanned, "DynamoDB ")] {
            assert_eq!(failure.code, code, "{failure}");
            let told = failure.message.strip_prefix(who);
            assert!(told.is_some_and(|it| it.starts_with(text)), "{failure}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_only_where_there_is_room_for_it() {
    let kinesis = embedded(1).await;
    let client = connection().await.kinesis(Some(&kinesis.endpoint()));
    let put = client.put_record().stream_name("orders").partition_key("a");
    let put = put.data(kinesis_edge::Blob::new(vec![0; 300_000]));
    put.send().await.expect("put");
    let stream = Stream::new(client, "orders").heeding_room();
    let shards = stream.shards(ShardFilter::All).await.expect("listed");
    let from: StartFrom = StartFrom::TrimHorizon;
    let iterator = stream.iterator(&shards[0].id, &from).await.expect("one");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let within = async |most: u64| {
        let asked = Arc::clone(&asked);
        let room = move |bytes| {
            asked.lock().expect("no panic").push(bytes);
            bytes <= most
        };
        stream.records_within(&iterator, 10, Arc::new(room)).await
    };
    let refused = within(399_999).await.expect_err("no room");
    assert_eq!(refused.kind, Kind::NoRoom, "{refused}");
    let read = within(1_000_000).await.expect("room");
    assert_eq!(read.records[0].data.len(), 300_000);
    let asked = asked.lock().expect("no panic").clone();
    // In Base64, and something around it.
    assert!(
        asked.len() == 2 && asked.iter().all(|bytes| (400_000..410_000).contains(bytes)),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_connection_knows_the_time_of_who_answers() {
    let kinesis = embedded(1).await;
    let connection = connection().await;
    let client = connection.kinesis(Some(&kinesis.endpoint()));
    assert_eq!(connection.clock().now(), None, "nobody answered");
    let before = Timestamp::now();
    let stream = Stream::new(client, "none");
    stream
        .try_list()
        .await
        .expect_err("a refusal has a date too");
    let there = connection.clock().now().expect("a date");
    let a_second = SignedDuration::from_secs(1);
    assert!(before - a_second < there && there < Timestamp::now() + a_second);
}

async fn stream_without_server() -> Stream {
    stream("http://127.0.0.1:1").await
}

/// Whoever names the endpoint does not get at the credentials of the machine.
#[tokio::test]
async fn an_endpoint_that_is_given_is_never_a_metadata_address() {
    let connection = connection().await;
    for endpoint in ["http://169.254.169.254", "http://[::ffff:169.254.170.2]"] {
        let stream = Stream::new(connection.kinesis(Some(endpoint)), "orders");
        let failure = stream.open_shard_count().await.unwrap_err();
        let told = format!("{failure:?}");
        assert!(told.contains("never asked"), "{told}");
    }
}

/// It looks like "done", or like "there is no such item".
#[tokio::test]
async fn an_empty_answer_of_somebody_else_is_none() {
    let dynamodb = DynamoDb::start().await;
    let connection = connection().await;
    let table = Table::new(connection.dynamodb(Some(&dynamodb.endpoint())), "leases");
    let empty = |operation| dynamodb.faults().inject(operation, Fault::EmptyJson, 1);
    let key = || HashMap::from([("leaseKey".to_owned(), AttributeValue::S("0".to_owned()))]);
    let rename = || {
        let name = AttributeValue::S("b".to_owned());
        Write::new().change("SET o = :o").value(":o", name)
    };

    empty("CreateTable");
    let mut failures = vec![("CreateTable", table.create("leaseKey").await.err())];
    assert!(table.create("leaseKey").await.expect("made"));
    empty("PutItem");
    failures.push(("PutItem", table.put(key(), Write::new()).await.err()));
    assert_eq!(table.get(key()).await.expect("an answer"), None);
    let put = table.put(key(), Write::new()).await;
    assert_eq!(put.expect("put"), Written::Done(None));
    empty("UpdateItem");
    failures.push(("UpdateItem", table.update(key(), rename()).await.err()));
    empty("DeleteItem");
    failures.push(("DeleteItem", table.delete(key(), Write::new()).await.err()));
    empty("GetItem");
    failures.push(("GetItem", table.get(key()).await.err()));
    empty("BatchGetItem");
    failures.push(("BatchGetItem", table.get_each(vec![key()]).await.err()));
    assert_eq!(table.get(key()).await.expect("an answer"), Some(key()));
    for (operation, failure) in failures {
        let failure = failure.expect(operation);
        let found = (failure.operation, failure.kind, &*failure.code);
        assert_eq!(found, (operation, Kind::Unavailable, "UnreadableAnswer"));
        assert!(failure.is_transient(), "it is tried again");
    }
}
