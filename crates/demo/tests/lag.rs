//! `demo --scene lag` as a user runs it: pods of limited capacity, as real processes, are woken,
//! made enough, and sent home.

use std::process::Command;

#[test]
fn a_burst_wakes_pods_and_gets_as_many_as_it_needs() {
    let out = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--scene", "lag", "--pace", "fast", "--plain", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{}\n{text}\n{errors}", run.status);

    // In this order, whatever stands between.
    let mut rest = text.as_str();
    for wanted in [
        "1/7 deploy one pod, for the leases",
        "2/7 ScaledObject, scaleOn: lag, 5 s",
        "1 pod, not active: first look: nothing runs, so 1 pod",
        "0 pods after",
        "3/7 burst: 50 users a second",
        "StreamIsActive: true",
        "woken: 0 → 1 pod",
        "woken by push",
        "4/7 too many for one pod",
        "3 pods, active: late: shard",
        "so 2 shards a pod",
        "1 → 3 pods",
        "3 pods after",
        "replicas since the burst: 0 → 1, 1 → 3\n",
        "5/7 go on",
        "3 pods still after",
        "6/7 stop sending",
        "every user is in the table after",
        "7/7 nothing to do",
        "not active for the whole cooldown: 3 → 0 pods",
        "0 pods after",
        "1 → 0 → 3 → 3 → 0",
        "first record to wake",
    ] {
        let (_, after) = rest
            .split_once(wanted)
            .unwrap_or_else(|| panic!("no {wanted:?} in its place in\n{text}"));
        rest = after;
    }
    let number = |label: &str| -> u64 {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(label))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(number("users sent") > 500, "{text}");
    assert_eq!(number("in the table, as sent"), number("users sent"));
    let svg = std::fs::read_to_string(out.path().join("demo-lag.svg")).unwrap();
    assert!(svg.contains("wished") && svg.trim_end().ends_with("</svg>"));
}
