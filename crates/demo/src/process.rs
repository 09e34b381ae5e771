//! A part of the demo in a process of its own: this program again, with another subcommand.
//!
//! The child's standard input is a pipe that this process holds: a child that reads its end stops
//! by itself, so nothing is left behind when the demo is killed. It has a process group of its own,
//! so that Ctrl-C reaches the demo alone, which then ends it in order.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    net::unix::pipe,
    process::{Child, ChildStdin, ChildStdout, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// A running part. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Held open: see the module.
    _input: ChildStdin,
}

/// Lines of a part's standard output.
pub type Output = Lines<BufReader<ChildStdout>>;

impl Process {
    /// Starts this program as `part` with `environment`, and nothing else of ours but `PATH` and
    /// `RUST_LOG`. Its standard error goes to `log`.
    pub fn start(
        name: &str,
        part: &[&str],
        environment: &[(&str, String)],
        log: &Path,
    ) -> Result<(Self, Output)> {
        let program = std::env::current_exe().context("where is this program?")?;
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(part).env_clear();
        for kept in ["PATH", "RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        let mut child = command
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let input = child.stdin.take().context("no standard input")?;
        Ok((
            Self {
                name: name.to_owned(),
                child,
                _input: input,
            },
            BufReader::new(stdout).lines(),
        ))
    }

    /// Sends SIGTERM. A process that ended meanwhile is no error.
    pub fn terminate(&self) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
        {
            // Not yet waited for, so the id is still this child's.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.start_kill();
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// SIGTERM, and SIGKILL after `grace`. Says whether it ended by itself, with code 0.
    pub async fn stop(&mut self, grace: Duration) -> Result<()> {
        self.terminate();
        match timeout(grace, self.wait()).await {
            Ok(status) => match status? {
                status if status.success() => Ok(()),
                status => bail!("{} ended with {status}", self.name),
            },
            Err(_) => {
                self.kill();
                self.wait().await?;
                bail!(
                    "{} did not end within {grace:?} of SIGTERM and was killed",
                    self.name
                )
            }
        }
    }
}

/// In a child: a future that resolves on SIGTERM, or when the demo is gone.
pub fn told_to_stop() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Not `tokio::io::stdin()`: its blocking read would hold up this process's own end.
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut input =
        pipe::Receiver::from_owned_fd(input).context("this part is for the demo itself")?;
    Ok(async move {
        let mut byte = [0; 1];
        tokio::select! {
            _ = terminate.recv() => {}
            // Nothing is ever written: any end of the read is the end of the demo.
            _ = input.read(&mut byte) => {}
        }
    })
}
