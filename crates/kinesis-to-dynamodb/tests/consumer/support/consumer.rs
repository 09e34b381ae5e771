//! A consumer in a process of its own, as Kubernetes runs it.

use std::{
    env,
    ops::{Deref, DerefMut},
};

use serde_json::Value;
use test_support::{Process, Program, Signal, http, until};

/// The consumer's binary: this build's, or the one that `CONSUMER` names.
pub fn binary() -> Program {
    let built = env!("CARGO_BIN_EXE_kinesis-to-dynamodb");
    Program::new(env::var_os("CONSUMER").unwrap_or_else(|| built.into()))
}

/// The consumer's binary and its settings.
#[derive(Clone, Debug)]
pub struct Setup(Program);

impl Setup {
    pub fn new<'a>(environment: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let set = |program: Program, (name, value): (&str, String)| program.env(name, value);
        Self(environment.into_iter().fold(binary(), set))
    }

    pub fn with(self, name: &str, value: &str) -> Self {
        Self(self.0.env(name, value))
    }

    pub fn without(self, name: &str) -> Self {
        Self(self.0.without(name))
    }

    pub fn argument(self, argument: &str) -> Self {
        Self(self.0.args([argument]))
    }

    pub fn start(&self) -> Consumer {
        Consumer(self.0.start())
    }

    /// Runs to the end. Returns the exit code and everything that was logged.
    pub async fn run(&self) -> (i32, String) {
        self.0.run().await
    }
}

/// A running consumer; killed when dropped.
#[derive(Debug)]
pub struct Consumer(Process);

impl Deref for Consumer {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Consumer {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}

impl Consumer {
    /// Waits until it consumes.
    pub async fn consuming(&self) {
        self.logged("\"consuming\"").await;
    }

    /// Asks the admin port. Returns status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let line: Value = serde_json::from_str(&self.logged("admin port").await).unwrap();
        let address = line["address"].as_str().unwrap().parse().unwrap();
        http::get(address, path).await
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
        until(name, async || {
            self.metric(name, label)
                .await
                .filter(|value| wanted(*value))
        })
        .await
    }

    /// What `kubectl delete pod` sends first.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// kill -9, and its end.
    pub async fn kill(self) {
        self.0.kill().await;
    }

    /// Waits for its end. -1: killed by a signal.
    pub async fn ended(&mut self) -> i32 {
        self.0.ended().await.code().unwrap_or(-1)
    }

    /// SIGTERM, and code 0.
    pub async fn stop(self) -> String {
        self.0.stop().await
    }
}
