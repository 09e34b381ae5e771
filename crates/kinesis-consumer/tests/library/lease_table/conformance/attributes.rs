//! What stands beside a lease and moves no counter.

use super::*;

#[rstest]
#[tokio::test]
async fn remembers_since_when_latest_stands(#[values(Memory, Dynamo)] kind: Kind) {
    let opened = kind.open().await;
    let new = Lease::new("0", Checkpoint::Latest);
    opened.table.create(&new).await.expect("created");
    let since = Timestamp::from_millisecond(1_795_418_063_351).expect("a time");
    opened
        .table
        .remember_latest(&"0".into(), since)
        .await
        .expect("written");
    let remembered = opened.lease("0").await;
    assert_eq!(
        remembered,
        Lease {
            latest_since: Some(since),
            ..new
        }
    );
    opened
        .assert_conflict(
            opened
                .table
                .remember_latest(&"0".into(), Timestamp::UNIX_EPOCH)
                .await,
        )
        .await;
    opened
        .table
        .checkpoint(&remembered, &at("5", 0))
        .await
        .expect("written");
    opened
        .assert_conflict(opened.table.remember_latest(&"0".into(), since).await)
        .await;
    let gone = opened.table.remember_latest(&"7".into(), since).await;
    assert!(matches!(gone, Err(TableError::Conflict(None))), "{gone:?}");
}

#[rstest]
#[tokio::test]
async fn writes_children_and_hash_ranges_without_moving_the_counter(
    #[values(Memory, Dynamo)] kind: Kind,
) {
    let (opened, new) = kind.with_lease().await;
    let children = BTreeSet::from(["1".into(), "2".into()]);
    let range = HashRange {
        start: 1,
        end: u128::MAX - 1,
    };
    opened
        .table
        .set_children(&"0".into(), &children)
        .await
        .expect("written");
    opened
        .table
        .set_hash_range(&"0".into(), range)
        .await
        .expect("written");
    let want = Lease {
        children: children.clone(),
        hash_range: Some(range),
        ..new
    };
    assert_eq!(opened.lease("0").await, want);
    opened
        .table
        .set_children(&"0".into(), &BTreeSet::new())
        .await
        .expect("nothing to write");
    assert_eq!(opened.lease("0").await, want);
    for gone in [
        opened.table.set_children(&"7".into(), &children).await,
        opened.table.set_hash_range(&"7".into(), range).await,
    ] {
        assert!(matches!(gone, Err(TableError::Conflict(None))), "{gone:?}");
    }
    assert_eq!(
        opened.table.read(&"7".into()).await.expect("an answer"),
        None,
        "no lease comes into being"
    );
}

/// Which stream a lease is of is written when it is made, when it is taken, and once for one that
/// lacks it.
#[rstest]
#[tokio::test]
async fn remembers_the_stream(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let table = &opened.table;
    table.set_stream(&new.key, "a/1/2").await.expect("written");
    let named = opened.lease("0").await;
    assert_eq!(named.stream_identity.as_deref(), Some("a/1/2"));
    assert_eq!(named.counter, new.counter);
    opened
        .assert_conflict(table.set_stream(&new.key, "b/1/2").await)
        .await;
    let other = Lease {
        stream_identity: Some("b/1/2".to_owned()),
        ..named
    };
    let taken = table.take(&other, "me").await.expect("taken");
    assert_eq!(taken.stream_identity.as_deref(), Some("b/1/2"));
    let renewed = table.renew(&taken).await.expect("renewed");
    table.release(&renewed).await.expect("released");
    let left = opened.lease("0").await;
    assert_eq!(left.stream_identity.as_deref(), Some("b/1/2"));
    let born = Lease {
        stream_identity: Some("c/1/2".to_owned()),
        ..Lease::new("1", Checkpoint::Latest)
    };
    assert!(table.create(&born).await.expect("created"));
    assert_eq!(
        opened.lease("1").await.stream_identity,
        born.stream_identity
    );
}

/// What others want the holder to look at comes with its next write, and goes with the one after.
#[rstest]
#[tokio::test]
async fn tells_the_holder_news(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let table = &opened.table;
    let news = |keys: &[&str]| keys.iter().map(|key| LeaseKey::from(*key)).collect();
    table
        .tell(&new, &news(&["1"]))
        .await
        .expect("nobody to tell");
    let taken = table.take(&new, "me").await.expect("taken");
    assert!(taken.news.is_empty());
    table.tell(&taken, &news(&["1", "2"])).await.expect("told");
    table.tell(&taken, &news(&["2", "3"])).await.expect("told");
    let renewed = table.renew(&taken).await.expect("renewed");
    assert_eq!(renewed.news, news(&["1", "2", "3"]));
    table.tell(&taken, &news(&["4"])).await.expect("told");
    let checkpointed = table.checkpoint(&renewed, &at("5", 0)).await;
    let checkpointed = checkpointed.expect("written");
    assert_eq!(checkpointed.news, news(&["4"]), "what came since");
    let renewed = table.renew(&checkpointed).await.expect("renewed");
    assert!(renewed.news.is_empty());
    table.tell(&renewed, &news(&["5"])).await.expect("told");
    table.release(&renewed).await.expect("released");
    let released = opened.lease("0").await;
    assert!(released.news.is_empty() && released.native_clock.is_none());
    opened
        .assert_conflict(table.tell(&renewed, &news(&["6"])).await)
        .await;
}

