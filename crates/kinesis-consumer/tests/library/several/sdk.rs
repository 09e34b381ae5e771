//! The same over embedded services, by the SDK: what AWS is asked, and what the table holds.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::EmbeddedKinesis;
use kinesis_consumer::{
    Config, Error, InitialPosition, Streams, TableError, Worker, each_batch,
    lease::Lease,
    test_util::{Account, DynamoDbTable, LeaseTable, SdkAccount},
};
use test_support::{DynamoDb, aws};
use tokio::time::timeout;

use super::world::World;

const TABLE: &str = "billing";

struct Services {
    kinesis: aws_sdk_kinesis::Client,
    _embedded: EmbeddedKinesis,
    dynamodb: DynamoDb,
}

impl Services {
    async fn with_streams(names: &[&str]) -> Self {
        let embedded = EmbeddedKinesis::start(embedded_kinesis::Config::default()).await;
        let embedded = embedded.unwrap();
        let kinesis = aws::kinesis(&embedded.endpoint());
        for name in names {
            let create = kinesis.create_stream().stream_name(*name).shard_count(1);
            create.send().await.unwrap();
            let put = kinesis.put_record().stream_name(*name).partition_key("k");
            put.data(Blob::new(*name)).send().await.unwrap();
        }
        Self {
            kinesis,
            _embedded: embedded,
            dynamodb: DynamoDb::start().await,
        }
    }

    /// Runs a worker until it has read `records`, or until it gives up.
    async fn run(&self, mut config: Config, records: usize) -> Result<Vec<String>, Error> {
        config.initial_position = InitialPosition::TrimHorizon;
        let (read, done) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let enough: Arc<tokio::sync::Notify> = Arc::clone(&done);
        let to = Arc::clone(&read);
        let processor = each_batch(move |batch, _| {
            let (to, done) = (Arc::clone(&to), Arc::clone(&done));
            async move {
                let data = batch.records.into_iter().map(|record| record.data);
                let data = data.map(|data| String::from_utf8_lossy(&data).into_owned());
                let mut read = to.lock().unwrap();
                read.extend(data);
                if read.len() == records {
                    done.notify_one();
                }
                Ok(())
            }
        });
        let (kinesis, dynamodb) = (self.kinesis.clone(), self.dynamodb.client.clone());
        let worker = Worker::new(config, kinesis, dynamodb, processor);
        let ended = timeout(Duration::from_secs(60), worker.run(enough.notified()));
        ended.await.unwrap()?;
        let mut read = read.lock().unwrap().clone();
        read.sort();
        Ok(read)
    }
}

#[tokio::test]
async fn a_table_of_several_streams_is_kcl_s_and_not_one_of_a_single_stream() {
    let services = Services::with_streams(&["orders-a", "orders-b", "payments"]).await;
    let several = Config::of_streams(Streams::of(["orders-*"]), TABLE, "worker-1");
    let read = services.run(several.clone(), 2).await.unwrap();
    assert_eq!(read, ["orders-a", "orders-b"]);

    let account = SdkAccount::new(services.kinesis.clone());
    let found = account.stream("orders-a").await.unwrap();
    assert_eq!(account.streams().await.unwrap().len(), 3);
    let id = found.id.to_string();
    let items = services.dynamodb.items(TABLE).await;
    assert_eq!(items.len(), 2);
    let text = |name: &str| {
        let mut texts: Vec<_> = items.iter().map(|it| it[name].as_s().unwrap()).collect();
        texts.sort();
        texts[0].clone()
    };
    assert_eq!(text("leaseKey"), format!("{id}:shardId-000000000000"));
    assert_eq!(text("streamName"), id);
    assert_eq!(text("shardId"), "shardId-000000000000");

    let one = Config::new("payments", TABLE, "worker-1");
    let error = services.run(one, 1).await.unwrap_err().to_string();
    let wanted = format!(
        "table billing is not the lease table of an application that reads one stream: item {id}:\
         shardId-000000000000: a lease of an application that reads several streams"
    );
    assert!(error.starts_with(&wanted), "{error}");

    let mut other = Config::new("payments", "other", "worker-1");
    services.run(other.clone(), 1).await.unwrap();
    other.stream.clear();
    other.streams = several.streams;
    let error = services.run(other, 1).await.unwrap_err().to_string();
    assert!(
        error.contains("reads several streams: item shardId-000000000000: a lease of an application that reads one"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lease_is_discarded_wherever_it_stands_unless_somebody_touched_it() {
    let services = Services::with_streams(&[]).await;
    let table = DynamoDbTable::new(services.dynamodb.client.clone(), TABLE, TABLE);
    let table = table.of_several_streams();
    table.ensure_exists().await.unwrap();
    let id = "123456789012:orders:100".parse().unwrap();
    let key = World::key(&id, 0);
    let lease = Lease::new(key.clone(), kinesis_consumer::Checkpoint::TrimHorizon);
    assert!(table.create(&lease).await.unwrap());
    assert_eq!(table.scan().await.unwrap().leases[0].key, key);
    let taken = table.take(&lease, "worker-1").await.unwrap();
    let refused = table.discard(&lease).await.unwrap_err();
    assert!(matches!(refused, TableError::Conflict(Some(it)) if it.key == key));
    table.discard(&taken).await.unwrap();
    assert!(table.read(&key).await.unwrap().is_none());
}
