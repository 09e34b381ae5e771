//! The rules of ARCHITECTURE.md that a reader cannot check at a glance.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod imports;

use std::{fs, path::Path};

use imports::Crate;

/// The scaler's rooms and what they share, lowest first: each may use those before it.
const SCALER: [&str; 13] = [
    "proto",
    "error",
    "names",
    "config",
    "trigger",
    "metrics",
    "telemetry",
    "source",
    "decision",
    "watch",
    "report",
    "server",
    "args",
];

/// Every `.rs` file below `dir`, as (path relative to the repository, text).
fn sources(dir: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(dir)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "no sources below {dir}");
    files
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
}

#[test]
fn aws_sdks_are_named_in_few_files() {
    let allowed = [
        "src/source/aws",
        "src/source/shards",
        "crates/kinesis-consumer/src/edge/lease_table/dynamodb",
        "crates/kinesis-consumer/src/edge/kinesis/sdk",
        "crates/kinesis-consumer/src/run/worker.rs", // takes the clients over
    ];
    let offenders: Vec<_> = ["src", "crates/kinesis-consumer/src"]
        .into_iter()
        .flat_map(sources)
        .filter(|(name, _)| !allowed.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|(_, text)| code_lines(text).any(|line| line.contains("aws_sdk_")))
        .map(|(name, _)| name)
        .collect();
    assert!(offenders.is_empty(), "these name an AWS SDK: {offenders:?}");
}

#[test]
fn the_scalers_imports_go_one_way() {
    let imports = Crate::read("src", sources("src"));
    // Right-sizing's memories are still made while a source is fetched.
    let wrong = imports.against(&SCALER, &[("source", "decision")]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_ships_does_not_link_the_emulators() {
    for manifest in [
        "Cargo.toml",
        "crates/kinesis-consumer/Cargo.toml",
        "crates/kinesis-to-dynamodb/Cargo.toml",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
        let text = fs::read_to_string(path).unwrap();
        let shipped = text
            .split("[dependencies]")
            .nth(1)
            .map(|rest| rest.split("\n[").next().unwrap())
            .unwrap();
        for emulator in ["embedded-kinesis", "dynoxide"] {
            assert!(!shipped.contains(emulator), "{manifest} links {emulator}");
        }
    }
}
