//! What every lease table does, whatever it is made of. To be read as the list of what a
//! table must do.

mod attributes;
mod giving;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kinesis_consumer::{
    Checkpoint, LeaseKey, TableError,
    lease::Lease,
    shards::HashRange,
    test_util::{Fault, Kcl3State, LeaseTable, MemoryTable},
};
use rstest::rstest;

use super::dynamodb::DynamoDb;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Memory,
    DynamoDb,
}
use Kind::{DynamoDb as Dynamo, Memory};

/// A table, and what it needs to live.
struct Opened {
    table: Arc<dyn LeaseTable>,
    memory: Option<MemoryTable>,
    server: Option<DynamoDb>,
}

impl Kind {
    async fn absent(self) -> Opened {
        match self {
            Memory => {
                let table = MemoryTable::new();
                Opened {
                    table: Arc::new(table.clone()),
                    memory: Some(table),
                    server: None,
                }
            }
            Dynamo => {
                let server = DynamoDb::start().await;
                Opened {
                    table: Arc::new(server.table()),
                    memory: None,
                    server: Some(server),
                }
            }
        }
    }

    async fn open(self) -> Opened {
        let opened = self.absent().await;
        assert!(opened.table.ensure_exists().await.expect("created"));
        opened
    }

    /// With one new lease, `0` at TRIM_HORIZON.
    async fn with_lease(self) -> (Opened, Lease) {
        let opened = self.open().await;
        let lease = Lease::new("0", Checkpoint::TrimHorizon);
        assert!(opened.table.create(&lease).await.expect("created"));
        (opened, lease)
    }
}

impl Opened {
    /// The same table in other hands.
    fn another_process(&self) -> Arc<dyn LeaseTable> {
        match (&self.memory, &self.server) {
            (Some(table), _) => Arc::new(table.with_faults(|_| Fault::default())),
            (_, Some(server)) => Arc::new(server.table()),
            _ => unreachable!("a table is of one kind"),
        }
    }

    async fn lease(&self, key: impl Into<LeaseKey>) -> Lease {
        self.table
            .read(&key.into())
            .await
            .expect("read")
            .expect("a lease")
    }

    /// The call lost to the lease as it is now.
    async fn assert_conflict<T: std::fmt::Debug>(&self, answer: Result<T, TableError>) {
        let Err(TableError::Conflict(Some(stored))) = answer else {
            panic!("no conflict: {answer:?}")
        };
        assert_eq!(*stored, self.lease(stored.key.clone()).await);
    }
}

fn at(sequence_number: &str, sub: u64) -> Checkpoint {
    Checkpoint::parse(sequence_number, sub).expect("a checkpoint")
}

#[rstest]
#[tokio::test]
async fn is_created_once(#[values(Memory, Dynamo)] kind: Kind) {
    let opened = kind.absent().await;
    assert!(opened.table.ensure_exists().await.expect("created"));
    assert!(!opened.table.ensure_exists().await.expect("there"));
    assert_eq!(opened.table.scan().await.expect("empty").leases, []);
    assert_eq!(
        opened.table.read(&"0".into()).await.expect("an answer"),
        None
    );
    assert_eq!(
        opened.table.kcl3_state().await.expect("an answer"),
        Kcl3State::default()
    );
}

#[rstest]
#[tokio::test]
async fn keeps_a_new_lease_as_it_is(#[values(Memory, Dynamo)] kind: Kind) {
    let opened = kind.open().await;
    let first = Lease {
        parents: BTreeSet::from(["a".into(), "b".into()]),
        hash_range: Some(HashRange {
            start: 0,
            end: u128::MAX,
        }),
        latest_since: Some(Timestamp::from_millisecond(1_795_418_063_351).expect("a time")),
        ..Lease::new("0", Checkpoint::Latest)
    };
    assert!(opened.table.create(&first).await.expect("created"));
    assert_eq!(opened.lease("0").await, first);
    assert_eq!(
        opened.table.scan().await.expect("scanned").leases,
        std::slice::from_ref(&first)
    );
    assert!(
        !opened
            .table
            .create(&Lease::new("0", Checkpoint::TrimHorizon))
            .await
            .expect("no error")
    );
    assert_eq!(
        opened.lease("0").await,
        first,
        "the second one changes nothing"
    );
}

