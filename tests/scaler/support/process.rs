//! The real binary, as a child process.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use super::{Client, client, eventually};

#[derive(Debug)]
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub lines: Lines<BufReader<ChildStderr>>,
    /// Everything logged up to the line that says it serves.
    pub log: Vec<String>,
    _config: tempfile::NamedTempFile,
}

impl Process {
    /// `serve`, with this configuration and nothing in the environment but `env`. Returns when it serves.
    pub async fn start(config: &str, env: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_keda-kinesis-scaler"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--log-format", "json", "--config"])
            .arg(file.path())
            .env_clear()
            .envs(env.iter().copied())
            // No profile of the machine, and no question to its metadata service.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", "/nonexistent")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        let serving = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                log.push(line);
                if json["message"] == "serving" {
                    let address = |key| json[key].as_str().unwrap().parse().unwrap();
                    return (address("grpc"), address("admin"));
                }
            }
            panic!("the scaler ended before it served");
        };
        let (address, admin) = eventually("the scaler's log to say that it serves", serving).await;
        Self {
            child,
            address,
            admin,
            lines,
            log,
            _config: file,
        }
    }

    pub async fn client(&self) -> Client {
        client(self.address).await
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; gives the rest of its log too.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let ended = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.log.push(line);
            }
            self.child.wait().await.unwrap()
        };
        let status = eventually("the scaler to end", ended).await;
        (status, self.log)
    }
}
