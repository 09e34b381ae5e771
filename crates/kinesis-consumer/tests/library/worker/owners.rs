//! Whose positions a lease table holds, and what in it nobody can read.

use kinesis_consumer::{
    Checkpoint, Error, Event, Position,
    lease::Lease,
    test_util::{Scan, ShardFilter, initial},
};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use super::world::{Told, What, World, checkpointing, config, seconds, shard};

fn at(world: &World, index: usize, record: usize) -> Checkpoint {
    let sequence_number = world.stream(|stream| stream.number_of(&shard(index), record));
    Checkpoint::At(Position {
        sequence_number,
        sub_sequence_number: 0,
    })
}

/// Leases without an identity, as Java leaves them, at these checkpoints.
fn javas(world: &World, checkpoints: &[Checkpoint]) -> Vec<Lease> {
    let shards = world.stream(|stream| stream.list(ShardFilter::All));
    let leases = initial(&shards, kinesis_consumer::InitialPosition::TrimHorizon).unwrap();
    let moved = leases.into_iter().zip(checkpoints);
    let leases: Vec<_> = moved
        .map(|(lease, checkpoint)| Lease {
            checkpoint: checkpoint.clone(),
            counter: 5,
            ..lease
        })
        .collect();
    leases
        .iter()
        .cloned()
        .for_each(|lease| world.table().put(lease));
    leases
}

/// The stream of these leases is another one: the worker stops within seconds, and has written
/// nothing.
async fn is_refused(world: &World, leases: &[Lease], stream: &str) -> Error {
    let began = Instant::now();
    let mut config = config("b");
    config.stream = stream.to_owned();
    let error = world.start(config, checkpointing()).error().await;
    assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
    assert_eq!(world.table().leases(), leases, "untouched");
    let told = error.to_string();
    assert!(told.contains("lease table application"), "{told}");
    assert!(!told.to_lowercase().contains("delete"), "{told}");
    error
}

