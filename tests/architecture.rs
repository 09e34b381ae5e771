//! The rules of ARCHITECTURE.md that a reader cannot check at a glance.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

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
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.push((name, fs::read_to_string(path).unwrap()));
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
        "src/aws",
        "src/shards",
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
    // Each module may use those to its left.
    let order = [
        "error",
        "trigger",
        "config",
        "policy",
        "metrics",
        "aws",
        "shards",
        "probe",
        "right_size",
        "sight",
        "look",
        "watch",
        "answer",
        "journal",
        "explain",
        "scaler",
        "tls",
        "admin",
        "server",
        "health",
        "telemetry",
        "replay",
        "check",
        "args",
    ];
    let rank = |module: &str| order.iter().position(|known| *known == module);
    let mut offenders = Vec::new();
    for (name, text) in sources("src") {
        let module = name
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .unwrap();
        if module == "lib" || module == "main" {
            continue;
        }
        let own = rank(module).unwrap_or_else(|| panic!("src/{module} has no place in the order"));
        // `crate::{a, b::c}` and `crate::a` alike: every known module named right after `crate::` or in its braces.
        let uses = text.split("crate::").skip(1).flat_map(|rest| {
            let rest = rest.strip_prefix('{').map_or_else(
                || {
                    vec![
                        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                            .next()
                            .unwrap(),
                    ]
                },
                |group| {
                    let group = group.split_once("};").map_or(group, |(inside, _)| inside);
                    group
                        .split(|c: char| !c.is_alphanumeric() && c != '_')
                        .collect()
                },
            );
            rest.into_iter()
        });
        for used in uses {
            if rank(used).is_some_and(|rank| rank > own) {
                offenders.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(offenders.is_empty(), "{offenders:?}");
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
