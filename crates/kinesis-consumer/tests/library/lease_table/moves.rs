//! Leases that Java's workers and leaders move while we hold them.

use kinesis_consumer::{Checkpoint, TableError, lease::Lease, test_util::LeaseTable};

use super::{dynamodb::DynamoDb, java};

#[tokio::test]
async fn a_java_take_ends_our_hold_and_is_seen_as_javas() {
    let db = DynamoDb::with_table().await;
    let table = db.table();
    table
        .create(&Lease::new("0", Checkpoint::Latest))
        .await
        .expect("created");
    let ours = table
        .take(&Lease::new("0", Checkpoint::Latest), "ours")
        .await
        .expect("taken");
    let busy = Lease {
        busy_permille: Some(250),
        ..ours
    };
    let ours = table.renew(&busy).await.expect("renewed");
    assert_eq!(ours.busy(), Some(0.25));
    table.ask(&ours, "asker", 0).await.expect("asked");
    assert!(java::take(&db, "0", ours.counter, "java").await);
    let theirs = table
        .read(&"0".into())
        .await
        .expect("read")
        .expect("a lease");
    assert!(!theirs.is_native(), "{theirs:?}");
    assert_eq!(
        (theirs.busy_permille, theirs.busy()),
        (Some(250), None),
        "it stands, and says nothing of a Java worker"
    );
    assert_eq!(
        theirs.handover_to.as_deref(),
        Some("asker"),
        "2.x leaves what it does not know"
    );
    for lost in [
        table.renew(&ours).await,
        table.checkpoint(&ours, &Checkpoint::ShardEnd).await,
    ] {
        let Err(TableError::Conflict(Some(now))) = lost else {
            panic!("{lost:?}")
        };
        assert_eq!(*now, theirs);
    }
    table
        .ask(&theirs, "asker", 0)
        .await
        .expect_err("Java does not answer");
    let taken = table.take(&theirs, "asker").await.expect("stolen");
    assert_eq!(
        (taken.handover_to.as_deref(), taken.busy_permille),
        (None, None)
    );
    assert!(taken.is_native());
}

#[tokio::test]
async fn a_move_by_a_kcl_3_leader_is_seen_and_let_go_to_the_next_owner() {
    let db = DynamoDb::with_table().await;
    let table = db.table();
    table
        .create(&Lease::new("0", Checkpoint::TrimHorizon))
        .await
        .expect("created");
    let ours = table
        .take(&Lease::new("0", Checkpoint::TrimHorizon), "ours")
        .await
        .expect("taken");
    table.ask(&ours, "other", 0).await.expect("asked");
    java::begin_move(&db, "0", "ours", "next").await;
    let Err(TableError::Conflict(Some(moving))) = table.renew(&ours).await else {
        panic!("renewed")
    };
    assert_eq!(
        (moving.holder(), moving.owner.as_deref()),
        (Some("ours"), Some("next"))
    );
    assert_eq!(moving.counter, ours.counter, "still ours to checkpoint");
    table
        .hand_over(&ours, "other")
        .await
        .expect_err("the leader decides");
    let checkpoint = Checkpoint::parse("5", 0).expect("digits");
    let ours = table.checkpoint(&ours, &checkpoint).await.expect("written");
    table
        .release(&Lease {
            checkpoint_owner: None,
            ..ours
        })
        .await
        .expect("released, though we had not seen the move");
    let theirs = table
        .read(&"0".into())
        .await
        .expect("read")
        .expect("a lease");
    assert_eq!(
        (theirs.holder(), theirs.checkpoint_owner.as_deref()),
        (Some("next"), None)
    );
    assert_eq!(theirs.checkpoint, checkpoint);
}
