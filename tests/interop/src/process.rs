//! The workers, as real processes: which are there, how they are started and ended.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{PATIENCE, ledger::Ledger};

/// All workers of an application must agree on it.
const FAILOVER_MILLIS: &str = "2000";

/// A version of the Java KCL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kcl {
    V2,
    /// In its 2.x-compatible mode.
    V3,
    /// On its way from 2.x: it waits until every worker reports itself, and is led then.
    Upgrading,
    /// As it is by default: a leader assigns the leases.
    Led,
}

/// Whose worker it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Java(Kcl),
    Rust,
}

/// A worker's process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) side: Side,
    pub(crate) log: PathBuf,
    child: Child,
    output: Option<JoinHandle<()>>,
}

impl Kcl {
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::V2 => "2.7.2",
            Self::V3 | Self::Upgrading | Self::Led => "3.5.1",
        }
    }

    /// As scenarios are named.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V2 => "2.7.2",
            Self::V3 => "3.5.1",
            Self::Upgrading => "3.5.1-upgrading",
            Self::Led => "3.5.1-led",
        }
    }

    /// Whether it has other items than leases in the lease table.
    pub(crate) fn has_items(self) -> bool {
        match self {
            Self::V2 | Self::V3 => false,
            Self::Upgrading | Self::Led => true,
        }
    }

    /// Its `ClientVersionConfig`, which 2.x has not.
    fn client_version(self) -> &'static str {
        match self {
            Self::V2 | Self::V3 => "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1",
            Self::Upgrading => "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X",
            Self::Led => "CLIENT_VERSION_CONFIG_3X",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Java(_) => "java",
            Self::Rust => "rust",
        })
    }
}

/// A binary of this workspace, beside this one.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    let folder = std::env::current_exe()?;
    let binary = folder.with_file_name(name);
    ensure!(
        binary.exists(),
        "{} is not built: start this by tests/interop/run",
        binary.display()
    );
    Ok(binary)
}

impl Worker {
    /// Starts one. What it reports goes to the ledger under `number`.
    pub(crate) fn start(
        side: Side,
        number: usize,
        environment: &[(&'static str, String)],
        halfway: bool,
        (ledger, logs): (&Arc<Ledger>, &Path),
    ) -> Result<Self> {
        let name = format!("{side}-{number}");
        let mut command = match side {
            Side::Rust => Command::new(binary("interop-worker")?),
            Side::Java(kcl) => java(kcl)?,
        };
        if let Side::Java(kcl) = side {
            command.env("CLIENT_VERSION", kcl.client_version());
        }
        let log = logs.join(format!("{name}.log"));
        if halfway {
            command.env("HALFWAY", "1");
        }
        let mut child = command
            .env_clear_but_path()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .env("WORKER_ID", &name)
            .env("FAILOVER_MILLIS", FAILOVER_MILLIS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let ledger = Arc::clone(ledger);
        let output = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                ledger.line(number, &line);
            }
        });
        Ok(Self {
            name,
            side,
            log,
            child,
            output: Some(output),
        })
    }

    /// Does it run? An error if it ended by itself.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let expected = self.output.is_none();
            ensure!(expected, "{} ended by itself: {status}", self.name);
        }
        Ok(())
    }

    /// Has it been ended?
    pub(crate) fn is_over(&self) -> bool {
        self.output.is_none()
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        let id = self.child.id().context("it is over")?.to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await?;
        ensure!(sent.success(), "kill -TERM {id}: {sent}");
        let status = self.over().await?;
        // The JVM's for a SIGTERM, whatever its hooks do.
        let expected = if self.side == Side::Rust { 0 } else { 143 };
        ensure!(
            status.code() == Some(expected),
            "{} ended by {status}, want {expected}",
            self.name
        );
        Ok(())
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.start_kill()?;
        self.over().await?;
        Ok(())
    }

    /// Waits for its end, and until all that it reported is in the ledger.
    async fn over(&mut self) -> Result<ExitStatus> {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.with_context(|| format!("{} does not end", self.name))??;
        self.output.take().context("it was over")?.await?;
        Ok(status)
    }
}

fn java(kcl: Kcl) -> Result<Command> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/target");
    let built = built.join(kcl.version());
    let jar = built.join("kcl-worker.jar");
    ensure!(
        jar.exists(),
        "{} is not built: start this by tests/interop/run",
        jar.display()
    );
    let mut command = Command::new("java");
    command
        // Little memory and little compiling: it shares the machine with a build.
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=info")
        .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
        .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
        .arg("-cp")
        .arg(format!(
            "{0}/kcl-worker.jar:{0}/dependency/*",
            built.display()
        ))
        .arg("Worker");
    Ok(command)
}

trait Environment {
    /// Nothing of this process's environment but what finds programs.
    fn env_clear_but_path(&mut self) -> &mut Self;
}

impl Environment for Command {
    fn env_clear_but_path(&mut self) -> &mut Self {
        for (key, _) in std::env::vars_os() {
            if key != "PATH" && key != "JAVA_HOME" {
                self.env_remove(key);
            }
        }
        self
    }
}
