//! The SDK's side of the Kinesis seam, over the wire: pages, lineage, iterators, errors.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_kinesis::{Client, primitives::Blob, types::PutRecordsRequestEntry};
use embedded_kinesis::{Config, EmbeddedKinesis, FOREVER, Fault};
use kinesis_consumer::{
    InitialPosition, KinesisError,
    shards::StartFrom,
    test_util::{Kinesis, SdkKinesis, ShardFilter, child_shards, initial},
};

const STREAM: &str = "orders";

struct Server {
    kinesis: EmbeddedKinesis,
    client: Client,
}

impl Server {
    async fn start(shards: i32) -> Self {
        let instant = Config {
            creating: Duration::ZERO,
            updating: Duration::ZERO,
            ..Config::default()
        };
        let kinesis = EmbeddedKinesis::start(instant).await.expect("a server");
        let client = test_support::aws::kinesis(&kinesis.endpoint());
        client
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards)
            .send()
            .await
            .expect("created");
        Self { kinesis, client }
    }

    fn by_name(&self) -> SdkKinesis {
        SdkKinesis::new(self.client.clone(), STREAM)
    }

    fn by_arn(&self) -> SdkKinesis {
        SdkKinesis::new(self.client.clone(), self.kinesis.stream_arn(STREAM))
    }

    async fn put(&self, data: impl IntoIterator<Item = &str>) {
        let entry = |data: &str| {
            PutRecordsRequestEntry::builder()
                .partition_key(data)
                .data(Blob::new(data))
                .build()
                .expect("an entry")
        };
        let entries = data.into_iter().map(entry).collect();
        let put = self
            .client
            .put_records()
            .stream_name(STREAM)
            .set_records(Some(entries));
        put.send().await.expect("put");
    }
}

#[tokio::test]
async fn lists_every_page_by_name_and_arn() {
    let server = Server::start(3).await;
    for kinesis in [server.by_name(), server.by_arn()] {
        let shards = kinesis
            .list_shards(ShardFilter::AtLatest)
            .await
            .expect("listed");
        assert_eq!(shards.len(), 3);
        let leases = initial(&shards, InitialPosition::Latest).expect("all hash keys");
        assert_eq!(leases.len(), 3);
    }
    server.kinesis.faults().inject(
        "ListShards",
        Fault::aws("ExpiredNextTokenException", "expired"),
        1,
    );
    assert_eq!(
        server
            .by_name()
            .list_shards(ShardFilter::All)
            .await
            .expect("begun anew")
            .len(),
        3
    );
    server.kinesis.faults().inject(
        "ListShards",
        Fault::aws("ExpiredNextTokenException", "expired"),
        FOREVER,
    );
    let error = server
        .by_name()
        .list_shards(ShardFilter::All)
        .await
        .expect_err("gives up");
    assert!(matches!(error, KinesisError::Unavailable(_)), "{error:?}");
    assert_eq!(server.kinesis.count("DescribeStream"), 0);
}

/// More shards than a page has: 1000.
#[tokio::test]
async fn lists_more_shards_than_a_page_has() {
    let server = Server::start(1).await;
    server
        .kinesis
        .configure(|current| current.shard_limit = 2000);
    server
        .client
        .create_stream()
        .stream_name("wide")
        .shard_count(1500)
        .send()
        .await
        .expect("created");
    let wide = SdkKinesis::new(server.client.clone(), "wide");
    let shards = wide
        .list_shards(ShardFilter::AtLatest)
        .await
        .expect("listed");
    assert_eq!(shards.len(), 1500);
    initial(&shards, InitialPosition::Latest).expect("all hash keys");
}

#[tokio::test]
async fn reads_from_every_kind_of_position() {
    let server = Server::start(1).await;
    server.put(["a", "b", "c"]).await;
    for kinesis in [server.by_name(), server.by_arn()] {
        let shard = kinesis
            .list_shards(ShardFilter::AtLatest)
            .await
            .expect("listed")
            .remove(0);
        let read = async |from: StartFrom| {
            let iterator = kinesis
                .shard_iterator(&shard.id, &from)
                .await
                .expect("an iterator");
            let page = kinesis.records(&iterator, 10_000).await.expect("a page");
            assert!(page.next_iterator.is_some() && page.children.is_empty());
            page.records
        };
        let all = read(StartFrom::TrimHorizon).await;
        let texts: Vec<_> = all
            .iter()
            .map(|record| (&record.data[..], record.partition_key.as_str()))
            .collect();
        assert_eq!(texts, [(&b"a"[..], "a"), (b"b", "b"), (b"c", "c")]);
        assert!(
            all.iter()
                .all(|record| !record.aggregated && record.arrival.is_some())
        );
        assert!(all[0].sequence_number >= shard.starting_sequence_number);
        let second = all[1].sequence_number.clone();
        assert_eq!(
            read(StartFrom::AtSequenceNumber(second.clone())).await,
            all[1..]
        );
        assert_eq!(read(StartFrom::AfterSequenceNumber(second)).await, all[2..]);
        assert_eq!(
            read(StartFrom::AtTimestamp(all[0].arrival.expect("a time"))).await,
            all
        );
        assert_eq!(read(StartFrom::Latest).await, []);
    }
}

