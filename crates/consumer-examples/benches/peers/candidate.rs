//! Who is measured: how each worker process is started, and what it tells.
//!
//! Every candidate takes the same environment and prints one line per event: `started SHARD`,
//! `records SHARD COUNT`, `lost SHARD`, `stopping SHARD`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command as AsyncCommand},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A kind of worker.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// A line that a worker printed, and when it was read.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) exec: Instant,
    child: Child,
    lines: mpsc::UnboundedReceiver<Line>,
}

impl Candidate {
    /// Makes sure that the candidate can be started here; the error says what is missing.
    pub(crate) fn prepare(name: &str) -> Result<Self> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let mut environment = Vec::new();
        let kind = match name.strip_suffix("-fanout") {
            Some(kind) => {
                environment.push(("RETRIEVAL", "fanout".to_owned()));
                kind
            }
            None => name,
        };
        let command = match kind {
            "ours" => vec![bench_worker()?],
            "ours-unpaced" => {
                environment.push(("UNPACED", "1".to_owned()));
                vec![bench_worker()?]
            }
            "bare" => {
                environment.push(("BARE", "1".to_owned()));
                vec![bench_worker()?]
            }
            "kcl3" | "kcl3-200ms" | "kcl2" => {
                if kind == "kcl3-200ms" {
                    environment.push(("IDLE_MILLIS", "200".to_owned()));
                }
                let version = if kind == "kcl2" { "2.7.2" } else { "3.5.1" };
                let folder = peers.join("kcl-java");
                let built = Command::new("mvn")
                    .args(["-q", "package", &format!("-Dkcl={version}")])
                    .current_dir(&folder)
                    .status()
                    .context("mvn (Maven and a JDK 17)")?;
                ensure!(
                    built.success(),
                    "mvn package failed in {}",
                    folder.display()
                );
                let target = folder.join("target").join(version);
                let classes = format!("{0}/kcl-java.jar:{0}/dependency/*", target.display());
                vec![
                    "java".to_owned(),
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error".to_owned(),
                    "-cp".to_owned(),
                    classes,
                    "Peer".to_owned(),
                ]
            }
            "kcl-rs" | "kcl-rs-200ms" => {
                if name == "kcl-rs-200ms" {
                    environment.push(("IDLE_MILLIS", "200".to_owned()));
                }
                let python =
                    std::env::var("KCL_RS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
                let found = Command::new(&python)
                    .args(["-c", "import kcl_rs"])
                    .stderr(Stdio::null())
                    .status()?;
                ensure!(
                    found.success(),
                    "{python} has no kcl_rs: pip install kcl-rs==0.1.4, or name another Python in KCL_RS_PYTHON"
                );
                vec![python, peers.join("kcl-rs/peer.py").display().to_string()]
            }
            other => bail!(
                "{other}: want ours, ours-unpaced, bare, kcl3, kcl3-200ms, kcl2, kcl-rs or kcl-rs-200ms; \
                 all but the last two also with -fanout"
            ),
        };
        Ok(Self {
            name: name.to_owned(),
            command,
            environment,
        })
    }

    /// Does the candidate only read, without leases?
    pub(crate) fn is_bare(&self) -> bool {
        self.name.starts_with("bare")
    }

    /// Starts a worker.
    pub(crate) fn start(&self, environment: &[(&'static str, String)]) -> Result<Worker> {
        let (program, arguments) = self.command.split_first().context("no command")?;
        let exec = Instant::now();
        let mut child = AsyncCommand::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let mut output = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(text)) = output.next_line().await {
                if sender
                    .send(Line {
                        at: Instant::now(),
                        text,
                    })
                    .is_err()
                {
                    break;
                }
            }
        });
        Ok(Worker { exec, child, lines })
    }
}

impl Worker {
    /// The next line; an error when the process ended.
    pub(crate) async fn line(&mut self) -> Result<Line> {
        self.lines.recv().await.context("the worker ended")
    }

    /// Waits for a line that starts with `prefix`.
    pub(crate) async fn wait_for(&mut self, prefix: &str) -> Result<Line> {
        loop {
            let line = self.line().await?;
            if line.text.starts_with(prefix) {
                return Ok(line);
            }
        }
    }

    /// What it has told up to `end`, of what nobody has read yet.
    pub(crate) async fn lines_until(&mut self, end: Instant) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &Line| line.at < end) {
            lines.push(self.line().await?);
        }
        Ok(lines)
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid()?;
        ensure!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid.to_string()])
                .status()?
                .success(),
            "kill -{name} {pid} failed"
        );
        Ok(())
    }

    /// Ends the process at once and waits for it.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// User and system CPU seconds so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let after_name = text.rsplit(')').next().context("stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / 100.0)
    }

    /// Its TCP connections, looked at again and again from now on: the most that there were.
    pub(crate) fn count_connections(&self) -> Result<(Arc<AtomicUsize>, JoinHandle<()>)> {
        let (pid, most) = (self.pid()?, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&most);
        let counting = tokio::spawn(async move {
            loop {
                let open = test_support::connections(Some(pid));
                counted.fetch_max(open.map_or(0, |open| open.len()), Ordering::Relaxed);
                sleep(Duration::from_millis(20)).await;
            }
        });
        Ok((most, counting))
    }

    /// Resident memory in MB: (now, peak).
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let megabytes = |key: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
        };
        Ok((
            megabytes("VmRSS").context("VmRSS")?,
            megabytes("VmHWM").context("VmHWM")?,
        ))
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("the worker ended")
    }
}

/// `examples/bench_worker.rs`, built with the same profile as this benchmark.
fn bench_worker() -> Result<String> {
    let benchmark = std::env::current_exe()?; // target/PROFILE/deps/peers-…
    let folder: PathBuf = benchmark
        .ancestors()
        .nth(2)
        .context("no target folder")?
        .to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "-p",
        "consumer-examples",
        "--example",
        "bench_worker",
    ]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    ensure!(
        build.status()?.success(),
        "building examples/bench_worker.rs failed"
    );
    Ok(folder.join("examples/bench_worker").display().to_string())
}
