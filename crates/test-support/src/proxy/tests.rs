use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata as _,
    operation::put_item::{PutItemError, PutItemOutput},
    types::{AttributeValue, KeyType, ScalarAttributeType},
};
use aws_sdk_kinesis::{
    error::SdkError,
    primitives::Blob,
    types::{ShardIteratorType, StartingPosition},
};
use embedded_kinesis::{self as events, Config, EmbeddedKinesis, FOREVER, Fault};
use jiff::{Timestamp, fmt::rfc2822};
use rstest::rstest;
use tokio::time::Instant;

use crate::{DynamoDb, Proxy, Tally, aws, campaign::Trouble};

const TABLE: &str = "leases";

async fn table() -> DynamoDb {
    let dynamodb = DynamoDb::start().await;
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    dynamodb.create_table(TABLE, &[key]).await;
    dynamodb.clear_tallies();
    dynamodb
}

/// A client that asks once.
fn once(dynamodb: &DynamoDb) -> Client {
    let config = aws::config(&dynamodb.endpoint()).into_builder();
    let once = aws_config::retry::RetryConfig::disabled();
    Client::new(&config.retry_config(once).build())
}

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

async fn put(client: &Client, key: &str) -> Result<PutItemOutput, SdkError<PutItemError>> {
    let put = client.put_item().table_name(TABLE);
    put.item("leaseKey", s(key)).send().await
}

/// What the SDK makes of each trouble, and whether the call was done all the same.
#[rstest]
#[case(Trouble::Cut, "dispatch failure", false)]
#[case(Trouble::LostAnswer, "dispatch failure", true)]
#[case(Trouble::HalfAnswer, "response error", true)]
#[case(Trouble::Late, "", true)]
#[case(Trouble::SlowLine, "", true)]
#[case(Trouble::Throttled, "ProvisionedThroughputExceededException", false)]
#[case(Trouble::Internal, "InternalFailure", false)]
#[case(Trouble::Unavailable, "503", false)]
#[case(Trouble::Garbage, "DeserializeError", false)]
#[case(Trouble::Empty, "", false)]
#[case(Trouble::Denied, "AccessDeniedException", false)]
#[case(Trouble::WrongDate, "", true)]
#[tokio::test]
async fn troubles(#[case] trouble: Trouble, #[case] wanted: &str, #[case] done: bool) {
    let dynamodb = table().await;
    let client = once(&dynamodb);
    dynamodb
        .faults()
        .inject("PutItem", trouble.fault("PutItem"), 1);
    let first = put(&client, "a").await;
    match &first {
        Ok(_) => assert_eq!(wanted, ""),
        Err(error) => {
            let text = format!("{:?} {error} {error:?}", error.code());
            assert!(!wanted.is_empty() && text.contains(wanted), "{text}");
        }
    }
    assert_eq!(dynamodb.items(TABLE).await.len(), usize::from(done));
    assert_eq!(dynamodb.faults().left(), 0);
    put(&client, "b").await.unwrap();
    let tally = dynamodb.tally("PutItem");
    assert_eq!((tally.calls, tally.faults), (2, 1));
}

#[tokio::test]
async fn faults_are_by_operation_and_table_and_end_when_told() {
    let dynamodb = table().await;
    let client = once(&dynamodb);
    let faults = dynamodb.faults();
    faults.inject_on("another", "PutItem", Fault::access_denied(), FOREVER);
    faults.inject_on(TABLE, "Scan", Fault::access_denied(), FOREVER);
    put(&client, "a").await.unwrap();
    for _ in 0..3 {
        let scan = client.scan().table_name(TABLE).send().await;
        let error = scan.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some("AccessDeniedException"));
    }
    faults.clear();
    assert_eq!(dynamodb.items(TABLE).await.len(), 1);
    assert_eq!(
        (dynamodb.tally("Scan").calls, dynamodb.tally("Scan").refused),
        (4, 3)
    );
}

#[tokio::test]
async fn a_call_that_hangs_is_counted_before_it_is_answered() {
    let dynamodb = table().await;
    dynamodb.faults().inject("Scan", Fault::Hang, 1);
    let scan = tokio::spawn(once(&dynamodb).scan().table_name(TABLE).send());
    crate::eventually("the call", dynamodb.wait_for_calls("Scan", 1)).await;
    assert!(!scan.is_finished());
    scan.abort();
}

