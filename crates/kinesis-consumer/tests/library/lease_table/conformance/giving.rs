//! How a lease is given up, or to somebody.

use super::*;

#[rstest]
#[tokio::test]
async fn releases(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let taken = opened.table.take(&new, "me").await.expect("taken");
    opened.table.ask(&taken, "you", 0).await.expect("asked");
    opened.table.release(&taken).await.expect("released");
    let released = opened.lease("0").await;
    assert_eq!(released, Lease { counter: 2, ..new });
    opened
        .assert_conflict(opened.table.release(&taken).await)
        .await;
    let taken = opened.table.take(&released, "you").await.expect("taken");
    assert_eq!(taken.owner_switches, 0, "nobody had it");
}

#[rstest]
#[tokio::test]
async fn hands_over_to_who_asked(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let table = &opened.table;
    let unowned = table.ask(&new, "you", 0).await;
    assert!(
        matches!(unowned, Err(TableError::Conflict(_))),
        "nobody to ask: {unowned:?}"
    );
    let taken = table.take(&new, "me").await.expect("taken");
    table.ask(&taken, "you", 0).await.expect("asked");
    let asked = opened.lease("0").await;
    assert_eq!(
        asked,
        Lease {
            handover_to: Some("you".into()),
            handover_has: Some(0),
            ..taken.clone()
        },
        "the counter does not move"
    );

    opened
        .assert_conflict(table.ask(&taken, "another", 0).await)
        .await;
    table
        .ask(&asked, "another", 0)
        .await
        .expect("a request that was seen may be overwritten");
    let renewed = table.renew(&taken).await.expect("renewed");
    assert_eq!(
        renewed.handover_to.as_deref(),
        Some("another"),
        "the holder learns of it"
    );
    table
        .ask(&asked, "you", 0)
        .await
        .expect_err("the request has changed");
    let checkpointed = table
        .checkpoint(&renewed, &at("5", 0))
        .await
        .expect("written");
    assert_eq!(
        checkpointed.handover_to.as_deref(),
        Some("another"),
        "by a checkpoint too"
    );

    opened
        .assert_conflict(table.hand_over(&taken, "another").await)
        .await;
    let key = &checkpointed.key;
    opened
        .assert_conflict(table.withdraw(key, "you").await)
        .await;
    table.withdraw(key, "another").await.expect("withdrawn");
    let withdrawn = opened.lease("0").await;
    assert_eq!(withdrawn.handover_to, None);
    assert_eq!(withdrawn.counter, checkpointed.counter);
    opened
        .assert_conflict(table.hand_over(&checkpointed, "another").await)
        .await;
    table.ask(&withdrawn, "another", 0).await.expect("asked");
    table
        .hand_over(&checkpointed, "another")
        .await
        .expect("handed over");
    let theirs = opened.lease("0").await;
    assert_eq!(
        (
            theirs.owner.as_deref(),
            theirs.counter,
            theirs.owner_switches
        ),
        (Some("another"), 4, 1)
    );
    assert_eq!(theirs.handover_to, None);
    assert!(theirs.is_native());
    assert_eq!(theirs.checkpoint, at("5", 0));
    opened
        .assert_conflict(table.renew(&checkpointed).await)
        .await;
    opened
        .assert_conflict(table.checkpoint(&checkpointed, &at("6", 0)).await)
        .await;
    opened
        .assert_conflict(table.ask(&taken, "you", 0).await)
        .await;
}
