//! The process: its start, its output, its end.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{self, ChildStdin, ChildStdout},
    sync::{OwnedMutexGuard, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    exchange::Sent,
    output::Output,
    program::Program,
    stderr::{LAST_LINE_CHARS, Stderr},
};
use crate::{
    metrics::Metrics,
    wire::{
        answers::{self, Answer},
        messages::Action,
    },
};

/// Messages that a child may send without being asked; then its output waits.
const UNASKED: usize = 16;
/// Between end of input, SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a dead process wrote is in its pipes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The oldest clients whose protocol is today's.
const CLIENTS: &str =
    "amazon_kclpy, aws-kcl, aws-kclrb or Amazon.Kinesis.ClientLibrary 2.0 or later";

/// Why a child is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("{program} could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// It ended, or closed a pipe.
    #[error("the child {how}{during}{last}")]
    Died {
        /// How it ended: a verb and its object.
        how: String,
        /// What it was asked.
        during: String,
        /// The end of its standard error.
        last: String,
    },
    /// It took too long.
    #[error("the child said nothing for {0:?} (timeoutInSeconds) while it was asked {1}")]
    Silent(Duration, &'static str),
    /// It answered what was not asked.
    #[error("the child answered {got:?} where it was asked {want}: its answers are out of step")]
    OutOfStep {
        /// Its answer's `responseFor`.
        got: String,
        /// What it was asked.
        want: &'static str,
    },
    /// It speaks an older protocol.
    #[error("the child's client library is too old: {0}: want {clients}", clients = CLIENTS)]
    TooOld(String),
    /// A message was broken off.
    #[error("the child was not told all of a message: it has to be started anew")]
    Torn,
}

impl ChildError {
    /// It said that it does not know that message.
    pub(super) fn unknown_to_it(action: Action) -> Self {
        Self::TooOld(format!("it does not know the message {}", action.name()))
    }
}

/// A child of one shard. When dropped it is killed: [`stop`](Self::stop) is kinder.
#[derive(Debug)]
pub struct Child {
    pub(super) shard: String,
    pub(super) process: process::Child,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) answers: mpsc::Receiver<Answer>,
    pub(super) stderr: Arc<Stderr>,
    hearing: JoinHandle<()>,
    group: Option<Pid>,
    pub(super) timeout: Option<Duration>,
    /// What it was asked and did not answer yet.
    pub(super) awaiting: Option<Action>,
    /// A message was begun and not ended.
    pub(super) torn: bool,
    pub(super) sent: Sent,
    /// Two children of one shard would work on the same records.
    _alone: OwnedMutexGuard<()>,
}

impl Child {
    /// Starts one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn start(
        program: &Program,
        shard: &str,
        timeout: Option<Duration>,
        metrics: Arc<Metrics>,
        alone: OwnedMutexGuard<()>,
    ) -> Result<Self, ChildError> {
        let failed = |source| ChildError::Start {
            program: program.to_string(),
            source,
        };
        let mut process = program.command().spawn().map_err(failed)?;
        let no_pipe = || failed(io::Error::other("it has no pipe"));
        let stdin = process.stdin.take().ok_or_else(no_pipe)?;
        let stdout = process.stdout.take().ok_or_else(no_pipe)?;
        let stderr = process.stderr.take().ok_or_else(no_pipe)?;
        let id = process.id();
        info!(shard, pid = id, "child started");
        metrics.child_started();
        let (to, answers) = mpsc::channel(UNASKED);
        tokio::spawn(hear(stdout, shard.to_owned(), to, metrics));
        let words = Arc::new(Stderr::default());
        let hearing = {
            let words = Arc::clone(&words);
            tokio::spawn(async move { words.pass_on(stderr).await })
        };
        Ok(Self {
            shard: shard.to_owned(),
            stdin: Some(stdin),
            answers,
            stderr: words,
            hearing,
            group: id.and_then(|id| Pid::from_raw(id.cast_signed())),
            process,
            timeout,
            awaiting: None,
            torn: false,
            sent: Sent::Nothing,
            _alone: alone,
        })
    }

    /// Resolves when it ends, though nobody asked it to.
    pub async fn died(&mut self) -> ChildError {
        let _ = self.process.wait().await;
        self.death().await
    }

    /// How it ended.
    pub(super) async fn death(&mut self) -> ChildError {
        let status = timeout(LAST_WORDS, self.process.wait()).await;
        if !self.hearing.is_finished() {
            let _ = timeout(LAST_WORDS, &mut self.hearing).await;
        }
        if let Some(action) = self.awaiting.filter(|it| self.stderr.has_refused(*it)) {
            return ChildError::unknown_to_it(action);
        }
        let how = match status {
            Ok(Ok(status)) => format!("ended by itself ({})", said(status)),
            _ => "closed its pipes".to_owned(),
        };
        let during = match self.awaiting {
            Some(action) => format!(" while it was asked {}", action.name()),
            None => " while it was asked nothing".to_owned(),
        };
        let last = self.stderr.last_words();
        ChildError::Died { how, during, last }
    }

    /// Ends it in order: end of input, then SIGTERM, then SIGKILL. What it started is killed.
    pub async fn stop(mut self) {
        self.stdin = None;
        match timeout(PATIENCE, self.process.wait()).await {
            Ok(status) => {
                self.signal(Signal::KILL);
                self.ended(status);
            }
            Err(_) => self.kill().await,
        }
    }

    /// Ends it: SIGTERM, then SIGKILL. With it goes what it started.
    pub async fn kill(mut self) {
        self.stdin = None;
        self.signal(Signal::TERM);
        let mut status = timeout(PATIENCE, self.process.wait()).await;
        if status.is_err() {
            warn!(shard = self.shard, "the child does not end: it is killed");
            self.signal(Signal::KILL);
            status = timeout(PATIENCE, self.process.wait()).await;
        }
        // What it started may still hold its pipes.
        self.signal(Signal::KILL);
        if let Ok(status) = status {
            self.ended(status);
        }
    }

    fn ended(&self, status: io::Result<ExitStatus>) {
        let shard = &self.shard;
        match status {
            Ok(status) => info!(shard, "Child process exited with value: {}", said(status)),
            Err(error) => warn!(shard, %error, "the child's end is not known"),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Where nobody is left there is nothing to do.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// As Java says it: 128 and the signal's number.
fn said(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("{}, signal {signal}", 128 + signal),
        (None, None) => status.to_string(),
    }
}

/// Reads its output to the end, whether anybody waits for an answer or not.
async fn hear(stdout: ChildStdout, shard: String, to: mpsc::Sender<Answer>, metrics: Arc<Metrics>) {
    let mut output = Output::new(stdout);
    while let Some(line) = output.next().await {
        if line.cut > 0 {
            let cut = line.cut;
            warn!(
                shard,
                cut, "a line on the child's STDOUT is too long: the rest is left out"
            );
        }
        match answers::parse(&line.text) {
            // Nobody is interested any more: the output is still read.
            Some(answer) => drop(to.send(answer).await),
            None => {
                metrics.junk_line();
                let text = line.text.chars().take(LAST_LINE_CHARS).collect::<String>();
                info!(
                    shard,
                    "Skipping unexpected line on STDOUT for shard {shard}: {text}"
                );
            }
        }
    }
}
