//! Metrics and rules, as `promtool` (Debian's package `prometheus`) judges them.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::skip::skip;

/// `promtool check metrics` over a scrape.
///
/// # Panics
/// It finds something.
pub fn check_metrics(test: &str, scrape: &str) {
    check(test, &["check", "metrics"], &as_text(scrape));
}

/// `promtool check rules` over rule groups, in YAML or JSON.
///
/// # Panics
/// It finds something.
pub fn check_rules(test: &str, groups: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(groups.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    check(test, &["check", "rules", "--lint-fatal", path], "");
}

fn check(test: &str, arguments: &[&str], input: &str) {
    let promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return skip(test, "there is no promtool", true);
    };
    let written = promtool.stdin.take().unwrap().write_all(input.as_bytes());
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {said}\n{input}");
    written.unwrap();
}

/// OpenMetrics in Prometheus' older format, which is all that `promtool check metrics` reads: there
/// a counter's name ends in `_total` also where its type and help are said.
fn as_text(scrape: &str) -> String {
    let counters: Vec<_> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::new();
    for line in scrape.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "UNIT" | "EOF", ..] => {}
            ["#", kind, name, rest] if counters.contains(&name) => {
                text += &format!("# {kind} {name}_total {rest}\n");
            }
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_whole_name() {
        let scrape = "# HELP a_calls Calls.\n# TYPE a_calls counter\na_calls_total{b=\"c d\"} 1\n# HELP a_age_seconds Age.\n# TYPE a_age_seconds gauge\n# UNIT a_age_seconds seconds\na_age_seconds 2\n# EOF\n";
        let text = "# HELP a_calls_total Calls.\n# TYPE a_calls_total counter\na_calls_total{b=\"c d\"} 1\n# HELP a_age_seconds Age.\n# TYPE a_age_seconds gauge\na_age_seconds 2\n";
        assert_eq!(as_text(scrape), text);
    }
}
