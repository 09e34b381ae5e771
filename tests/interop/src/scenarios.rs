//! What is tried. Records trickle all along but where a scenario says otherwise; every scenario
//! ends with [`World::close`], which judges.

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};

use crate::{
    process::{Kcl, Side},
    world::{Outcome, World},
};

/// Shards of a new stream.
const SHARDS: usize = 4;

/// A scenario, without the version of the KCL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scenario {
    /// One starts on an empty table, the other joins, and they share.
    Starts(Start),
    /// They share, then one ends.
    Ends(Start, End),
    /// A split and a merge while they share.
    Reshard,
    /// Two streams, one application: Java begins, we take over, and Java goes on.
    SeveralStreams,
    /// One works alone and is killed inside an aggregate, the other goes on alone, and back.
    TakesOver(Start),
    /// They share by enhanced fan-out with one consumer, and each ends and comes back.
    FanOut,
    /// A KCL 3 leader gives us leases of its own, and another KCL worker some of ours.
    Moves,
    /// A KCL 3 leader is killed.
    LeaderKilled,
    /// A KCL 3 leader is killed, and another one comes: two minutes.
    LeaderComesBack,
    /// KCL 3 leads from some moment on, as every worker reports itself: ten minutes.
    Upgrade,
}

/// Who is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    Java,
    Rust,
}

/// How a worker ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// SIGTERM.
    Terminate,
    /// `kill -9`.
    Kill,
}

/// Those with workers that take leases, by name.
pub(crate) const TAKING: [(&str, Scenario); 11] = [
    ("java-first", Scenario::Starts(Start::Java)),
    ("rust-first", Scenario::Starts(Start::Rust)),
    ("term-java", Scenario::Ends(Start::Java, End::Terminate)),
    ("term-rust", Scenario::Ends(Start::Rust, End::Terminate)),
    ("kill-java", Scenario::Ends(Start::Java, End::Kill)),
    ("kill-rust", Scenario::Ends(Start::Rust, End::Kill)),
    ("reshard", Scenario::Reshard),
    ("several-streams", Scenario::SeveralStreams),
    ("java-takes-over", Scenario::TakesOver(Start::Java)),
    ("rust-takes-over", Scenario::TakesOver(Start::Rust)),
    ("fan-out", Scenario::FanOut),
];

/// Those with a KCL 3 leader, by name.
pub(crate) const LED: [(&str, Scenario); 4] = [
    ("moves", Scenario::Moves),
    ("leader-killed", Scenario::LeaderKilled),
    ("leader-comes-back", Scenario::LeaderComesBack),
    ("reshard", Scenario::Reshard),
];

/// That of an upgrade.
pub(crate) const UPGRADING: [(&str, Scenario); 1] = [("upgrade", Scenario::Upgrade)];

impl Start {
    fn side(self, kcl: Kcl) -> Side {
        match self {
            Self::Java => Side::Java(kcl),
            Self::Rust => Side::Rust,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Java => Self::Rust,
            Self::Rust => Self::Java,
        }
    }
}

/// Runs one.
pub(crate) async fn run(scenario: Scenario, kcl: Kcl, logs: &Path) -> Result<Outcome> {
    let shards = i32::try_from(SHARDS)?;
    let mut world = match scenario {
        Scenario::SeveralStreams => World::start_several(logs, shards / 2, kcl.has_items()).await?,
        _ => World::start(logs, shards, kcl.has_items()).await?,
    };
    let played = match scenario {
        Scenario::Starts(first) => starts(&mut world, first, kcl).await,
        Scenario::Ends(who, how) => ends(&mut world, who, how, kcl).await,
        Scenario::Reshard => reshard(&mut world, kcl).await,
        Scenario::SeveralStreams => several_streams(&mut world, kcl).await,
        Scenario::TakesOver(who) => takes_over(&mut world, who, kcl).await,
        Scenario::FanOut => fan_out(&mut world, kcl).await,
        Scenario::Moves => moves(&mut world, kcl).await,
        Scenario::LeaderKilled => leader_killed(&mut world, kcl).await.map(drop),
        Scenario::LeaderComesBack => leader_comes_back(&mut world, kcl).await,
        Scenario::Upgrade => upgrade(&mut world, kcl).await,
    };
    let history = Arc::clone(&world.table);
    let outcome = match played {
        Ok(()) => world.close().await,
        Err(error) => Err(error),
    };
    outcome.map_err(|error| {
        let history = history.history().join("\n  ");
        error.context(format!("leases:\n  {history}\nlogs: {}", logs.display()))
    })
}