#[rstest]
#[tokio::test]
async fn scans_all_of_many(#[values(Memory, Dynamo)] kind: Kind) {
    let opened = kind.open().await;
    let keys: BTreeSet<_> = (0..120)
        .map(|index| LeaseKey::from(format!("shardId-{index:012}")))
        .collect();
    for key in &keys {
        opened
            .table
            .create(&Lease::new(key.clone(), Checkpoint::TrimHorizon))
            .await
            .expect("created");
    }
    let scanned = opened.table.scan().await.expect("scanned").leases;
    assert_eq!(scanned.len(), keys.len());
    assert_eq!(
        scanned
            .into_iter()
            .map(|lease| lease.key)
            .collect::<BTreeSet<_>>(),
        keys
    );
}

#[rstest]
#[tokio::test]
async fn takes(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let mine = opened.table.take(&new, "me").await.expect("taken");
    assert_eq!(
        (mine.owner.as_deref(), mine.counter, mine.owner_switches),
        (Some("me"), 1, 0)
    );
    assert!(mine.is_native());
    assert_eq!(opened.lease("0").await, mine);
    opened
        .assert_conflict(opened.table.take(&new, "you").await)
        .await;

    let yours = opened.table.take(&mine, "you").await.expect("taken");
    assert_eq!(
        (yours.owner.as_deref(), yours.counter, yours.owner_switches),
        (Some("you"), 2, 1)
    );
    let again = opened.table.take(&yours, "you").await.expect("taken");
    assert_eq!(
        (again.owner_switches, again.counter),
        (1, 3),
        "from oneself is no switch"
    );

    let gone = opened
        .table
        .take(&Lease::new("7", Checkpoint::Latest), "me")
        .await;
    assert!(matches!(gone, Err(TableError::Conflict(None))), "{gone:?}");
}

/// Two processes of one worker id are told apart.
#[rstest]
#[tokio::test]
async fn says_which_process_took_a_lease(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let other = opened.another_process();
    let first = opened.table.take(&new, "me").await.expect("taken");
    let renewed = opened.table.renew(&first).await.expect("renewed");
    assert!(first.native_process.is_some());
    assert_eq!(renewed.native_process, first.native_process);
    let second = other.take(&renewed, "me").await.expect("taken");
    assert!(second.native_process.is_some());
    assert_ne!(second.native_process, first.native_process);
    let again = opened.table.take(&second, "me").await.expect("taken");
    assert_eq!(again.native_process, first.native_process);
    opened.table.ask(&again, "you", 0).await.expect("asked");
    opened
        .table
        .hand_over(&again, "you")
        .await
        .expect("handed over");
    let theirs = opened.lease("0").await;
    assert_eq!(
        theirs.native_process, None,
        "it will say so when it takes it"
    );
    let theirs = other.take(&theirs, "you").await.expect("taken");
    other.release(&theirs).await.expect("released");
    assert_eq!(opened.lease("0").await.native_process, None);
}

#[rstest]
#[tokio::test]
async fn renews(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let taken = opened.table.take(&new, "me").await.expect("taken");
    let renewed = opened.table.renew(&taken).await.expect("renewed");
    assert_eq!(
        renewed,
        Lease {
            counter: 2,
            native_counter: Some(2),
            native_clock: renewed.native_clock,
            ..taken.clone()
        }
    );
    assert!(renewed.is_native());
    opened
        .assert_conflict(opened.table.renew(&taken).await)
        .await;
    let gone = opened
        .table
        .renew(&Lease::new("7", Checkpoint::Latest))
        .await;
    assert!(matches!(gone, Err(TableError::Conflict(None))), "{gone:?}");
}

