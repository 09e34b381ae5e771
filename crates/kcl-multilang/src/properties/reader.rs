//! Values of the file, and the verdict on each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    known,
    report::{Entry, Report, Verdict},
};

/// Longer times overflow clocks.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Values as they are asked for, each with what becomes of it.
pub(super) struct Reader<'a> {
    pub(super) entries: &'a BTreeMap<String, String>,
    pub(super) read: BTreeSet<String>,
    pub(super) asked: Vec<&'static str>,
    pub(super) report: Report,
}

impl Reader<'_> {
    pub(super) fn required(&mut self, key: &'static str, what: &'static str) -> Option<String> {
        let value = self.text(key);
        if value.is_none() {
            self.report.missing.push((key, what));
        }
        value
    }

    /// How the file writes the key, if it has it: those of credentials in any case.
    pub(super) fn read_as(&self, key: &str) -> Option<&String> {
        let of_credentials = key.starts_with("AwsCredentialsProvider");
        self.entries
            .keys()
            .find(|name| *name == key || of_credentials && name.eq_ignore_ascii_case(key))
    }

    /// A value that says something.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        let name = self.read_as(key)?.clone();
        let value = self.entries.get(&name)?.trim().to_owned();
        self.read.insert(name.clone());
        let is_empty = value.is_empty();
        self.report.entries.push(Entry {
            key: name,
            value: value.clone(),
            verdict: match is_empty {
                true => Verdict::Noted("it is empty, and counts as unset".to_owned()),
                false => Verdict::Done("as it says".to_owned()),
            },
        });
        (!is_empty).then_some(value)
    }

    /// A whole number; 0 and what is none count as unset, as in Java.
    pub(super) fn number(&mut self, key: &'static str, what: &str) -> Option<u64> {
        let text = self.text(key)?;
        match text.parse() {
            Ok(0) => self.note("0 counts as unset, as in Java"),
            Ok(number) => {
                self.done(&format!("{what}: {number}"));
                return Some(number);
            }
            Err(_) => self.note("it is no whole number, and counts as unset, as in Java"),
        }
        None
    }

    pub(super) fn millis(&mut self, key: &'static str, least: u64, what: &str) -> Option<Duration> {
        let millis = self.number(key, what)?;
        let time = Duration::from_millis(millis);
        if time > LONGEST {
            self.refuse("want milliseconds, of 365 days at most");
            return None;
        }
        if millis < least {
            self.note(&format!("{least} ms is the least: {least} ms"));
            return Some(Duration::from_millis(least));
        }
        self.done(&format!("{what}: {time:?}"));
        Some(time)
    }

    pub(super) fn flag(&mut self, key: &'static str, what: &str) -> Option<bool> {
        let text = self.text(key)?.to_ascii_lowercase();
        let flag = ["true", "yes", "y", "on", "1"].contains(&text.as_str());
        self.done(&format!("{what}: {}", if flag { "yes" } else { "no" }));
        Some(flag)
    }

    /// What the daemon does for want of the key, where a user has to know it.
    pub(super) fn unset(&mut self, key: &str, what: &str) {
        self.report.entries.push(Entry {
            key: key.to_owned(),
            value: String::new(),
            verdict: Verdict::Noted(format!("unset: {what}")),
        });
    }

    // === verdicts on the key that was read last ===

    pub(super) fn done(&mut self, text: &str) {
        self.judge(Verdict::Done(text.to_owned()));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.judge(Verdict::Noted(text.to_owned()));
    }

    pub(super) fn refuse(&mut self, instead: &str) {
        self.judge(Verdict::Refused(instead.to_owned()));
    }

    fn judge(&mut self, verdict: Verdict) {
        if let Some(entry) = self.report.entries.last_mut() {
            entry.verdict = verdict;
        }
    }

    /// Keys that nobody asked for.
    pub(super) fn rest(&mut self) {
        for (key, value) in self.entries {
            if !self.read.contains(key) {
                self.report.entries.push(Entry {
                    key: key.clone(),
                    value: value.clone(),
                    verdict: known::verdict(key, self.asked.iter().copied()),
                });
            }
        }
    }
}