/// A call over a bare socket. Head and body of the answer, and how long it took.
async fn bare(proxy: &Proxy, target: &str, body: &str) -> (String, String, Duration) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let begin = Instant::now();
    let mut socket = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-amz-target: {target}\r\n\
         content-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=AKIDBARE/20261123/us-east-1/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=0\r\nx-amz-date: 20261123T000000Z\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned(), begin.elapsed())
}

const LIST_TABLES: &str = "DynamoDB_20120810.ListTables";

#[tokio::test]
async fn a_wrong_date_is_wrong_by_as_much_as_was_asked() {
    let dynamodb = table().await;
    let date = async || {
        let (head, ..) = bare(&dynamodb, LIST_TABLES, "{}").await;
        let date = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("date").then_some(value)
        });
        let date = rfc2822::DateTimeParser::new().parse_timestamp(date.unwrap());
        date.unwrap().as_second() - Timestamp::now().as_second()
    };
    assert!(date().await.abs() < 120);
    for seconds in [-3_600, 3_600] {
        dynamodb
            .faults()
            .inject("ListTables", Fault::WrongDate(seconds), 1);
        assert!((date().await - seconds).abs() < 120);
    }
}

#[tokio::test]
async fn a_slow_line_is_as_slow_as_was_asked() {
    let dynamodb = table().await;
    put(&dynamodb.client, &"k".repeat(500)).await.unwrap();
    dynamodb.faults().inject("Scan", Fault::Slow(1_000), 1);
    let scan = format!(r#"{{"TableName": "{TABLE}"}}"#);
    let (_, body, took) = bare(&dynamodb, "DynamoDB_20120810.Scan", &scan).await;
    assert!(body.contains("kkk") && body.len() > 500, "{body}");
    assert!(took >= Duration::from_millis(500), "{took:?}");
}

/// The units of AWS's pricing page: 4 KB a read, 1 KB a write, rounded up.
#[tokio::test]
async fn units_are_dynamodbs() {
    let dynamodb = table().await;
    let client = once(&dynamodb);
    let attributes = "leaseKey".len() + "data".len() + 1;
    let written = async |key: &str, bytes: usize| {
        dynamodb.clear_tallies();
        let put = client.put_item().table_name(TABLE).item("leaseKey", s(key));
        let data = s("d".repeat(bytes - attributes));
        put.item("data", data).send().await.unwrap();
        dynamodb.tally("PutItem")
    };
    let tally = written("a", 1_024).await;
    assert_eq!(
        tally,
        Tally {
            calls: 1,
            items: 1,
            item_bytes: 1_024,
            largest_item: 1_024,
            write_units: 1.0,
            request_bytes: tally.request_bytes,
            answer_bytes: tally.answer_bytes,
            ..Tally::default()
        }
    );
    assert!(tally.request_bytes > 1_024, "{tally:?}");
    assert_eq!(written("a", 1_025).await.write_units, 2.0);
    assert_eq!(written("a", 100).await.write_units, 2.0, "the item before");
    for key in ["b", "c", "d", "e"] {
        assert_eq!(written(key, 1_100).await.write_units, 2.0);
    }

    // 4,500 bytes: 2 units, however small the page that a filter leaves.
    let scan = async |consistent: bool| {
        dynamodb.clear_tallies();
        let scan = client.scan().table_name(TABLE).consistent_read(consistent);
        let scan = scan.filter_expression("leaseKey = :key");
        let scan = scan.expression_attribute_values(":key", s("b"));
        assert_eq!(scan.send().await.unwrap().count(), 1);
        dynamodb.tally("Scan").read_units
    };
    assert_eq!((scan(true).await, scan(false).await), (2.0, 1.0));

    let get = async |key: &str| {
        dynamodb.clear_tallies();
        let get = client.get_item().table_name(TABLE).key("leaseKey", s(key));
        get.send().await.unwrap();
        dynamodb.tally("GetItem")
    };
    assert_eq!(
        (get("b").await.read_units, get("b").await.item_bytes),
        (0.5, 1_100)
    );
    assert_eq!((get("z").await.read_units, get("z").await.items), (0.5, 0));

    // A condition that does not hold costs as much as the item that is there.
    dynamodb.clear_tallies();
    let update = client
        .update_item()
        .table_name(TABLE)
        .key("leaseKey", s("b"));
    let update = update.update_expression("SET leaseOwner = :me");
    let update = update.condition_expression("leaseOwner = :me");
    let update = update.expression_attribute_values(":me", s("me"));
    let error = update.send().await.unwrap_err().into_service_error();
    assert!(error.is_conditional_check_failed_exception(), "{error:?}");
    let tally = dynamodb.tallies_on(TABLE);
    let [(operation, tally)] = &tally[..] else {
        panic!("{tally:?}")
    };
    assert_eq!(
        (operation.as_str(), tally.write_units, tally.refused),
        ("UpdateItem", 2.0, 1)
    );
}

#[tokio::test]
async fn kinesis_goes_through_it_as_well() {
    let kinesis = EmbeddedKinesis::start(Config::default()).await.unwrap();
    let proxy = Proxy::start(&kinesis.endpoint()).await;
    let client = aws::kinesis(&proxy.endpoint());
    let create = client.create_stream().stream_name("orders").shard_count(1);
    create.send().await.unwrap();
    let put = client.put_record().stream_name("orders").partition_key("k");
    let put = put.data(Blob::new(vec![7; 30_000])).send().await.unwrap();
    let iterator = client.get_shard_iterator().stream_name("orders");
    let iterator = iterator.shard_id(put.shard_id());
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let iterator = iterator.send().await.unwrap();
    proxy
        .faults()
        .inject("GetRecords", Trouble::Throttled.fault("GetRecords"), 1);
    let read = client
        .get_records()
        .shard_iterator(iterator.shard_iterator().unwrap());
    // The SDK tries again by itself.
    assert_eq!(read.send().await.unwrap().records().len(), 1);
    let tally = proxy.tally("GetRecords");
    assert_eq!((tally.calls, tally.refused, tally.faults), (2, 1, 1));
    assert!(tally.answer_bytes > 40_000, "in base64: {tally:?}");
    let called = proxy.called_by(aws::ACCESS_KEY);
    assert!(
        called.contains(&("PutRecord".to_owned(), "orders".to_owned())),
        "{called:?}"
    );
}

/// A subscription's events come through one by one, and meet what is to happen to them.
#[tokio::test]
async fn subscriptions_go_through_it() {
    let kinesis = EmbeddedKinesis::start(Config::default()).await.unwrap();
    kinesis.stop_clock();
    let proxy = Proxy::start(&kinesis.endpoint()).await;
    let client = aws::kinesis(&proxy.endpoint());
    let create = client.create_stream().stream_name("orders").shard_count(1);
    create.send().await.unwrap();
    let register = client.register_stream_consumer().consumer_name("app");
    let register = register.stream_arn(kinesis.stream_arn("orders"));
    let registered = register.send().await.unwrap();
    let consumer = registered.consumer().unwrap().consumer_arn();
    let latest = StartingPosition::builder().r#type(ShardIteratorType::Latest);
    let subscribe = client.subscribe_to_shard().consumer_arn(consumer);
    let subscribe = subscribe.shard_id("shardId-000000000000");
    let subscribe = subscribe.starting_position(latest.build().unwrap());
    let put = || {
        let put = client.put_record().stream_name("orders").partition_key("k");
        put.data(Blob::new(vec![7; 30_000])).send()
    };
    for then in [events::Trouble::Cut, events::Trouble::Silence] {
        let fault = Fault::Events {
            after: 1,
            then: then.clone(),
        };
        proxy
            .faults()
            .inject_on("orders", "SubscribeToShard", fault, 1);
        let mut events = subscribe.clone().send().await.unwrap().event_stream;
        put().await.unwrap();
        assert!(events.recv().await.unwrap().is_some());
        put().await.unwrap();
        match then {
            events::Trouble::Cut => drop(events.recv().await.unwrap_err()),
            _ => tokio::select! {
                biased;
                event = events.recv() => panic!("{event:?}"),
                () = std::future::ready(()) => {}
            },
        }
        drop(events);
        kinesis.wait_for_subscriptions(0).await;
        kinesis.advance(Duration::from_secs(5));
    }
    let tally = proxy.tally("SubscribeToShard");
    assert_eq!((tally.calls, tally.faults), (2, 2));
    assert!(tally.answer_bytes > 80_000, "in base64: {tally:?}");
}

#[tokio::test]
async fn it_ends_with_its_value() {
    let dynamodb = table().await;
    let client = once(&dynamodb);
    put(&client, "a").await.unwrap();
    drop(dynamodb);
    crate::until("no answer", async || put(&client, "b").await.err()).await;
}