/// By the clock of the process that writes, and of nobody else.
#[rstest]
#[tokio::test]
async fn says_how_old_the_holders_process_is(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let table = &opened.table;
    let taken = table.take(&new, "me").await.expect("taken");
    let clock = taken.native_clock.expect("a clock");
    let renewed = table.renew(&taken).await.expect("renewed");
    assert!(renewed.native_clock >= Some(clock));
    table.ask(&renewed, "you", 3).await.expect("asked");
    let asked = opened.lease("0").await;
    assert_eq!(asked.handover_has, Some(3));
    assert_eq!(asked.native_clock, renewed.native_clock);
    table.hand_over(&renewed, "you").await.expect("handed over");
    let theirs = opened.lease("0").await;
    assert_eq!((theirs.native_clock, theirs.handover_has), (None, None));
}

#[rstest]
#[tokio::test]
async fn looks_at_some(#[values(Memory, Dynamo)] kind: Kind) {
    let opened = kind.open().await;
    for number in 0..120 {
        let lease = Lease::new(number.to_string(), Checkpoint::Latest);
        assert!(opened.table.create(&lease).await.expect("created"));
    }
    // More than one call may ask for, and one that is not there.
    let keys: Vec<LeaseKey> = (10..121).map(|number| number.to_string().into()).collect();
    let mut seen = opened.table.look(&keys).await.expect("an answer");
    seen.sort_by_key(|lease| lease.key.to_string().parse::<u32>().expect("a number"));
    let seen: Vec<_> = seen.into_iter().map(|lease| lease.key).collect();
    assert_eq!(seen, keys[..110]);
    assert_eq!(opened.table.look(&[]).await.expect("nothing"), []);
}

/// What a lease takes of its holder's time goes with it, a request's load with the request.
#[rstest]
#[tokio::test]
async fn keeps_the_share_of_a_lease_and_forgets_how_busy_an_asker_was(
    #[values(Memory, Dynamo)] kind: Kind,
) {
    let (opened, new) = kind.with_lease().await;
    let table = &opened.table;
    let measured = |lease: &Lease, share| Lease {
        share_permille: share,
        ..lease.clone()
    };
    let taken = table.take(&measured(&new, Some(0)), "me").await;
    let taken = taken.expect("taken");
    assert_eq!(taken.share_permille, Some(0));
    let renewed = table.renew(&measured(&taken, Some(457))).await;
    let renewed = renewed.expect("renewed");
    assert_eq!(renewed.share_permille, Some(457));

    let asking = Lease {
        handover_load: Some(120),
        ..renewed.clone()
    };
    table.ask(&asking, "you", 2).await.expect("asked");
    let asked = opened.lease("0").await;
    assert_eq!(
        (asked.handover_has, asked.handover_load),
        (Some(2), Some(120))
    );
    let by_number = Lease {
        handover_load: None,
        ..asked.clone()
    };
    table.ask(&by_number, "another", 1).await.expect("asked");
    assert_eq!(opened.lease("0").await.handover_load, None);
    table.withdraw(&"0".into(), "another").await.expect("gone");
    table.ask(&asking, "you", 2).await.expect("asked");
    table.hand_over(&renewed, "you").await.expect("given");
    let given = opened.lease("0").await;
    assert_eq!(
        (given.share_permille, given.handover_load),
        (Some(457), None)
    );

    let taken = table.take(&given, "you").await.expect("taken");
    table
        .ask(
            &Lease {
                handover_load: Some(1),
                ..taken.clone()
            },
            "me",
            0,
        )
        .await
        .expect("asked");
    table.withdraw(&"0".into(), "me").await.expect("gone");
    assert_eq!(opened.lease("0").await.handover_load, None);
    let checkpointed = table.checkpoint(&taken, &at("5", 0)).await;
    let checkpointed = checkpointed.expect("written");
    assert_eq!(checkpointed.share_permille, Some(457));
    table.release(&checkpointed).await.expect("released");
    let released = opened.lease("0").await;
    assert_eq!(
        released.share_permille,
        Some(457),
        "who takes it knows what it gets"
    );
    // One that deals by number says nothing of it.
    let taken = table.take(&measured(&released, None), "me").await;
    assert_eq!(taken.expect("taken").share_permille, None);
}
