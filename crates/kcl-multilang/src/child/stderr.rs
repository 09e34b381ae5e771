//! A child's standard error: passed on, and its last lines kept.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
};

use tokio::{io::AsyncReadExt as _, process::ChildStderr, sync::Notify};

use crate::wire::{
    lines::{LONGEST, Lines},
    messages::Action,
};

/// Lines that are repeated where a child dies, and the characters of each.
const LAST_LINES: usize = 20;
pub(super) const LAST_LINE_CHARS: usize = 500;

/// What clients say of a message that they do not know, in their words.
const UNKNOWN: [&str; 4] = [
    "couldn't be understood",
    "nvalid action",
    "nknown action",
    "alformed",
];

/// What a child wrote there last.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    last: Mutex<VecDeque<String>>,
    heard: Notify,
}

impl Stderr {
    /// Its standard error becomes ours, byte by byte; by whole lines, as others write there, too.
    pub(super) async fn pass_on(&self, mut stderr: ChildStderr) {
        let (mut lines, mut buffer) = (Lines::default(), vec![0; 8 << 10]);
        let mut begun = Vec::new();
        while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
            let bytes = &buffer[..length];
            lines.push(bytes, |line| self.keep(&line.text));
            begun.extend_from_slice(bytes);
            let whole = begun.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
            let whole = match whole {
                Some(end) => end + 1,
                None if begun.len() >= LONGEST => begun.len(),
                None => 0,
            };
            let _ = io::stderr().lock().write_all(&begun[..whole]);
            begun.drain(..whole);
        }
        if let Some(line) = lines.end() {
            self.keep(&line.text);
        }
        if !begun.is_empty() {
            begun.push(b'\n');
            let _ = io::stderr().lock().write_all(&begun);
        }
    }

    fn keep(&self, line: &str) {
        let line = line.chars().take(LAST_LINE_CHARS).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
        drop(last);
        self.heard.notify_one();
    }

    /// The last lines, for people; empty where there are none.
    pub(super) fn last_words(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = last.iter().map(String::as_str).collect();
        format!("; its last lines on standard error: {}", lines.join(" | "))
    }

    /// Resolves once it said that it does not know this message. Some clients go on then, and
    /// answer nothing.
    pub(super) async fn refuses(&self, action: Action) {
        while !self.has_refused(action) {
            self.heard.notified().await;
        }
    }

    /// Clients before 2.0 do not know `leaseLost` and `shardEnded`, the first ones not
    /// `shutdownRequested` either.
    pub(super) fn has_refused(&self, action: Action) -> bool {
        if matches!(action, Action::Initialize | Action::ProcessRecords) {
            return false;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().any(|line| {
            line.contains(action.name()) && UNKNOWN.iter().any(|words| line.contains(words))
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::python(
        "amazon_kclpy.dispatch.MalformedAction: Received an action which couldn't be understood. Action was 'shardEnded' -- Allowed …",
        Action::ShardEnded
    )]
    #[case::node(
        "Invalid action received: {\"action\":\"shardEnded\"}",
        Action::ShardEnded
    )]
    #[case::ruby(
        "kcl_process.rb:72:in `process_action': Received an action which couldn't be understood. Action was '{\"action\"=>\"shutdownRequested\"}' (Aws::KCLrb::MalformedAction)",
        Action::ShutdownRequested
    )]
    #[case::dot_net(
        "Unhandled exception. Amazon.Kinesis.ClientLibrary.MalformedActionException: Received an action which couldn't be understood: {\"action\":\"leaseLost\"}",
        Action::LeaseLost
    )]
    fn clients_before_2_say_that_they_do_not_know_a_message(
        #[case] line: &str,
        #[case] unknown: Action,
    ) {
        let stderr = Stderr::default();
        stderr.keep(line);
        for action in [
            Action::LeaseLost,
            Action::ShardEnded,
            Action::ShutdownRequested,
        ] {
            assert_eq!(stderr.has_refused(action), action == unknown, "{action:?}");
        }
    }

    #[test]
    fn a_users_own_word_of_a_message_is_no_refusal() {
        let stderr = Stderr::default();
        stderr.keep("shardEnded: nothing left to do");
        assert!(!stderr.has_refused(Action::ShardEnded));
    }

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let stderr = Stderr::default();
        assert_eq!(stderr.last_words(), "");
        for number in 0..=LAST_LINES {
            stderr.keep(&format!("line {number}"));
        }
        let words = stderr.last_words();
        assert!(
            words.contains("line 1 | ") && !words.contains("line 0"),
            "{words}"
        );
    }
}
