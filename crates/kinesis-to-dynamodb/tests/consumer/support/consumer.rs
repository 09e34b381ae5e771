//! A consumer in a process of its own, as Kubernetes runs it.

use std::{collections::BTreeMap, process::Stdio, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
};

use super::eventually;

/// A consumer, running or not yet. Killed when dropped.
pub struct Consumer {
    environment: BTreeMap<&'static str, String>,
    arguments: Vec<String>,
    child: Option<Child>,
    lines: Arc<watch::Sender<Vec<String>>>,
}

impl Consumer {
    pub fn new(environment: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let lines = Arc::new(watch::Sender::default());
        Self {
            environment: environment.into_iter().collect(),
            arguments: vec![],
            child: None,
            lines,
        }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.environment.remove(name);
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn start(mut self) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kinesis-to-dynamodb"))
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = Arc::clone(&self.lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                told.send_modify(|lines| lines.push(line));
            }
        });
        self.child = Some(child);
        self
    }

    /// Runs to the end. Returns the exit code and everything that was logged.
    pub async fn run(self) -> (i32, String) {
        let mut consumer = self.start();
        let code = consumer.ended().await;
        (code, consumer.log())
    }

    pub fn log(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// Waits for a log line that has `wanted` in it.
    pub async fn logged(&self, wanted: &str) -> String {
        let mut lines = self.lines.subscribe();
        let found = async {
            let lines = lines
                .wait_for(|lines| lines.iter().any(|line| line.contains(wanted)))
                .await
                .unwrap();
            lines
                .iter()
                .find(|line| line.contains(wanted))
                .cloned()
                .unwrap()
        };
        let limit = std::time::Duration::from_secs(60);
        let found = tokio::time::timeout(limit, found).await;
        found.unwrap_or_else(|_| panic!("never logged: {wanted}\n{}", self.log()))
    }

    /// Waits until it consumes.
    pub async fn consuming(&self) {
        self.logged("\"consuming\"").await;
    }

    /// Asks the admin port. Returns status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let line: Value = serde_json::from_str(&self.logged("admin port").await).unwrap();
        let mut socket = TcpStream::connect(line["address"].as_str().unwrap())
            .await
            .unwrap();
        socket
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    /// The sum of a metric over its labels that have `label` in them; `None` where it has no line.
    pub async fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let lines = text.lines().filter(|line| {
            line.starts_with(&format!("kinesis_consumer_{name}{{")) && line.contains(label)
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .reduce(|a, b| a + b)
    }

    pub async fn metric_when(&self, name: &str, label: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        eventually(name, async || {
            self.metric(name, label)
                .await
                .filter(|value| wanted(*value))
        })
        .await
    }

    /// What `kubectl delete pod` sends first.
    pub async fn terminate(&self) {
        let id = self.child.as_ref().unwrap().id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .arg(id)
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    /// kill -9, and its end.
    pub async fn kill(mut self) {
        self.child.as_mut().unwrap().kill().await.unwrap();
    }

    /// Waits for its end. -1: killed by a signal.
    pub async fn ended(&mut self) -> i32 {
        let ended = self.child.as_mut().unwrap().wait();
        let status = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await;
        let code = status
            .unwrap_or_else(|_| panic!("never ended\n{}", self.log()))
            .unwrap()
            .code()
            .unwrap_or(-1);
        // The reader ends with the pipe, and drops its sender then.
        eventually("end of the log", async || {
            (Arc::strong_count(&self.lines) == 1).then_some(())
        })
        .await;
        code
    }

    /// SIGTERM, and code 0.
    pub async fn stop(mut self) -> String {
        self.terminate().await;
        let code = self.ended().await;
        assert_eq!(code, 0, "{}", self.log());
        self.log()
    }
}
