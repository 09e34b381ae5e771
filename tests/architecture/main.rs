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

/// The library's rooms, lowest first.
const LIBRARY: [&str; 6] = ["model", "edge", "face", "decide", "run", "test_util"];

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

/// One crate asks AWS, and knows what its errors mean.
#[test]
fn aws_is_named_in_one_crate() {
    let sdks = [
        "aws_sdk_",
        "aws_config::",
        "aws_smithy_",
        "aws_types::",
        "aws_credential_types",
    ];
    let errors = [
        "Exception",
        "\"AccessDenied",
        "\"Throttl",
        "\"ExpiredToken",
        "\"KMS",
    ];
    let programs = [
        "src",
        "crates/kinesis-consumer/src",
        "crates/kinesis-consumer-metrics/src",
        "crates/kinesis-to-dynamodb/src",
    ];
    // On its wire are names of Java's exceptions, which are no errors of AWS's.
    let multilang = "crates/kcl-multilang/src";
    let files = programs.into_iter().chain([multilang]).flat_map(sources);
    let offenders: Vec<_> = files
        .filter(|(name, _)| !name.ends_with("tests.rs"))
        .flat_map(|(name, text)| {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let errors = errors.iter().filter(|_| !name.starts_with(multilang));
            let words: Vec<_> = sdks.iter().chain(errors).collect();
            let named = |line: &&str| words.iter().any(|word| line.contains(**word));
            let named = code_lines(code).filter(named);
            named
                .map(|line| format!("{name}: {line}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(
        offenders.is_empty(),
        "these are kinesis-edge's: {offenders:#?}"
    );
}

/// A file that grows beyond this is about two things, and is split by them.
#[test]
fn files_have_450_lines_at_the_most() {
    let long: Vec<_> = ["src", "tests", "crates"]
        .into_iter()
        .flat_map(sources)
        .filter(|(_, text)| text.lines().count() > 450)
        .map(|(name, _)| name)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Whoever sets a machine's clock makes nothing older: wall time is read once and gone on from, or
/// shown. A request that AWS refuses for its time is explained by the time that it was signed with.
#[test]
fn wall_time_is_read_where_nothing_is_decided_from_it() {
    let readers = [
        "src/source/clock.rs",
        "src/report/explain.rs",
        "crates/kinesis-edge/src/clock.rs",
    ];
    let crates = [
        "kcl-multilang",
        "kinesis-consumer",
        "kinesis-consumer-metrics",
        "kinesis-edge",
        "kinesis-to-dynamodb",
        "right-sizing",
    ];
    let crates = crates.map(|name| format!("crates/{name}/src"));
    let files = crates.iter().map(String::as_str).chain(["src"]);
    let is_code = |name: &str| {
        let for_tests = ["/tests.rs", "/tests/", "/memory.rs", "/examples.rs"];
        !for_tests.iter().any(|part| name.contains(part))
    };
    let reads = |text: &str| {
        let code = text.split("#[cfg(test)]\nmod tests {").next();
        let mut lines = code_lines(code.unwrap_or_default());
        lines.any(|line| line.contains("Timestamp::now") || line.contains("SystemTime"))
    };
    let mut found: Vec<_> = files
        .flat_map(sources)
        .filter(|(name, text)| is_code(name) && reads(text))
        .map(|(name, _)| name)
        .collect();
    found.sort();
    let mut readers = readers.to_vec();
    readers.sort_unstable();
    assert_eq!(found, readers);
}

#[test]
fn the_scalers_imports_go_one_way() {
    let wrong = Crate::read("src", sources("src")).against(&SCALER);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_librarys_imports_go_one_way() {
    let root = "crates/kinesis-consumer/src";
    let wrong = Crate::read(root, sources(root)).against(&LIBRARY);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_ships_does_not_link_the_emulators() {
    for manifest in [
        "Cargo.toml",
        "crates/kinesis-consumer/Cargo.toml",
        "crates/kinesis-consumer-metrics/Cargo.toml",
        "crates/kinesis-to-dynamodb/Cargo.toml",
        "crates/kcl-multilang/Cargo.toml",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
        let text = fs::read_to_string(path).unwrap();
        let shipped = text
            .split("[dependencies]")
            .nth(1)
            .map(|rest| rest.split("\n[").next().unwrap())
            .unwrap();
        for emulator in ["embedded-aws", "embedded-kinesis", "dynoxide"] {
            assert!(!shipped.contains(emulator), "{manifest} links {emulator}");
        }
    }
}