#[tokio::test]
async fn reads_the_largest_records_there_are() {
    const LARGEST: usize = 10 << 20;
    let server = Server::start(1).await;
    let allow = server.client.update_max_record_size();
    let allow = allow
        .stream_arn(server.kinesis.stream_arn(STREAM))
        .max_record_size_in_kib(10_240);
    allow.send().await.expect("allowed");
    for key in ["a", "b"] {
        let put = server.client.put_record().stream_name(STREAM);
        let data = Blob::new(vec![7; LARGEST - key.len()]);
        let put = put.partition_key(key).data(data).send().await;
        put.expect("put");
    }
    let kinesis = server.by_name();
    let shards = kinesis.list_shards(ShardFilter::AtLatest).await;
    let shard = &shards.expect("listed")[0].id;
    let start = kinesis.shard_iterator(shard, &StartFrom::TrimHorizon).await;
    let first = kinesis.records(&start.expect("an iterator"), 10_000).await;
    let first = first.expect("a page");
    let next = first.next_iterator.expect("open");
    let second = kinesis.records(&next, 10_000).await.expect("a page");
    for (page, key) in [(first.records, "a"), (second.records, "b")] {
        let sizes: Vec<_> = page
            .iter()
            .map(|record| (record.partition_key.as_str(), record.data.len()))
            .collect();
        assert_eq!(sizes, [(key, LARGEST - 1)], "one fills a page");
    }
}

#[tokio::test]
async fn a_closed_shard_ends_with_its_children() {
    let server = Server::start(1).await;
    server.put(["a"]).await;
    let kinesis = server.by_name();
    let parent = kinesis
        .list_shards(ShardFilter::AtLatest)
        .await
        .expect("listed")
        .remove(0);
    let middle = (u128::MAX / 2).to_string();
    let split = server
        .client
        .split_shard()
        .stream_name(STREAM)
        .shard_to_split(parent.id.as_str())
        .new_starting_hash_key(middle);
    split.send().await.expect("split");
    let listed = kinesis.list_shards(ShardFilter::All).await.expect("listed");
    let open: Vec<_> = listed.iter().filter(|shard| !shard.closed).collect();
    assert_eq!((listed.len(), open.len()), (3, 2));
    assert!(
        open.iter()
            .all(|shard| shard.parents == BTreeSet::from([parent.id.clone()]))
    );

    let mut iterator = kinesis
        .shard_iterator(&parent.id, &StartFrom::TrimHorizon)
        .await
        .ok();
    let mut records = 0;
    let mut children = Vec::new();
    while let Some(current) = iterator {
        let page = kinesis.records(&current, 1).await.expect("a page");
        records += page.records.len();
        children = page.children;
        iterator = page.next_iterator;
    }
    children.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(records, 1);
    assert_eq!(children, child_shards(&parent.id, &listed));
}

/// AWS's words where another policy would not help.
const DENIED_ABOVE: &str = "User: arn:aws:sts::111122223333:assumed-role/consumer/1 is not authorized to perform: \
     kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:111122223333:stream/orders with an explicit deny in a \
     service control policy: arn:aws:organizations::777788889999:policy/o-exampleorgid/service_control_policy/p-example";

#[tokio::test]
async fn errors_say_what_to_do_and_reads_are_not_retried() {
    let server = Server::start(1).await;
    let kinesis = server.by_name();
    let shard = kinesis
        .list_shards(ShardFilter::All)
        .await
        .expect("listed")
        .remove(0)
        .id;
    let iterator = kinesis
        .shard_iterator(&shard, &StartFrom::TrimHorizon)
        .await
        .expect("an iterator");
    let faults = server.kinesis.faults();
    for (fault, is) in [
        (
            Fault::throughput_exceeded(),
            (|error| matches!(error, KinesisError::Throttled(_))) as fn(&KinesisError) -> bool,
        ),
        (Fault::aws("KMSThrottlingException", "slower"), |error| {
            matches!(error, KinesisError::Throttled(_))
        }),
        (Fault::expired_iterator(), |error| {
            matches!(error, KinesisError::ExpiredIterator(_))
        }),
        (Fault::access_denied(), |error| {
            let is_permanent = matches!(error, KinesisError::Permanent(_));
            is_permanent && error.to_string().contains("Add to a policy")
        }),
        (Fault::aws("AccessDeniedException", DENIED_ABOVE), |error| {
            let is_permanent = matches!(error, KinesisError::Permanent(_));
            is_permanent && error.to_string().contains("no policy of the account helps")
        }),
        (Fault::not_found(), |error| {
            matches!(error, KinesisError::NotFound(_))
        }),
        (Fault::internal_error(), |error| {
            matches!(error, KinesisError::Unavailable(_))
        }),
        (Fault::Status(503), |error| {
            matches!(error, KinesisError::Unavailable(_))
        }),
        (Fault::Reset, |error| {
            matches!(error, KinesisError::Unavailable(_))
        }),
        (Fault::HalfBody, |error| {
            matches!(error, KinesisError::Unavailable(_))
        }),
        (Fault::Garbage, |error| {
            matches!(error, KinesisError::Unavailable(_))
        }),
        (Fault::EmptyJson, |error| {
            matches!(error, KinesisError::Unavailable(_))
        }),
    ] {
        server.kinesis.clear_calls();
        faults.inject("GetRecords", fault.clone(), FOREVER);
        let error = kinesis.records(&iterator, 10).await.expect_err("a fault");
        assert!(is(&error), "{fault:?}: {error:?}");
        assert!(error.to_string().contains(STREAM), "{error}");
        assert!(
            server.kinesis.count("GetRecords") <= 1,
            "{fault:?} was retried"
        );
        faults.clear();
    }
    let foreign = "1".parse().expect("digits");
    let error = kinesis
        .shard_iterator(&shard, &StartFrom::AfterSequenceNumber(foreign))
        .await
        .expect_err("foreign");
    assert!(
        matches!(error, KinesisError::InvalidSequenceNumber(_)),
        "{error:?}"
    );
    let none = SdkKinesis::new(server.client.clone(), "none")
        .list_shards(ShardFilter::All)
        .await
        .expect_err("none");
    assert!(matches!(none, KinesisError::NotFound(_)), "{none:?}");
}
