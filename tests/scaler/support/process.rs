//! The scaler's binary, serving.

use std::{
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use test_support::Program;

use super::{Client, client};

const BINARY: &str = env!("CARGO_BIN_EXE_keda-kinesis-scaler");

/// A scaler as a process of its own.
#[derive(Debug)]
pub struct Process {
    process: test_support::Process,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    config: PathBuf,
    _file: Option<tempfile::NamedTempFile>,
}

impl Deref for Process {
    type Target = test_support::Process;

    fn deref(&self) -> &test_support::Process {
        &self.process
    }
}

impl Process {
    /// `serve`, with this configuration and nothing in the environment but `env`. Returns when it
    /// serves.
    pub async fn start(config: &str, env: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let mut process = Self::start_from(file.path(), env).await;
        process._file = Some(file);
        process
    }

    /// The same, with so many file descriptors at the most.
    pub async fn start_with_descriptors(most: u32, config: &str, env: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let limited = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        let shell = Program::new("/bin/sh").args(["-c", &limited, BINARY]);
        let mut process = Self::start_program(shell, file.path(), env).await;
        process._file = Some(file);
        process
    }

    /// The same, with the configuration in a file that somebody else keeps.
    pub async fn start_from(config: &Path, env: &[(&str, &str)]) -> Self {
        Self::start_program(Program::new(BINARY), config, env).await
    }

    async fn start_program(program: Program, config: &Path, env: &[(&str, &str)]) -> Self {
        let program = program
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--log-format", "json", "--config"])
            .args([config])
            // No profile of the machine, and no question to its metadata service.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", "/nonexistent");
        let program = env
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value));
        let process = program.start();
        let serving = process.first("the line that says it serves", |line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let address = |key| json[key].as_str().unwrap().parse().unwrap();
            (json["message"] == "serving").then(|| (address("grpc"), address("admin")))
        });
        let (address, admin) = serving.await;
        Self {
            process,
            address,
            admin,
            config: config.to_owned(),
            _file: None,
        }
    }

    /// Replaces its configuration.
    pub fn configure(&self, config: &str) {
        std::fs::write(&self.config, config).unwrap();
    }

    pub async fn client(&self) -> Client {
        client(self.address).await
    }

    /// Waits for its end; gives all that it logged.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.process.ended().await;
        let log = self.log().lines().map(str::to_owned).collect();
        (status, log)
    }
}