async fn starts(world: &mut World, first: Start, kcl: Kcl) -> Result<()> {
    world.trickle();
    let one = world.run(first.side(kcl))?;
    world.until_hold(&[(one, SHARDS)]).await?;
    world.until_flows(&[one]).await?;
    let two = world.run(first.other().side(kcl))?;
    world
        .until_hold(&[(one, SHARDS / 2), (two, SHARDS / 2)])
        .await?;
    world.until_shared(&[one, two]).await?;
    world.still().await?;
    world.verify_scaler().await
}

/// We start, for Java takes up to half a minute to believe that a table is empty.
async fn share(world: &mut World, kcl: Kcl) -> Result<(usize, usize)> {
    world.trickle();
    let rust = world.run(Side::Rust)?;
    world.until_hold(&[(rust, SHARDS)]).await?;
    let java = world.run(Side::Java(kcl))?;
    let half = SHARDS / 2;
    world.until_hold(&[(rust, half), (java, half)]).await?;
    world.until_shared(&[rust, java]).await?;
    Ok((rust, java))
}

async fn ends(world: &mut World, who: Start, how: End, kcl: Kcl) -> Result<()> {
    let (rust, java) = share(world, kcl).await?;
    let (ends, stays) = match who {
        Start::Java => (java, rust),
        Start::Rust => (rust, java),
    };
    match how {
        End::Terminate => world.terminate(ends).await?,
        End::Kill => world.kill(ends).await?,
    }
    world.until_hold(&[(stays, SHARDS)]).await?;
    world.until_flows(&[stays]).await?;
    // And comes back under another name.
    let again = world.run(who.side(kcl))?;
    world
        .until_hold(&[(stays, SHARDS / 2), (again, SHARDS / 2)])
        .await?;
    world.until_shared(&[stays, again]).await
}

async fn reshard(world: &mut World, kcl: Kcl) -> Result<()> {
    let (rust, java) = share(world, kcl).await?;
    // One shard of each worker is split: the first and the third, or two others.
    for number in [rust, java] {
        let held = world.held(number);
        let open = world.stream.open().await?;
        let shard = open.iter().find(|shard| held.contains(&shard.id));
        world.stream.split(shard.expect("it holds two")).await?;
    }
    until_resharded(world).await?;
    world.until_flows(&[rust, java]).await?;
    world.still().await?;
    world.verify_scaler().await?;
    world.trickle();
    // Neighbours in the middle, whoever holds them, and then what came of them with the next.
    for _ in 0..2 {
        let open = world.stream.open().await?;
        world.stream.merge(&open[1], &open[2]).await?;
        until_resharded(world).await?;
    }
    world.until_flows(&[rust, java]).await
}

/// Every closed shard is at its end, and every open one is held by somebody.
async fn until_resharded(world: &mut World) -> Result<()> {
    let shards = world.stream.shards().await?;
    world
        .until("the reshard is worked through", |world| {
            let leases = world.table.now();
            let is_done = |shard: &crate::stream::Shard| match leases.get(&shard.id) {
                Some(lease) if shard.closed => lease.checkpoint.is_shard_end(),
                Some(lease) => lease.owner.is_some(),
                // Finished leases are deleted in the end.
                None => shard.closed,
            };
            Ok(shards.values().all(is_done))
        })
        .await
}

async fn several_streams(world: &mut World, kcl: Kcl) -> Result<()> {
    world.trickle();
    let java = world.run(Side::Java(kcl))?;
    world.until_hold(&[(java, SHARDS)]).await?;
    world.until_flows(&[java]).await?;
    // They share.
    let rust = world.run(Side::Rust)?;
    let half = SHARDS / 2;
    world.until_hold(&[(java, half), (rust, half)]).await?;
    world.until_shared(&[java, rust]).await?;
    // We go on alone, and see a split of the other stream through.
    world.terminate(java).await?;
    world.until_hold(&[(rust, SHARDS)]).await?;
    let other = world.beside[0].clone();
    other.split(&other.open().await?[0]).await?;
    world.until_hold(&[(rust, SHARDS + 1)]).await?;
    world.until_flows(&[rust]).await?;
    // And Java goes on where we were.
    world.terminate(rust).await?;
    let again = world.run(Side::Java(kcl))?;
    world.until_hold(&[(again, SHARDS + 1)]).await?;
    other.split(&other.open().await?[1]).await?;
    world.until_flows(&[again]).await
}

