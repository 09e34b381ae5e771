//! The demo as a user runs it: the real program, with the real scaler and real consumers as
//! processes of their own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

fn demo() -> Command {
    Command::new(env!("CARGO_BIN_EXE_demo"))
}

#[test]
fn the_whole_story() {
    let out = tempfile::tempdir().unwrap();
    let run = demo()
        .args(["--pace", "fast", "--plain", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{}\n{text}\n{errors}", run.status);

    // In this order, whatever stands between.
    let mut rest = text.as_str();
    for wanted in [
        "Times are shortened:",
        "1/7 deploy one pod",
        "1 pod reads both shards after",
        "2/7 ScaledObject, shardCount \"1\"",
        "GetMetricSpec: aws-kinesis-kinesis-keda-demo, target 1; GetMetrics: 2; IsActive: true",
        "ceil(2 / 1) = 2 pods: 1 → 2 pods",
        "2 pods after",
        "3/7 reshard to 3",
        "GetMetrics: 3;",
        "ceil(3 / 1) = 3 pods: 2 → 3 pods",
        "3 pods after",
        "4/7 kill -9 one pod",
        "is dead (kill -9)",
        "3 pods again after",
        "5/7 reshard to 2",
        "GetMetrics: 2;",
        "ceil(2 / 1) = 2 pods: stays at 3 pods for",
        "ceil(2 / 1) = 2 pods: 3 → 2 pods",
        "2 pods after",
        "6/7 ScaledObject, shardCount \"3\"",
        "target 3; GetMetrics: 2;",
        "ceil(2 / 3) = 1 pod: 2 → 1 pod",
        "1 pod after",
        "7/7 stop sending",
        "every user is in the table after",
        "1 → 2 → 3 → 3 → 2 → 1",
        "in the table, as sent",
        "delivered more than once",
        "users by the pod that wrote them",
        "demo.svg",
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
    assert!(number("users sent") > 100);
    assert_eq!(number("in the table, as sent"), number("users sent"));

    let svg = fs::read_to_string(out.path().join("demo.svg")).unwrap();
    assert_well_formed(&svg);
    assert!(svg.contains("kill -9") && svg.contains("shard 10"), "{svg}");
}

/// Every element is closed, in order: all that an XML parser would mind in what `picture` can
/// write.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("an unfinished tag");
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        assert!(!text.contains('>'), "a bare > in {text:?}");
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "<{tag}>");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    assert!(xml.starts_with("<svg xmlns=") && xml.trim_end().ends_with("</svg>"));
}

#[test]
fn an_interrupt_leaves_no_process_behind() {
    if !fs::exists("/proc/thread-self/children").unwrap_or(false) {
        let why = "this system's /proc does not tell children";
        test_support::skip::skip("an_interrupt_leaves_no_process_behind", why, false);
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut run = demo()
        .args(["--plain", "--out"])
        .arg(out.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let ready = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("is ready"));
    assert!(ready.is_some(), "no pod became ready");
    let children = children_of(run.id());
    assert!(
        children.len() >= 2,
        "the scaler and a consumer: {children:?}"
    );
    kill_process(Pid::from_raw(run.id() as i32).unwrap(), Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    for child in children {
        assert!(
            test_kill_process(child).is_err(),
            "{child:?} is still there"
        );
    }
}

/// Process ids of the children, by /proc.
fn children_of(pid: u32) -> Vec<Pid> {
    let mut children = String::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if let Ok(mut file) = fs::File::open(thread.path().join("children")) {
            file.read_to_string(&mut children).expect("/proc is text");
        }
    }
    children
        .split_whitespace()
        .filter_map(|child| Pid::from_raw(child.parse().ok()?))
        .collect()
}

#[test]
fn wrong_flags_are_told() {
    for (args, wanted) in [
        (
            &["--pace", "quick"][..],
            "\"quick\": want slow, normal, fast, or a factor from 0.2 (slow) to 3 (fast)",
        ),
        (&["--pace", "100"], "\"100\": want slow, normal, fast"),
        (&["--speed", "2"], "unexpected argument '--speed'"),
        (&["backwards"], "unrecognized subcommand 'backwards'"),
        (
            &["--plain", "--out", "/dev/null/x"],
            "cannot make /dev/null/x",
        ),
    ] {
        let run = demo().args(args).output().unwrap();
        let errors = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success(), "{args:?}");
        assert!(
            errors.contains(wanted),
            "{args:?}: no {wanted:?} in\n{errors}"
        );
    }
}
