//! The commands of the documents: a block of `sh` is run before embedded services, or the line
//! above it says what it needs, `<!-- needs: cluster -->`.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use assert_cmd::cargo::cargo_bin;
use embedded_aws::{Config, EmbeddedAws};

use crate::{
    documents::{between, pages, root},
    support::listen,
};

/// What runs the scaler for `cargo run -- …`.
const CARGO: &str = "#!/bin/sh
[ \"$1 $2\" = 'run --' ] || { echo \"not run here: cargo $*\" >&2; exit 64; }
shift 2
exec \"$SCALER\" \"$@\"
";

/// A block of commands.
struct Block {
    text: String,
    /// `None`: it is run.
    needs: Option<String>,
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    let mut before = "";
    while let Some(line) = lines.next() {
        if line.trim() != "```sh" {
            before = line.trim();
            continue;
        }
        let needs = before
            .strip_prefix("<!-- needs: ")
            .and_then(|rest| rest.strip_suffix(" -->"));
        let needs = match needs {
            Some(needs) => Some(needs),
            None if before == "<!-- test-command -->" => Some("a build"),
            None if page.starts_with("charts/") => Some("cluster"),
            None => None,
        };
        let code = lines.by_ref().take_while(|line| line.trim() != "```");
        blocks.push(Block {
            text: code.map(|line| format!("{line}\n")).collect(),
            needs: needs.map(str::to_owned),
        });
    }
    blocks
}

#[test]
fn the_blocks_that_are_not_run_are_counted() {
    let mut counts = BTreeMap::new();
    let mut run = 0;
    for (page, text) in pages() {
        for block in blocks(&page, &text) {
            match block.needs {
                Some(needs) => *counts.entry(needs).or_insert(0) += 1,
                None => run += 1,
            }
        }
    }
    let rows = counts
        .iter()
        .map(|(needs, count)| format!("| {needs} | {count} |\n"));
    let rows: String = rows.collect();
    let table =
        format!("| needs | blocks |\n|---|---|\n| nothing: run by a test | {run} |\n{rows}");
    let contributing = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let told = between(&contributing, "commands").trim();
    assert_eq!(told, table.trim(), "CONTRIBUTING.md wants\n{table}");
}

/// One shell for each page, in which its blocks run one after the other.
#[tokio::test]
async fn the_blocks_that_need_nothing_run() {
    let version = tokio::process::Command::new("aws")
        .arg("--version")
        .output();
    if let Err(why) = version.await {
        let test = "the_blocks_that_need_nothing_run";
        return test_support::skip::skip(test, &format!("no AWS CLI: {why}"), false);
    }
    for (page, text) in pages() {
        // Its code is that of the English one.
        if page.ends_with(".zh.md") {
            continue;
        }
        let blocks = blocks(&page, &text);
        let run = blocks.into_iter().filter(|block| block.needs.is_none());
        let script: String = run.map(|block| block.text).collect();
        if !script.is_empty() {
            run_script(&page, &script).await;
        }
    }
}

async fn run_script(page: &str, script: &str) {
    let config = Config {
        region: "eu-west-1".to_owned(),
        ..Config::default()
    };
    let aws = EmbeddedAws::serve(listen().await, config).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("cargo"), CARGO).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(root().join("examples"), folder.path().join("examples")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // As whoever pastes what `embedded-aws` prints, and then the page's blocks.
    let script = format!("{}\n{script}", aws.variables());
    let output = tokio::process::Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("SCALER", cargo_bin("keda-kinesis-scaler"))
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{page}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}
