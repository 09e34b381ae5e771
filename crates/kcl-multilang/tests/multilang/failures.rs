//! Children that die, hang, print junk or answer out of turn: it costs their own shard a restart
//! from the checkpoint, and nobody else anything.

use rstest::rstest;
use serde_json::json;

use crate::{
    story::kill,
    support::{Note, World, shard, started},
};

fn pids(notes: &[Note], of: &str) -> Vec<i64> {
    let starts = notes.iter().filter(|note| note.is("initialize", of));
    starts.map(Note::pid).collect()
}

/// One of two shards has a child that goes wrong once.
#[rstest]
#[case::dies("die", "last words", &[])]
// Time enough for the start of Python on a busy machine.
#[case::hangs("hang", "said nothing for 15s", &["timeoutInSeconds = 15"])]
#[case::answers_another_question("other answer", "out of step", &[])]
#[tokio::test]
async fn a_child_that_fails_is_started_anew_from_the_checkpoint(
    #[case] what: &str,
    #[case] told: &str,
    #[case] keys: &[&str],
) {
    let world = World::new(2).await;
    let marker = world.path("marker");
    let behave = json!({"what": what, "shard": shard(0), "marker": marker});
    let Some(program) = world.misbehaving(what, &behave, keys).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(1, "other").await;
    world.processed("other").await;
    world.put_to(0, "mine").await;
    let mine = world.processed("mine").await;
    let line = daemon.logged("child failed").await;
    assert!(line.contains(told) && line.contains(&shard(0)), "{line}");
    world.put_to(1, "other again").await;
    world.processed("other again").await;
    daemon.stop().await;

    let notes = world.ledger();
    let starts = pids(&notes, &shard(0));
    assert_eq!(starts.len(), 2, "{notes:#?}");
    assert_eq!(mine.pid(), starts[1]);
    assert_eq!(
        pids(&notes, &shard(1)).len(),
        1,
        "the other shard's child is untouched"
    );
}

#[tokio::test]
async fn the_death_of_an_idle_child_is_noticed_at_once() {
    let world = World::new(1).await;
    let Some(program) = world.misbehaving("idle", &json!({}), &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    let first = world
        .noted("a child", |notes| pids(notes, &shard(0)).first().copied())
        .await;
    // No record comes: only the process itself can be seen.
    daemon.logged("for initialize").await;
    kill(first);
    let line = daemon.logged("child failed").await;
    assert!(
        line.contains("signal 9") && line.contains("asked nothing"),
        "{line}"
    );
    world
        .noted("another child", |notes| {
            pids(notes, &shard(0)).get(1).copied()
        })
        .await;
    world.put_to(0, "late").await;
    world.processed("late").await;
    daemon.stop().await;
}

#[tokio::test]
async fn junk_is_passed_over_and_told() {
    let world = World::new(1).await;
    let Some(program) = world
        .misbehaving("junk", &json!({"what": "junk"}), &[])
        .await
    else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    let id = shard(0);
    daemon
        .logged(&format!(
            "Skipping unexpected line on STDOUT for shard {id}: print: hello"
        ))
        .await;
    daemon.logged("is too long").await;
    let log = daemon.stop().await;
    assert!(!log.contains("child failed"), "{log}");
    assert_eq!(pids(&world.ledger(), &id).len(), 1);
}

/// The second answer would be taken for the next batch's.
#[tokio::test]
async fn an_answer_too_many_is_found_before_the_next_question() {
    let world = World::new(1).await;
    let behave = json!({"what": "answer twice", "marker": world.path("marker")});
    let Some(program) = world.misbehaving("answer twice", &behave, &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    world.put_to(0, "b").await;
    daemon.logged("out of step").await;
    world.processed("b").await;
    daemon.stop().await;
    assert_eq!(pids(&world.ledger(), &shard(0)).len(), 2);
}

/// A checkpoint without a number is of what the child got before it asked: the batch that is on its
/// way by then is not processed.
#[tokio::test]
async fn a_checkpoint_between_batches_does_not_cover_the_next_one() {
    let world = World::new(1).await;
    let behave = json!({"what": "checkpoint when done", "marker": world.path("marker")});
    let Some(program) = world.misbehaving("when done", &behave, &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    world.put_to(0, "b").await;
    daemon.logged("child failed").await;
    world.processed("b").await;
    daemon.stop().await;
    assert_eq!(pids(&world.ledger(), &shard(0)).len(), 2);
}

#[rstest]
#[case("early checkpoint", "initialize", "InvalidStateException")]
#[case("checkpoint nonsense", "record", "IllegalArgumentException")]
#[case("late checkpoint", "leaseLost", "InvalidStateException")]
#[tokio::test]
async fn a_checkpoint_out_of_season_is_refused_by_name(
    #[case] what: &str,
    #[case] during: &str,
    #[case] error: &str,
) {
    let world = World::new(1).await;
    let Some(program) = world.misbehaving(what, &json!({"what": what}), &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    daemon.stop().await;
    let notes = world.ledger();
    let at = notes
        .iter()
        .position(|note| note.event() == during)
        .unwrap();
    assert_eq!(notes[at + 1].event(), "checkpoint", "{notes:#?}");
    assert_eq!(notes[at + 1].text("error"), Some(error));
}

/// Random bytes, out-of-turn messages and exits on one shard; the other one goes on, and in the end
/// so does the first.
#[tokio::test]
async fn whatever_a_child_says_the_other_shard_goes_on() {
    let world = World::new(2).await;
    let behave = json!({"what": "chaos", "shard": shard(0)});
    let keys = ["timeoutInSeconds = 15", "taskBackoffTimeMillis = 1"];
    let Some(program) = world.misbehaving("chaos", &behave, &keys).await else {
        return;
    };
    let daemon = started(&program).await;
    for round in 0..12 {
        let (wild, tame) = (format!("wild {round}"), format!("tame {round}"));
        world.put_to(0, &wild).await;
        world.put_to(1, &tame).await;
        world.processed(&tame).await;
        world.processed(&wild).await;
    }
    let log = daemon.stop().await;
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(pids(&world.ledger(), &shard(1)).len(), 1);
}
