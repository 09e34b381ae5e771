//! The end: of the daemon, of a lease, of whoever started the daemon.

use serde_json::json;
use test_support::{Program, Signal, text, until};

use crate::{
    clients::Client,
    support::{Note, World, shard, started},
};

fn events<'a>(notes: &'a [Note], of: &str) -> Vec<&'a str> {
    let of_shard = notes.iter().filter(|note| note.shard() == of);
    of_shard.map(Note::event).collect()
}

async fn is_gone(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // One that nobody waited for yet is gone, too.
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn sigterm_gives_every_child_its_last_messages_and_frees_the_leases() {
    let world = World::new(2).await;
    let Some(program) = world.daemon(Client::Plain, "sigterm", &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.put_to(1, "b").await;
    world.processed("a").await;
    world.processed("b").await;
    let log = daemon.stop().await;
    let notes = world.ledger();
    for id in [shard(0), shard(1)] {
        let want = [
            "initialize",
            "record",
            "checkpoint",
            "shutdownRequested",
            "checkpoint",
            "leaseLost",
            "end of input",
        ];
        assert_eq!(events(&notes, &id), want);
        assert!(
            log.contains(&format!("for initialize while processing shard {id}")),
            "{log}"
        );
    }
    assert_eq!(
        log.matches("Child process exited with value: 0").count(),
        2,
        "{log}"
    );
    for lease in world.leases().await {
        assert!(!lease.contains_key("leaseOwner"), "{lease:?}");
        assert_ne!(text(&lease, "checkpoint"), "TRIM_HORIZON");
    }
}

/// As a terminal sends it that is closed.
#[tokio::test]
async fn sighup_is_an_end_in_order() {
    let world = World::new(1).await;
    let Some(program) = world.daemon(Client::Plain, "sighup", &[]).await else {
        return;
    };
    let mut daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    daemon.signal(Signal::HUP);
    assert!(daemon.ended().await.success());
    assert!(!world.leases().await[0].contains_key("leaseOwner"));
}

#[tokio::test]
async fn a_child_that_hangs_at_the_end_is_killed_after_the_grace() {
    let world = World::new(1).await;
    let behave = json!({"what": "hang in shutdownRequested"});
    let keys = ["shutdownGraceMillis = 500"];
    let Some(program) = world.misbehaving("hangs at the end", &behave, &keys).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    let pid = world.processed("a").await.pid();
    daemon.stop().await;
    assert!(is_gone(pid).await);
    assert!(!world.leases().await[0].contains_key("leaseOwner"));
}

#[tokio::test]
async fn no_child_outlives_a_daemon_that_is_killed() {
    let world = World::new(1).await;
    // It does not read its input any more.
    let behave = json!({"what": "hang"});
    let Some(program) = world.misbehaving("killed", &behave, &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    let pid = world
        .noted("a child that hangs", |notes| {
            notes
                .iter()
                .find(|note| note.event() == "hangs")
                .map(Note::pid)
        })
        .await;
    daemon.kill().await;
    until("the child's end", async || is_gone(pid).await.then_some(())).await;
}

/// As kcl-bootstrap does: it starts what it takes for a JVM, and does not pass signals on.
#[tokio::test]
async fn a_launcher_that_ends_ends_the_daemon_in_order() {
    let world = World::new(1).await;
    let Some(command) = crate::clients::command(Client::Plain, "launcher").await else {
        return;
    };
    let file = world.properties(&command.command, &[]);
    let daemon = env!("CARGO_BIN_EXE_kcl-multilang");
    let class = "software.amazon.kinesis.multilang.MultiLangDaemon";
    let line = format!(
        "\"{daemon}\" -cp /no/a.jar {class} --properties-file \"{}\"; true",
        file.display()
    );
    let shell = Program::new("/bin/sh").args(["-c", &line]);
    let launcher = world.binary().environment_of(shell);
    let mut process = launcher.start();
    process.logged("Initialization complete").await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    process.signal(Signal::KILL);
    // Its outputs end with the daemon.
    process.ended().await;
    assert!(process.log().contains("stopped"), "{}", process.log());
    let notes = world.ledger();
    assert!(
        events(&notes, &shard(0)).ends_with(&["leaseLost", "end of input"]),
        "{notes:#?}"
    );
}

/// Another worker takes the lease while the child is at work: the child ends its batch, its
/// checkpoint is refused, and it is told.
#[tokio::test]
async fn a_lease_that_is_lost_is_told_after_the_batch_at_hand() {
    let world = World::new(1).await;
    let behave = json!({"what": "hang in nothing"});
    let Some(program) = world.misbehaving("lost", &behave, &["workerId = a"]).await else {
        return;
    };
    let first = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    world.steal(0).await;
    world
        .noted("leaseLost", |notes| {
            notes
                .iter()
                .find(|note| note.event() == "leaseLost")
                .map(|_| ())
        })
        .await;
    first.stop().await;
}
