//! Ruby's and .NET's clients as the bytes that they send and expect: whole conversations, in
//! `conversations`.

use embedded_kinesis::{FOREVER, Fault};
use rstest::rstest;
use test_support::{Process, Signal, skip::skip, until};

use crate::{
    clients::{child, python},
    support::{STREAM, World},
};

const CONVERSATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/multilang/conversations");

/// What a child noted next that is no more than a part of the conversation.
async fn noted(world: &World, seen: &mut usize) -> String {
    let from = *seen;
    let next = |notes: &[crate::support::Note]| {
        let note = notes.get(from)?;
        let differs = (note.text("got"), note.text("want"));
        assert_eq!(differs, (None, None), "got and wanted");
        Some(note.event().to_owned())
    };
    *seen += 1;
    world.noted("a step of the conversation", next).await
}

/// Makes happen what the child waits for.
async fn happens(world: &World, event: &str, daemon: &Process) {
    match event {
        "throttled" => {
            let fault = Fault::throttling_of("UpdateItem");
            world.dynamodb.faults().inject("UpdateItem", fault, FOREVER);
        }
        "restored" => world.dynamodb.faults().clear(),
        "stolen" => world.steal(0).await,
        "stopping" => daemon.signal(Signal::TERM),
        other => panic!("{other} is not known to happen"),
    }
    // The child waits for a writer.
    std::fs::write(world.path(event), "").unwrap();
}

async fn split(world: &World) {
    let split = world.kinesis.split_shard().stream_name(STREAM);
    let split = split.shard_to_split("shardId-000000000000");
    let middle = "170141183460469231731687303715884105728";
    split.new_starting_hash_key(middle).send().await.unwrap();
    until("the split", async || {
        let summary = world.kinesis.describe_stream_summary().stream_name(STREAM);
        let summary = summary.send().await.unwrap().stream_description_summary?;
        (summary.stream_status.as_str() == "ACTIVE").then_some(())
    })
    .await;
}

#[rstest]
#[case("ruby", "stopped", "\n")]
#[case("ruby", "ended", "\n")]
#[case("ruby", "lost", "\n")]
#[case("dotnet", "stopped", "\n")]
#[case("dotnet", "ended", "\n")]
#[case("dotnet", "lost", "\n")]
#[case::on_windows("dotnet", "stopped", "\r\n")]
#[tokio::test]
async fn a_whole_conversation_is_the_clients_byte_for_byte(
    #[case] client: &str,
    #[case] part: &str,
    #[case] new_line: &str,
) {
    let Some(python) = python().await else {
        skip("a conversation", "no python3", true);
        return;
    };
    let world = World::new(1).await;
    for text in ["a", "b", "c"] {
        world.put_to(0, text).await;
    }
    if part == "ended" {
        split(&world).await;
    }
    let executable = format!("{python} {}", child("conversation.py"));
    // Longer than writes are refused for.
    let file = world.properties(&executable, &["failoverTimeMillis = 30000"]);
    let program = world
        .binary()
        .env("CONVERSATION", format!("{CONVERSATIONS}/{client}.txt"))
        .env("PART", part)
        .env("NEW_LINE", new_line)
        .args([file]);
    let mut daemon = program.start();
    let mut seen = 0;
    loop {
        match noted(&world, &mut seen).await.as_str() {
            "over" => break,
            event => happens(&world, event, &daemon).await,
        }
    }
    let log = match part {
        "stopped" => {
            let status = daemon.ended().await;
            assert!(status.success(), "{status}");
            daemon.log()
        }
        _ => daemon.stop().await,
    };
    assert!(!log.contains("child failed"), "{log}");
    assert!(!log.contains("Skipping unexpected line"), "{log}");
}
