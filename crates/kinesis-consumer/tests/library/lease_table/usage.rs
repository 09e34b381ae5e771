//! What calls consume, as DynamoDB says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use kinesis_consumer::{Checkpoint, TableError, lease::Lease, test_util::LeaseTable};

use super::dynamodb::DynamoDb;

type Used = BTreeMap<&'static str, (f64, f64)>;

#[tokio::test]
async fn each_call_tells_the_units_that_it_consumed() {
    let db = DynamoDb::with_table().await;
    let table = db.table();
    let used = Arc::<Mutex<Used>>::default();
    let told = Arc::clone(&used);
    table.tell_usage(Box::new(move |operation, read, written| {
        let mut used = told.lock().unwrap();
        let (sum_read, sum_written) = used.entry(operation).or_default();
        *sum_read += read;
        *sum_written += written;
    }));
    let mut leases = Vec::new();
    // Rows of some 150 bytes.
    for index in 0..40 {
        let lease = Lease::new(format!("shardId-{index:012}"), Checkpoint::TrimHorizon);
        table.create(&lease).await.unwrap();
        leases.push(lease);
    }
    let taken = table.take(&leases[0], "me").await.unwrap();
    table.renew(&taken).await.unwrap();
    let refused = table.renew(&taken).await.unwrap_err();
    assert!(matches!(refused, TableError::Conflict(_)), "{refused}");
    assert!(table.read(&leases[1].key).await.unwrap().is_some());
    let keys: Vec<_> = leases[..3].iter().map(|lease| lease.key.clone()).collect();
    assert_eq!(table.look(&keys).await.unwrap().len(), 3);
    assert_eq!(table.scan().await.unwrap().leases.len(), 40);
    let want = [
        ("BatchGetItem", (1.5, 0.0)),
        ("GetItem", (1.0, 0.0)),
        ("PutItem", (0.0, 40.0)),
        // More than 4 KB.
        ("Scan", (1.0, 0.0)),
        ("UpdateItem", (0.0, 3.0)),
    ];
    assert_eq!(*used.lock().unwrap(), BTreeMap::from(want));
}
