//! The process: its start, its output, its end.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{self, ChildStderr, ChildStdin, ChildStdout},
    sync::{OwnedMutexGuard, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tracing::{info, warn};

use super::program::Program;
use crate::{
    metrics::Metrics,
    wire::{
        answers::{self, Answer},
        lines::{Line, Lines},
        messages::Action,
    },
};

/// Messages that a child may send without being asked; then its output waits.
const UNASKED: usize = 16;
/// Lines of standard error that are repeated where a child dies, and the characters of each.
const LAST_LINES: usize = 20;
const LAST_LINE_CHARS: usize = 500;
/// Between end of input, SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a dead process wrote is in its pipes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a child is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("{program} could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended, or closed a pipe.
    #[error("the child {how}{during}{hint}{last}")]
    Died {
        /// How.
        how: String,
        /// What it was asked.
        during: String,
        /// What may be the reason.
        hint: &'static str,
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
    #[error("the child's client library is too old: {0}")]
    TooOld(&'static str),
    /// A message was broken off.
    #[error("the child was not told all of a message: it has to be started anew")]
    Torn,
}

/// A child of one shard. When dropped it is killed: [`stop`](Self::stop) is kinder.
#[derive(Debug)]
pub struct Child {
    pub(super) shard: String,
    pub(super) process: process::Child,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) answers: mpsc::Receiver<Answer>,
    stderr: JoinHandle<()>,
    last: Arc<Mutex<VecDeque<String>>>,
    group: Option<Pid>,
    pub(super) timeout: Option<Duration>,
    /// What it was asked and did not answer yet.
    pub(super) awaiting: Option<Action>,
    /// A message was begun and not ended.
    pub(super) torn: bool,
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
        let last = Arc::new(Mutex::new(VecDeque::new()));
        Ok(Self {
            shard: shard.to_owned(),
            stdin: Some(stdin),
            answers,
            stderr: tokio::spawn(pass_on(stderr, Arc::clone(&last))),
            last,
            group: id.and_then(|id| Pid::from_raw(id.cast_signed())),
            process,
            timeout,
            awaiting: None,
            torn: false,
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
        if !self.stderr.is_finished() {
            let _ = timeout(LAST_WORDS, &mut self.stderr).await;
        }
        let how = match status {
            Ok(Ok(status)) => format!("ended by itself ({})", said(status)),
            _ => "closed its pipes".to_owned(),
        };
        let during = match self.awaiting {
            Some(action) => format!(" while it was asked {}", action.name()),
            None => " while it was asked nothing".to_owned(),
        };
        let hint = match self.awaiting {
            Some(Action::LeaseLost | Action::ShardEnded | Action::ShutdownRequested) => {
                "; clients before 2.0 do not know that message"
            }
            _ => "",
        };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match last.is_empty() {
            true => String::new(),
            false => {
                let lines: Vec<_> = last.iter().map(String::as_str).collect();
                format!("; its last lines on standard error: {}", lines.join(" | "))
            }
        };
        ChildError::Died {
            how,
            during,
            hint,
            last,
        }
    }

    /// Ends it in order: end of input, then SIGTERM, then SIGKILL.
    pub async fn stop(mut self) {
        self.stdin = None;
        match timeout(PATIENCE, self.process.wait()).await {
            Ok(status) => self.ended(status),
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

/// Its standard error becomes ours, by whole lines; the last ones are kept.
async fn pass_on(stderr: ChildStderr, last: Arc<Mutex<VecDeque<String>>>) {
    let mut output = Output::new(stderr);
    while let Some(line) = output.next().await {
        let _ = writeln!(io::stderr().lock(), "{}", line.text);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.text.chars().take(LAST_LINE_CHARS).collect());
    }
}

/// A pipe, by lines.
struct Output<P> {
    pipe: P,
    lines: Lines,
    ready: VecDeque<Line>,
    buffer: Vec<u8>,
}

impl<P: AsyncRead + Unpin> Output<P> {
    fn new(pipe: P) -> Self {
        Self {
            pipe,
            lines: Lines::default(),
            ready: VecDeque::new(),
            buffer: vec![0; 8 << 10],
        }
    }

    /// `None`: the pipe has ended.
    async fn next(&mut self) -> Option<Line> {
        while self.ready.is_empty() {
            match self.pipe.read(&mut self.buffer).await {
                Ok(length @ 1..) => {
                    let ready = &mut self.ready;
                    self.lines
                        .push(&self.buffer[..length], |line| ready.push_back(line));
                }
                _ => return self.lines.end(),
            }
        }
        self.ready.pop_front()
    }
}
