//! What the Java KCL warns of. Each warning is known to be harmless, with the reason, or fails the
//! scenario; and none of them may come again and again.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};

/// A harmless warning or error.
struct Benign {
    /// A part of the line: the class that logs it, and how the text begins.
    part: &'static str,
    /// Why it is harmless.
    why: &'static str,
    /// So many in one worker's log are still no loop.
    most: usize,
}

const BENIGN: &[Benign] = &[
    Benign {
        part: "Worker - graceful shutdown takes too long",
        why: "2.7.2 waits for the processors of finished shards until it deletes their leases",
        most: 1,
    },
    Benign {
        part: "ProcessTask - Cannot get the shard for this ProcessTask",
        why: "a shard is new, and KCL's list of shards up to 30 s old",
        most: 500,
    },
    Benign {
        part: "WorkerMetricsSelector - Did not find an operating range metadata provider",
        why: "3.5.1 finds no figures of this machine, and needs none before it leads",
        most: 1,
    },
    Benign {
        part: "Another active subscription exists for this consumer",
        why: "a shard has one subscription of a consumer, and the one before is not gone yet",
        most: 100,
    },
    Benign {
        part: "LeaderDecider uninitialized",
        why: "3.5.1 asks who leads while it changes from following 2.x to being led, and asks again",
        most: 30,
    },
];

/// Counts the harmless ones, by why they are harmless.
///
/// # Errors
/// Others, or too many.
pub(crate) fn judge(log: &Path) -> Result<BTreeMap<&'static str, usize>> {
    let text = std::fs::read_to_string(log)?;
    judge_text(&text).with_context(|| log.display().to_string())
}

fn judge_text(text: &str) -> Result<BTreeMap<&'static str, usize>> {
    let mut counts = BTreeMap::new();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for line in entries(text) {
        match BENIGN.iter().find(|it| line.contains(it.part)) {
            Some(benign) => *counts.entry(benign.why).or_default() += 1,
            None => *others.entry(signature(&line)).or_default() += 1,
        }
    }
    ensure!(others.is_empty(), "not known to be harmless: {others:#?}");
    for Benign { part, why, most } in BENIGN {
        let count = counts.get(why).copied().unwrap_or_default();
        ensure!(count <= *most, "{count} times {part:?}: a loop");
    }
    Ok(counts)
}

/// Warnings and errors, each with the first line of its exception.
fn entries(text: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    let mut wanted = false;
    for line in text.lines() {
        let starts = line.contains(" INFO ") || line.contains(" WARN ") || line.contains(" ERROR ");
        if starts {
            wanted = !line.contains(" INFO ");
            if wanted {
                entries.push(line.to_owned());
            }
        } else if let Some(entry) = entries.last_mut()
            && wanted
            && !line.starts_with("\tat ")
            && !entry.contains(" | ")
        {
            *entry += " | ";
            *entry += line;
        }
    }
    entries
}

/// The line without what differs from one time to the next.
fn signature(line: &str) -> String {
    let mut text = String::new();
    let from = line.find(" WARN ").or_else(|| line.find(" ERROR "));
    for character in line[from.unwrap_or(0)..].chars() {
        if !character.is_ascii_digit() {
            text.push(character);
        } else if !text.ends_with('#') {
            text.push('#');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::judge_text;

    const LOG: &str = "\
18:48:28.425 [main] INFO a.b.Scheduler - Initialization complete.
18:48:28.425 [LeaseCoordinator-0000] ERROR a.b.DynamoDBLeaseRenewer - Encountered an exception.
java.lang.RuntimeException: Connection refused: /127.0.0.1:41465
\tat a.b.DynamoDBLeaseRefresher.renewLease(DynamoDBLeaseRefresher.java:659)
";

    #[test]
    fn an_unknown_error_is_reported_with_its_exception() {
        let error = format!("{:#}", judge_text(LOG).unwrap_err());
        assert!(
            error.contains("Encountered an exception. | java.lang.RuntimeException"),
            "{error}"
        );
        assert!(!error.contains("Initialization"), "{error}");
    }

    #[test]
    fn a_harmless_warning_is_counted_until_it_is_a_loop() {
        let warning = "1 [main] WARN a.WorkerMetricsSelector - Did not find an operating range metadata provider.\n";
        assert_eq!(judge_text(warning).unwrap().values().sum::<usize>(), 1);
        assert!(judge_text(&warning.repeat(2)).is_err());
    }
}