#[tokio::test(start_paused = true)]
async fn leases_of_another_stream_are_refused_by_their_identity() {
    let world = World::new(2);
    world.put(0, 3);
    let a = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    a.stop().await.unwrap();
    let leases = world.table().leases();
    for lease in &leases {
        let identity = lease.stream_identity.as_deref().unwrap();
        assert!(
            identity.starts_with("stream/") && identity.len() < 50,
            "{identity}"
        );
    }
    let error = is_refused(&world, &leases, "stream-copy").await;
    assert!(
        matches!(&error, Error::OtherStream { found, .. } if found.contains("is of stream")),
        "{error}"
    );
    // By ARN it is the same stream, where the region is.
    let again = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    again.stop().await.unwrap();

    // Made anew under its old name: the same shard ids, other numbers.
    let anew = World::new(2);
    anew.stream(|stream| stream.split(0));
    for lease in &leases {
        let key = if lease.key.shard == shard(0) {
            shard(2)
        } else {
            shard(1)
        };
        anew.table().put(Lease {
            key: key.into(),
            ..lease.clone()
        });
    }
    let error = is_refused(&anew, &anew.table().leases(), "stream").await;
    assert!(matches!(error, Error::StreamRecreated { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn javas_leases_are_adopted_on_proof_and_named() {
    let world = World::new(4);
    (0..4).for_each(|index| world.put(index, 4));
    // The record comes back; the oldest one is later; two sentinels.
    let trimmed = Checkpoint::parse(
        world.stream(|stream| stream.list(ShardFilter::All))[1]
            .starting_sequence_number
            .as_str(),
        0,
    );
    let checkpoints = [
        at(&world, 0, 1),
        trimmed.unwrap(),
        Checkpoint::TrimHorizon,
        Checkpoint::Latest,
    ];
    javas(&world, &checkpoints);
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(10)).await;
    assert_eq!(world.delivered(0), [2, 3]);
    assert_eq!(world.delivered(1), [0, 1, 2, 3]);
    assert_eq!(world.delivered(2), [0, 1, 2, 3]);
    let leases = world.table().leases();
    assert!(
        leases.iter().all(|lease| lease.stream_identity.is_some()),
        "{leases:#?}"
    );
    worker.stop().await.unwrap();
}

/// The other stream is newer, so its positions are beyond all of ours.
#[tokio::test(start_paused = true)]
async fn javas_leases_of_another_stream_are_refused() {
    let world = World::new(2);
    world.put(0, 4);
    let beyond = Checkpoint::parse(&"9".repeat(38), 0).unwrap();
    let leases = javas(&world, &[beyond, Checkpoint::TrimHorizon]);
    let error = is_refused(&world, &leases, "stream").await;
    assert!(
        matches!(&error, Error::OtherStream { found, .. } if found.contains("does not come back")),
        "{error}"
    );

    let shards = World::new(2);
    let mut lease = Lease::new("shardId-000000000077", Checkpoint::parse("7", 0).unwrap());
    lease.counter = 5;
    shards.table().put(lease.clone());
    let error = is_refused(&shards, &[lease], "stream").await;
    assert!(
        matches!(&error, Error::OtherStream { found, .. } if found.contains("no shardId-000000000077")),
        "{error}"
    );
}

/// A shard that holds no record proves nothing: its lease waits for the first one, and says so.
#[rstest]
#[case::ours(true)]
#[case::anothers(false)]
#[tokio::test(start_paused = true)]
async fn an_idle_shards_lease_waits_for_the_first_record(#[case] is_ours: bool) {
    let world = World::new(2);
    let checkpoint = if is_ours {
        let start = world.stream(|stream| stream.list(ShardFilter::All))[0].clone();
        Checkpoint::parse(start.starting_sequence_number.as_str(), 0).unwrap()
    } else {
        Checkpoint::parse(&"9".repeat(38), 0).unwrap()
    };
    let leases = javas(&world, &[checkpoint, Checkpoint::TrimHorizon]);
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(60)).await;
    assert_eq!(
        world.table().leases(),
        leases,
        "nothing shows that the table is ours"
    );
    let waits = |told: &Told| matches!(&told.what, What::Event(Event::Unreadable { leases }) if leases.len() == 1);
    assert!(world.told().iter().any(waits), "{:#?}", world.told());
    world.put(0, 2);
    if is_ours {
        sleep(seconds(30)).await;
        assert_eq!(world.delivered(0), [0, 1]);
        worker.stop().await.unwrap();
    } else {
        let error = worker.error().await;
        assert!(matches!(error, Error::OtherStream { .. }), "{error}");
        assert_eq!(world.table().leases(), leases, "untouched");
    }
}

#[tokio::test(start_paused = true)]
async fn tables_of_another_kind_are_refused() {
    let odd = |key: &str, why: &str| vec![(key.to_owned(), why.to_owned())];
    let several = Scan {
        foreign: odd(
            "1:orders:2:shardId-0",
            "a lease of an application that reads several streams",
        ),
        ..Scan::default()
    };
    let anothers = Scan {
        broken: odd("shardId-0", "no checkpoint (S)"),
        ..Scan::default()
    };
    for (oddities, want) in [
        (several, "several streams"),
        (anothers, "no checkpoint (S)"),
    ] {
        let world = World::new(1);
        world.table().set_oddities(oddities);
        let error = world.start(config("a"), checkpointing()).error().await;
        assert!(
            matches!(&error, Error::ForeignTable { found, .. } if found.contains(want)),
            "{error}"
        );
        assert!(world.table().leases().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_can_read_is_told_and_no_hole_is_filled_over_it() {
    let world = World::new(2);
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    let row = world.table().lease(shard(1)).unwrap();
    world.table().delete_row(shard(1));
    world.table().set_oddities(Scan {
        broken: vec![(shard(1).to_string(), "no checkpoint (S)".to_owned())],
        ..Scan::default()
    });
    sleep(seconds(5)).await;
    world.table().put(row);
    world.table().set_oddities(Scan::default());
    sleep(seconds(60)).await;
    let unreadable: Vec<_> = world
        .told()
        .into_iter()
        .filter_map(|told| match told.what {
            What::Event(Event::Unreadable { leases }) => Some(leases),
            _ => None,
        })
        .collect();
    assert_eq!(unreadable.len(), 2, "{unreadable:?}");
    assert_eq!(unreadable[0][0].0, shard(1).as_str());
    assert!(unreadable[1].is_empty());
    worker.stop().await.unwrap();
}

/// A checkpoint that is too far on would skip records after the next start, and one that is too far
/// back would read them again.
#[rstest]
#[case::the_end(|_: &World| Checkpoint::ShardEnd)]
#[case::far_on(|_: &World| Checkpoint::parse(&"9".repeat(38), 0).unwrap())]
#[case::further_back(|world: &World| at(world, 0, 0))]
#[case::the_oldest(|_: &World| Checkpoint::TrimHorizon)]
#[tokio::test(start_paused = true)]
async fn a_held_leases_checkpoint_that_somebody_changes_is_put_back(
    #[case] changed: fn(&World) -> Checkpoint,
    #[values(true, false)] at_once: bool,
) {
    let world = World::new(1);
    world.put(0, 5);
    let first = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    let to = changed(&world);
    world
        .table()
        .edit(shard(0), |lease| lease.checkpoint = to.clone());
    if at_once {
        world.put(0, 5);
    }
    sleep(seconds(20)).await;
    let last = if at_once { 9 } else { 4 };
    let stands = world.table().lease(shard(0)).unwrap().checkpoint;
    assert_eq!(stands, at(&world, 0, last));
    let is_told = |told: &Told| match &told.what {
        What::Event(Event::CheckpointPutBack { found, .. }) => *found == to.to_string(),
        _ => false,
    };
    // A checkpoint of more records takes its place without a look.
    assert!(at_once || world.told().iter().any(is_told));
    first.stop().await.unwrap();
    world.put(0, 5);
    world.stream(|stream| stream.split(0));
    let second = world.start(config("b"), checkpointing());
    sleep(seconds(30)).await;
    let all: Vec<_> = (0..last as u64 + 6).collect();
    assert_eq!(world.delivered(0), all, "each once");
    second.stop().await.unwrap();
}

/// As a console does it: the whole item is written as it was read, with a change.
#[tokio::test(start_paused = true)]
async fn a_held_lease_that_somebody_writes_as_it_was_before_is_put_back() {
    let world = World::new(1);
    world.put(0, 5);
    let first = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    let read = world.table().lease(shard(0)).unwrap();
    sleep(seconds(30)).await;
    world.table().put(Lease {
        checkpoint: Checkpoint::ShardEnd,
        ..read
    });
    sleep(seconds(20)).await;
    let lease = world.table().lease(shard(0)).unwrap();
    assert_eq!(lease.checkpoint, at(&world, 0, 4));
    world.put(0, 5);
    sleep(seconds(20)).await;
    assert_eq!(world.delivered(0), (0..10).collect::<Vec<_>>());
    let lost = |told: &Told| matches!(told.what, What::Event(Event::LeaseLost { .. }));
    assert!(!world.told().iter().any(lost), "{:#?}", world.told());
    first.stop().await.unwrap();
}

/// Since when it stands is put back with it.
#[tokio::test(start_paused = true)]
async fn a_lease_at_latest_that_somebody_changes_is_put_back_with_its_time() {
    let world = World::new(1);
    let latest = |worker| {
        let mut config = config(worker);
        config.initial_position = kinesis_consumer::InitialPosition::Latest;
        config
    };
    let first = world.start(latest("a"), checkpointing());
    sleep(seconds(30)).await;
    let before = world.table().lease(shard(0)).unwrap().latest_since;
    assert!(before.is_some());
    world.table().edit(shard(0), |lease| {
        lease.checkpoint = Checkpoint::ShardEnd;
        lease.latest_since = None;
    });
    sleep(seconds(20)).await;
    let lease = world.table().lease(shard(0)).unwrap();
    assert_eq!(
        (&lease.checkpoint, lease.latest_since),
        (&Checkpoint::Latest, before)
    );
    first.kill().await;
    world.put(0, 3);
    let second = world.start(latest("b"), checkpointing());
    sleep(seconds(60)).await;
    assert_eq!(world.delivered(0), [0, 1, 2]);
    second.stop().await.unwrap();
}

/// Told at once, and as a gap where it is resharded before anybody mends it. The others go on.
#[rstest]
#[case::mended(true)]
#[case::resharded(false)]
#[tokio::test(start_paused = true)]
async fn an_open_shard_whose_lease_somebody_finished_is_told_at_once(#[case] is_mended: bool) {
    let world = World::new(2);
    (0..2).for_each(|index| world.put(index, 5));
    let first = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    first.stop().await.unwrap();
    let end = |lease: &mut Lease| lease.checkpoint = Checkpoint::ShardEnd;
    let stood = world.table().lease(shard(0)).unwrap().checkpoint;
    world.table().edit(shard(0), end);
    (0..2).for_each(|index| world.put(index, 5));
    let second = world.start(config("b"), checkpointing());
    sleep(seconds(5)).await;
    let unreadable = || {
        let told = world.told().into_iter().rev();
        let mut told = told.filter_map(|told| match told.what {
            What::Event(Event::Unreadable { leases }) => Some(leases),
            _ => None,
        });
        told.next().unwrap_or_default()
    };
    assert_eq!(unreadable()[0].0, shard(0).as_str());
    assert_eq!(world.delivered(1).len(), 10, "the others go on");
    sleep(seconds(120)).await;
    assert_eq!(unreadable().len(), 1, "it stays so");
    let gap = |told: &Told| matches!(told.what, What::Event(Event::CheckpointExpired { .. }));
    if is_mended {
        let back = |lease: &mut Lease| lease.checkpoint = stood.clone();
        world.table().edit(shard(0), back);
        sleep(seconds(120)).await;
        assert_eq!(world.delivered(0), (0..10).collect::<Vec<_>>());
        assert!(!world.told().iter().any(gap));
    } else {
        world.stream(|stream| stream.split(0));
        (2..4).for_each(|index| world.put(index, 5));
        sleep(seconds(120)).await;
        (2..4).for_each(|index| assert_eq!(world.delivered(index).len(), 5));
        assert_eq!(world.told().iter().filter(|told| gap(told)).count(), 1);
    }
    assert!(unreadable().is_empty());
    second.stop().await.unwrap();
}

/// The same while no worker runs: who makes the children's leases sees that nobody did.
#[tokio::test(start_paused = true)]
async fn a_shard_that_was_finished_by_nobody_and_resharded_is_told_as_a_gap() {
    let world = World::new(1);
    world.put(0, 5);
    let first = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    first.stop().await.unwrap();
    let end = |lease: &mut Lease| lease.checkpoint = Checkpoint::ShardEnd;
    world.table().edit(shard(0), end);
    world.put(0, 5);
    world.stream(|stream| stream.split(0));
    let second = world.start(config("b"), checkpointing());
    sleep(seconds(30)).await;
    let gap = |told: &&Told| matches!(told.what, What::Event(Event::CheckpointExpired { .. }));
    assert_eq!(world.told().iter().filter(gap).count(), 1);
    second.stop().await.unwrap();
}

/// Nothing but sentinels, which any stream may have: but this one has not what they say.
#[rstest]
#[case::finished_and_open(&["0!", "1!", "2", "3", "4", "5"])]
#[case::newer_than_all(&["0", "1", "2", "3", "4", "5"])]
#[tokio::test(start_paused = true)]
async fn javas_sentinels_of_an_older_stream_are_refused(#[case] leases: &[&str]) {
    let world = World::new(2);
    (0..2).for_each(|index| world.put(index, 5));
    for text in leases {
        let number: usize = text.trim_end_matches('!').parse().unwrap();
        let checkpoint = match text.ends_with('!') {
            true => Checkpoint::ShardEnd,
            false => Checkpoint::TrimHorizon,
        };
        world.table().put(Lease {
            counter: 5,
            ..Lease::new(shard(number), checkpoint)
        });
    }
    let before = world.table().leases();
    let error = is_refused(&world, &before, "stream").await;
    assert!(matches!(error, Error::StreamRecreated { .. }), "{error}");
}
