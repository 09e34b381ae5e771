//! A real binary as a child process, as Kubernetes runs it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
};

use crate::wait::eventually;

pub use rustix::process::Signal;

type OnLine = Arc<dyn Fn(&str) + Send + Sync>;

/// A binary and how it is started: with nothing in its environment but what is given.
#[derive(Clone)]
pub struct Program {
    path: OsString,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, OsString>,
    on_line: Option<OnLine>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path, arguments, ..
        } = self;
        write!(f, "{path:?} {arguments:?}")
    }
}

impl Program {
    /// The binary at this path; a test knows its own crate's by `env!("CARGO_BIN_EXE_…")`.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            on_line: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter().map(|it| it.as_ref().to_owned());
        self.arguments.extend(arguments);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment.insert(name.to_owned(), value);
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Calls `seen` with each line that it prints, as it comes.
    #[must_use]
    pub fn on_line(mut self, seen: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_line = Some(Arc::new(seen));
        self
    }

    /// Another program, in the environment of this one.
    #[must_use]
    pub fn environment_of(&self, mut other: Self) -> Self {
        other.environment.extend(self.environment.clone());
        other
    }

    /// As the last arguments of another program, which is to start it, in the environment of both.
    #[must_use]
    pub fn within(self, mut other: Self) -> Self {
        other.arguments.push(self.path);
        other.arguments.extend(self.arguments);
        other.environment.extend(self.environment);
        other
    }

    /// Starts it.
    pub fn start(&self) -> Process {
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let lines = Arc::new(watch::Sender::default());
        let reader = |lines, on_line| Reader { lines, on_line };
        let readers = [
            tokio::spawn(
                reader(Arc::clone(&lines), self.on_line.clone()).read(child.stdout.take().unwrap()),
            ),
            tokio::spawn(
                reader(Arc::clone(&lines), self.on_line.clone()).read(child.stderr.take().unwrap()),
            ),
        ];
        Process {
            name: format!("{:?}", self.path),
            child,
            lines,
            readers,
        }
    }

    /// Runs it to its end. Returns its exit code (-1: killed by a signal) and all that it printed.
    pub async fn run(&self) -> (i32, String) {
        let mut process = self.start();
        let status = process.ended().await;
        (status.code().unwrap_or(-1), process.log())
    }
}

struct Reader {
    lines: Arc<watch::Sender<Vec<String>>>,
    on_line: Option<OnLine>,
}

impl Reader {
    async fn read(self, output: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(on_line) = &self.on_line {
                on_line(&line);
            }
            self.lines.send_modify(|lines| lines.push(line));
        }
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// What it printed, on both outputs.
    lines: Arc<watch::Sender<Vec<String>>>,
    readers: [tokio::task::JoinHandle<()>; 2],
}

impl Process {
    /// Its id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Resident memory, in MiB, as /proc has it.
    pub fn rss_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    /// The most that it was so far.
    pub fn most_rss_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    fn memory_mib(&self, of: &str) -> f64 {
        let id = self.id().expect("it has not ended");
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(of));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<f64>().unwrap() / 1024.0
    }

    /// User and system time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.id().expect("it has not ended").to_string())
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// Waits for the first line that has `wanted` in it.
    pub async fn logged(&self, wanted: &str) -> String {
        self.first(&format!("a line with {wanted}"), |line| {
            line.contains(wanted).then(|| line.to_owned())
        })
        .await
    }

    /// Waits for the first line of which `pick` makes something.
    pub async fn first<T: Send>(
        &self,
        what: &str,
        pick: impl Fn(&str) -> Option<T> + Send + Sync,
    ) -> T {
        let mut lines = self.lines.subscribe();
        let mut seen = 0;
        let found = async {
            loop {
                let found = {
                    let lines = lines.borrow_and_update();
                    let found = lines[seen..].iter().find_map(|line| pick(line));
                    seen = lines.len();
                    found
                };
                match found {
                    Some(found) => return Some(found),
                    // Both readers have ended: no more lines come.
                    None if self.readers.iter().all(|reader| reader.is_finished()) => {
                        let lines = lines.borrow();
                        return lines[seen..].iter().find_map(|line| pick(line));
                    }
                    None => {}
                }
                let tick = tokio::time::sleep(std::time::Duration::from_millis(100));
                tokio::select! {
                    _ = lines.changed() => {}
                    () = tick => {}
                }
            }
        };
        let found = tokio::time::timeout(crate::PATIENCE, found).await;
        match found {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{} ended without {what}:\n{}", self.name, self.log()),
            Err(_) => panic!("{} never had {what}:\n{}", self.name, self.log()),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it has not ended").cast_signed();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// kill -9, and its end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end, and for all that it printed.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(crate::PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("never ended:\n{}", self.log()));
        for reader in &mut self.readers {
            if !reader.is_finished() {
                eventually("the end of the log", reader).await.unwrap();
            }
        }
        status.unwrap()
    }

    /// SIGTERM, and its end with code 0. Returns all that it printed.
    pub async fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.log());
        self.log()
    }
}

/// User and system time of this process so far, in seconds.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds("self")
}

/// As /proc has it, which Linux counts in hundredths of a second.
fn cpu_seconds(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let fields = after_name.split(' ').skip(11).take(2);
    fields
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}
