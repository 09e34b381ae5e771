//! The start: what keeps the daemon from it, and what it says.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use test_support::http;

use crate::{
    clients::{Client, command},
    support::{World, started},
};

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_found_before_any_lease_is_taken() {
    let world = World::new(1).await;
    let script = world.path("app.py");
    fs::write(&script, "print('no interpreter')\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for (program, want) in [
        ("no-such-program", "no such program in PATH"),
        (script.to_str().unwrap(), "want #!"),
    ] {
        let file = world.properties(program, &[]);
        let (code, log) = world.binary().args([file]).run().await;
        assert_eq!(code, 1, "{log}");
        assert!(log.contains(want), "{log}");
    }
    let tables = world.dynamodb.client.list_tables().send().await.unwrap();
    assert!(tables.table_names().is_empty(), "{tables:?}");
}

#[tokio::test]
async fn a_file_that_does_not_do_is_refused_with_all_that_is_wrong() {
    let world = World::new(1).await;
    let file = world.path("app.properties");
    fs::write(&file, "retrievalMode=fast\nfailoverTimeMilis=5\n").unwrap();
    let (code, log) = world.binary().args([&file]).run().await;
    assert_eq!(code, 1);
    for want in [
        "executableName is missing",
        "want FANOUT, POLLING or DEFAULT",
        "is failoverTimeMillis meant?",
    ] {
        assert!(log.contains(want), "{log}");
    }
    let (code, log) = world.binary().args([world.path("none")]).run().await;
    assert_eq!(code, 1);
    assert!(
        log.contains("want a .properties file that can be read"),
        "{log}"
    );
}

#[tokio::test]
async fn check_says_what_each_key_does() {
    let world = World::new(1).await;
    let file = world.properties(
        "sh app.sh",
        &["metricsLevel = NONE", "retrievalMod = POLLING"],
    );
    let (code, text) = world
        .binary()
        .args(["check".as_ref(), file.as_os_str()])
        .run()
        .await;
    assert_eq!(code, 0, "{text}");
    for want in [
        "- metricsLevel = NONE",
        "is retrievalMode meant?",
        "fit: runs ",
    ] {
        assert!(text.contains(want), "{text}");
    }
    let file = world.properties("no-such-program", &["shardPrioritization = x"]);
    let (code, text) = world
        .binary()
        .args(["check".as_ref(), file.as_os_str()])
        .run()
        .await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("! shardPrioritization = x"), "{text}");
}

/// As an init container does it.
#[tokio::test]
async fn the_binary_copies_itself_into_a_folder() {
    let world = World::new(1).await;
    let folder = world.folder.path();
    let install = ["install".as_ref(), folder.as_os_str()];
    let (code, text) = world.binary().args(install).run().await;
    assert_eq!(code, 0, "{text}");
    let copy = world.binary_at(world.path("kcl-multilang").as_os_str());
    let (code, text) = copy.args(["--version"]).run().await;
    assert_eq!(code, 0);
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let (code, text) = world
        .binary()
        .args(["install", "/no/such/folder"])
        .run()
        .await;
    assert_eq!(code, 1);
    assert!(text.contains("/no/such/folder/kcl-multilang: "), "{text}");
}

/// As amazon_kclpy_helper.py prints it.
#[tokio::test]
async fn a_jvms_command_line_starts_it_with_json_logs_and_an_admin_port() {
    let world = World::new(1).await;
    let Some(command) = command(Client::Plain, "java mode").await else {
        return;
    };
    let behave = json!({});
    world.properties(
        &command.command,
        &["callProcessRecordsEvenForEmptyRecordList = true"],
    );
    let folder = world.folder.path().to_str().unwrap();
    let class_path = format!("/no/a.jar:{folder}");
    let class = "software.amazon.kinesis.multilang.MultiLangDaemon";
    let program = world
        .binary()
        .env("BEHAVE", behave.to_string())
        .env("KCL_MULTILANG_ADMIN", "127.0.0.1:0")
        .env("KCL_MULTILANG_LOG_FORMAT", "json")
        .args([
            "-Xmx256m",
            "-cp",
            &class_path,
            class,
            "--properties-file",
            "app.properties",
        ])
        .args(["--log-configuration", "logback.xml"]);
    let daemon = started(&program).await;
    // Records come as well as none.
    world
        .noted("a call without records", |notes| {
            notes
                .iter()
                .find(|note| note.event() == "empty")
                .map(|_| ())
        })
        .await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    let line: Value = serde_json::from_str(&daemon.logged("admin port").await).unwrap();
    let admin = line["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(http::get(admin, "/livez").await.0, 200);
    assert_eq!(http::get(admin, "/readyz").await.0, 200);
    let (_, metrics) = http::get(admin, "/metrics").await;
    for want in [
        "kinesis_consumer_children_started_total",
        "kinesis_consumer_current_leases",
    ] {
        assert!(metrics.contains(want), "{metrics}");
    }
    let (_, state) = http::get(admin, "/state").await;
    assert!(state.contains("shardId-000000000000"), "{state}");
    let log = daemon.stop().await;
    let started = log
        .lines()
        .find(|line| line.contains("child started"))
        .unwrap();
    let started: Value = serde_json::from_str(started).unwrap();
    assert_eq!(started["shard"], "shardId-000000000000");
    assert!(log.contains("Logback"), "{log}");
}

/// It knows all but the last message.
#[tokio::test]
async fn a_client_that_is_too_old_is_told_with_the_version_to_use() {
    let world = World::new(1).await;
    let Some(program) = world.daemon(Client::OldKclpy, "too old", &[]).await else {
        return;
    };
    let daemon = started(&program).await;
    world.put_to(0, "a").await;
    world.processed("a").await;
    let log = daemon.stop().await;
    assert!(
        log.contains("it does not know the message leaseLost"),
        "{log}"
    );
    assert!(log.contains("ClientLibrary 2.0 or later"), "{log}");
}

#[test]
fn the_metrics_in_the_map_from_cloudwatch_are_exposed() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let file = |name: &str| fs::read_to_string(format!("{root}/{name}")).unwrap();
    let docs = file("docs/multilang.md");
    let map = docs.split("## CloudWatch's names").nth(1).unwrap();
    let map = map.split("\n## ").next().unwrap();
    let ours = [
        "children_started_total",
        "children_failed_total",
        "child_lines_skipped_total",
    ];
    // Whose README is held against what is exposed.
    let shared = file("crates/kinesis-to-dynamodb/README.md");
    let mut found = 0;
    for row in map.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let names = row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2);
        for name in names.map(|name| name.split('{').next().unwrap()) {
            if name == "kinesis_consumer_" {
                continue;
            }
            found += 1;
            let is_exposed = ours.contains(&name) || shared.contains(&format!("| `{name}` |"));
            assert!(is_exposed, "{name}");
        }
    }
    assert!(found > 10, "{found}");
}