async fn takes_over(world: &mut World, who: Start, kcl: Kcl) -> Result<()> {
    let (before, after) = (who.other().side(kcl), who.side(kcl));
    // The one works alone, and sees a split through.
    world.trickle();
    let one = world.run(before)?;
    world.until_hold(&[(one, SHARDS)]).await?;
    let open = world.stream.open().await?;
    world.stream.split(&open[0]).await?;
    until_resharded(world).await?;
    world.until_flows(&[one]).await?;
    world.still().await?;
    world.terminate(one).await?;
    world.verify_scaler().await?;

    // It goes on and is killed inside an aggregate of each shard, with a checkpoint there.
    let open = world.stream.open().await?;
    let halfway = world.put_into(&open, 2).await?;
    let killed = world.run_halfway(before)?;
    world
        .until("it stands inside an aggregate of each shard", |world| {
            Ok(world.ledger.said(killed, "halfway").len() == open.len())
        })
        .await?;
    world.kill(killed).await?;
    // More, and a merge, while nobody works.
    world.put_into(&open[1..], 1).await?;
    world.stream.merge(&open[2], &open[3]).await?;
    world.put_into(&world.stream.open().await?, 1).await?;
    world.verify_scaler().await?;

    // The other goes on alone, right there: what is checkpointed does not come again.
    let two = world.run(after)?;
    world.still().await?;
    until_resharded(world).await?;
    for record in &halfway {
        let readings = world.ledger.readings(record);
        ensure!(readings.len() == 1, "{record} came again: {readings:?}");
        let by = if readings[0].sub == 0 { killed } else { two };
        ensure!(readings[0].worker == by, "{record}: {readings:?}, not {by}");
    }
    world.terminate(two).await?;
    world.verify_scaler().await?;

    // And back.
    world.trickle();
    let three = world.run(before)?;
    world.until_flows(&[three]).await
}

/// A shard has one subscription of a consumer: who comes next waits for AWS to let the old one go.
async fn fan_out(world: &mut World, kcl: Kcl) -> Result<()> {
    world.fan_out();
    let (rust, java) = share(world, kcl).await?;
    world.terminate(java).await?;
    world.until_hold(&[(rust, SHARDS)]).await?;
    world.until_flows(&[rust]).await?;
    let java = world.run(Side::Java(kcl))?;
    world.until_shared(&[rust, java]).await?;
    world.terminate(rust).await?;
    world.until_hold(&[(java, SHARDS)]).await?;
    world.until_flows(&[java]).await?;
    world.still().await?;
    world.verify_scaler().await
}

/// Each move is a hand-over at a checkpoint: no record comes twice.
async fn moves(world: &mut World, kcl: Kcl) -> Result<()> {
    world.trickle();
    let first = world.run(Side::Java(kcl))?;
    world.until_hold(&[(first, SHARDS)]).await?;
    let rust = world.run(Side::Rust)?;
    world.until_moved(first, rust).await?;
    world.until_shared(&[first, rust]).await?;
    let second = world.run(Side::Java(kcl))?;
    world.until_moved(rust, second).await?;
    world.until_shared(&[first, rust, second]).await?;
    world.still().await?;
    ensure!(world.again() == 0, "{} records came again", world.again());
    world.verify_scaler().await
}

/// Returns who is left.
async fn leader_killed(world: &mut World, kcl: Kcl) -> Result<usize> {
    world.trickle();
    let leader = world.run(Side::Java(kcl))?;
    world.until_hold(&[(leader, SHARDS)]).await?;
    let rust = world.run(Side::Rust)?;
    world.until_moved(leader, rust).await?;
    world.until_shared(&[leader, rust]).await?;
    world.kill(leader).await?;
    world.until_hold(&[(rust, SHARDS)]).await?;
    world.until_flows(&[rust]).await?;
    Ok(rust)
}

async fn leader_comes_back(world: &mut World, kcl: Kcl) -> Result<()> {
    let rust = leader_killed(world, kcl).await?;
    // The next one waits for the dead leader's lock, and leads then.
    let next = world.run(Side::Java(kcl))?;
    world.until_moved(rust, next).await?;
    world.until_shared(&[rust, next]).await
}

async fn upgrade(world: &mut World, kcl: Kcl) -> Result<()> {
    world.trickle();
    let rust = world.run(Side::Rust)?;
    world.until_hold(&[(rust, SHARDS)]).await?;
    let java = world.run(Side::Java(kcl))?;
    let half = SHARDS / 2;
    world.until_hold(&[(rust, half), (java, half)]).await?;
    world.until_led().await?;
    world.until_shared(&[rust, java]).await?;
    // What is moved from now on, the leader moves.
    world.terminate(java).await?;
    let next = world.run(Side::Java(kcl))?;
    world.until_moved(rust, next).await?;
    world.until_shared(&[rust, next]).await
}
