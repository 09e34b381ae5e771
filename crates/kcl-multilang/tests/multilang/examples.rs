//! The consumers of `examples/multilang`, run as their README says.

use std::{path::Path, process::Command};

use rstest::rstest;
use test_support::{skip::skip, text};

use crate::{
    clients::{Client, command, python},
    support::{World, started},
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/multilang");

/// The command of an example, and the variables that it needs.
async fn example(name: &str) -> Option<(String, Vec<(&'static str, String)>)> {
    let path = |file: &str| format!("{EXAMPLES}/{file}");
    Some(match name {
        "python" => (
            format!("{} {}", python().await?, path("python/consumer.py")),
            Vec::new(),
        ),
        "kclpy" => {
            let runs = command(Client::Kclpy, name).await?;
            (
                format!("{} {}", python().await?, path("kclpy/consumer.py")),
                runs.variables,
            )
        }
        "node" => {
            let runs = command(Client::AwsKcl, name).await?;
            (format!("node {}", path("node/consumer.js")), runs.variables)
        }
        _ => {
            let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-consumer");
            let built = Command::new("go")
                .args(["build", "-o", binary.to_str().unwrap(), "."])
                .current_dir(path("go"))
                .status();
            if !built.is_ok_and(|status| status.success()) {
                skip("the example in Go", "no go, or it does not build", true);
                return None;
            }
            (binary.to_str().unwrap().to_owned(), Vec::new())
        }
    })
}

#[rstest]
#[case("python")]
#[case("kclpy")]
#[case("node")]
#[case("go")]
#[tokio::test]
async fn an_example_prints_its_records_and_checkpoints(#[case] name: &str) {
    let Some((executable, variables)) = example(name).await else {
        return;
    };
    let world = World::new(1).await;
    let file = world.properties(&executable, &[]);
    let program = world
        .binary()
        .args(["--properties-file".as_ref(), file.as_os_str()]);
    let program = variables
        .into_iter()
        .fold(program, |program, (name, value)| program.env(name, value));
    let daemon = started(&program).await;
    world.put_to(0, "hello from a record").await;
    daemon.logged("hello from a record").await;
    let log = daemon.stop().await;
    assert!(log.contains("Child process exited with value: 0"), "{log}");
    assert!(!log.contains("checkpoint failed"), "{log}");
    let checkpoint = text(&world.leases().await[0], "checkpoint");
    assert!(checkpoint.starts_with(char::is_numeric), "{checkpoint}");
}