/// Only the holder's own renewals and checkpoints say how busy it is: whoever comes next starts
/// without.
#[rstest]
#[tokio::test]
async fn tells_how_busy_the_holder_is(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let table = &opened.table;
    let busy = |lease: Lease, busy_permille| Lease {
        busy_permille,
        ..lease
    };
    let mut held = table.take(&new, "me").await.expect("taken");
    assert_eq!(held.busy(), None);
    for permille in [Some(0), Some(1), Some(125), Some(1000), None, Some(875)] {
        held = table.renew(&busy(held, permille)).await.expect("renewed");
        assert_eq!(held.busy_permille, permille);
        assert_eq!(opened.lease("0").await, held);
    }
    assert_eq!(held.busy(), Some(0.875));
    for (number, permille) in [("5", Some(250)), ("6", None), ("7", Some(500))] {
        let (lease, checkpoint) = (busy(held, permille), at(number, 0));
        held = table
            .checkpoint(&lease, &checkpoint)
            .await
            .expect("written");
        assert_eq!(opened.lease("0").await, held);
        assert_eq!(held.busy_permille, permille);
    }

    let stolen = table.take(&held, "you").await.expect("taken");
    assert_eq!(stolen.busy_permille, None);
    let held = table.renew(&busy(stolen, Some(1))).await.expect("renewed");
    table.ask(&held, "another", 0).await.expect("asked");
    table
        .hand_over(&held, "another")
        .await
        .expect("handed over");
    let theirs = opened.lease("0").await;
    assert_eq!(theirs.busy_permille, None);
    let held = table.renew(&busy(theirs, Some(1))).await.expect("renewed");
    table.release(&held).await.expect("released");
    assert_eq!(opened.lease("0").await.busy_permille, None);
}

#[rstest]
#[tokio::test]
async fn checkpoints(#[values(Memory, Dynamo)] kind: Kind) {
    let opened = kind.open().await;
    let since = Timestamp::from_millisecond(5).ok();
    let new = Lease {
        latest_since: since,
        ..Lease::new("0", Checkpoint::Latest)
    };
    opened.table.create(&new).await.expect("created");
    let taken = opened.table.take(&new, "you").await.expect("taken");
    let taken = opened.table.take(&taken, "me").await.expect("taken");
    assert_eq!((taken.owner_switches, taken.latest_since), (1, since));
    let number = "49680483476475808707584783019624565094204474651800764418";
    let written = opened
        .table
        .checkpoint(&taken, &at(number, 7))
        .await
        .expect("written");
    let want = Lease {
        checkpoint: at(number, 7),
        counter: 3,
        native_counter: Some(3),
        native_clock: written.native_clock,
        owner_switches: 0,
        latest_since: None,
        busy_permille: None,
        ..taken.clone()
    };
    assert_eq!(written, want);
    assert_eq!(opened.lease("0").await, want);
    opened
        .assert_conflict(opened.table.checkpoint(&taken, &Checkpoint::ShardEnd).await)
        .await;
    let ended = opened
        .table
        .checkpoint(&written, &Checkpoint::ShardEnd)
        .await
        .expect("written");
    assert!(ended.is_finished());
}

#[rstest]
#[tokio::test]
async fn deletes_what_is_finished(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    opened
        .assert_conflict(opened.table.delete(&new).await)
        .await;
    let taken = opened.table.take(&new, "me").await.expect("taken");
    let ended = opened
        .table
        .checkpoint(&taken, &Checkpoint::ShardEnd)
        .await
        .expect("written");
    opened
        .assert_conflict(opened.table.delete(&taken).await)
        .await;
    opened.table.delete(&ended).await.expect("deleted");
    assert_eq!(
        opened.table.read(&"0".into()).await.expect("an answer"),
        None
    );
    let gone = opened.table.delete(&ended).await;
    assert!(matches!(gone, Err(TableError::Conflict(None))), "{gone:?}");
}

#[rstest]
#[tokio::test]
async fn one_of_many_takes(#[values(Memory, Dynamo)] kind: Kind) {
    let (opened, new) = kind.with_lease().await;
    let takes = (0..8).map(|index| {
        let (table, new) = (Arc::clone(&opened.table), new.clone());
        tokio::spawn(async move { table.take(&new, &format!("worker-{index}")).await })
    });
    let mut winners = Vec::new();
    for take in takes.collect::<Vec<_>>() {
        match take.await.expect("no panic") {
            Ok(lease) => winners.push(lease),
            Err(TableError::Conflict(Some(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners, [opened.lease("0").await]);
}
