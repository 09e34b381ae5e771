//! The scaler: this very test binary, started again, so that its descriptors and tasks are its own.
//! It forgets sources that nobody asks about after seconds instead of minutes.

use std::{fs, path::Path, time::Duration};

use keda_kinesis_scaler::{
    config::Config,
    server::{self, Tuning},
    watch::Pace,
};
use tempfile::TempDir;
use test_support::{Process, Program};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    support::*,
    tls::{Authority, authority, issue},
};

/// Set in the scaler's process: its configuration file.
pub(super) const CONFIG: &str = "SOAK_CONFIG";

/// Sources are forgotten after this time without a question.
const IDLE: Duration = Duration::from_secs(2);

/// A scaler, and what is needed to reach it.
pub(super) struct Scaler {
    pub(super) process: Process,
    pub(super) address: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    files: TempDir,
    authority: Authority,
    client: (String, String),
}

/// What it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Held {
    tasks: f64,
    descriptors: f64,
    streams: f64,
    watchers: f64,
}

/// In the process: serves until SIGTERM, and reads its configuration again at SIGHUP.
pub(super) async fn run(config: &Path) {
    let read = || Config::load(config);
    let started = read().unwrap();
    let (sender, reloads) = watch::channel(None);
    let pace = Pace {
        idle: IDLE,
        kept: IDLE,
        ..Pace::from(&started.aws)
    };
    let tuning = Tuning {
        credentials: Some(credentials(ACCESS_KEY)),
        pace: Some(pace),
        reloads: Some(reloads),
        ..Tuning::default()
    };
    let (listener, admin) = (listen().await, listen().await);
    let addresses = [&listener, &admin].map(|it| it.local_addr().unwrap());
    let mut hangup = signal(SignalKind::hangup()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let stop = async move {
        let _ = terminate.recv().await;
    };
    let served = tokio::spawn(server::serve_tuned(started, tuning, listener, admin, stop));
    eprintln!("\nserving {} {}", addresses[0], addresses[1]);
    let reload = async {
        while hangup.recv().await.is_some() {
            let config = read().map_err(|error| format!("{error:#}"));
            sender.send_replace(Some(config));
        }
    };
    tokio::select! {
        served = served => served.unwrap().unwrap(),
        () = reload => {}
    }
}

impl Scaler {
    pub(super) async fn start() -> Self {
        let files = TempDir::new().unwrap();
        let (authority, clients) = (authority(), authority());
        fs::write(files.path().join("ca.crt"), clients.pem()).unwrap();
        let client = issue(&clients, "keda");
        let config = files.path().join("config.yaml");
        configure(files.path(), 0);
        rotate(files.path(), &authority);
        let process = Program::new(std::env::current_exe().unwrap())
            .args(["soak::scaler_process", "--exact", "--nocapture"])
            .env(CONFIG, &config)
            .start();
        let serving = process.first("its addresses", |line| {
            let (grpc, admin) = line.strip_prefix("serving ")?.split_once(' ')?;
            Some((grpc.parse().unwrap(), admin.parse().unwrap()))
        });
        let (address, admin) = serving.await;
        Self {
            process,
            address,
            admin,
            files,
            authority,
            client,
        }
    }

    /// A connection of its own; `None`: the files were being renewed.
    pub(super) async fn connect(&self) -> Option<Channel> {
        let (certificate, key) = &self.client;
        let tls = ClientTlsConfig::new()
            .domain_name("scaler")
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(Identity::from_pem(certificate, key));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.ok()
    }

    pub(super) fn rotate(&self) {
        rotate(self.files.path(), &self.authority);
    }

    /// Another configuration, each third of them wrong.
    pub(super) fn configure(&self, number: usize) {
        configure(self.files.path(), number);
        self.process.signal(Signal::HUP);
    }

    async fn held(&self) -> Held {
        let scrape = http_get(self.admin, "/metrics").await.1;
        let sum = |name: &str| {
            let lines = scrape.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum()
        };
        Held {
            tasks: sum("keda_kinesis_scaler_tasks "),
            descriptors: sum("process_open_fds "),
            streams: sum("keda_kinesis_scaler_push_streams "),
            watchers: sum("keda_kinesis_scaler_watchers{"),
        }
    }

    /// Waits until no source is watched and nothing is held for anybody.
    pub(super) async fn at_rest(&self) -> Held {
        let mut last = self.held().await;
        test_support::wait::until("rest", async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = std::mem::replace(&mut last, self.held().await);
            let is_at_rest = last.watchers == 0.0 && last.streams == 0.0;
            (is_at_rest && before == last).then_some(last)
        })
        .await
    }

    /// Waits until it holds no more than that.
    pub(super) async fn at_rest_as(&self, wanted: Held) -> Held {
        let mut last = wanted;
        let resting = async {
            loop {
                last = self.held().await;
                let is_less = last.tasks <= wanted.tasks
                    && last.descriptors <= wanted.descriptors
                    && last.watchers == 0.0
                    && last.streams == 0.0;
                if is_less {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, resting).await.is_err() {
            panic!("it holds {last:?}, and held {wanted:?} in the beginning");
        }
        last
    }

    pub(super) async fn stop(self) {
        self.process.stop().await;
    }
}

/// As a Secret is renewed: files change one after the other.
fn rotate(files: &Path, authority: &Authority) {
    let (certificate, key) = issue(authority, "scaler");
    fs::write(files.join("tls.crt"), certificate).unwrap();
    fs::write(files.join("tls.key"), key).unwrap();
}

fn configure(files: &Path, number: usize) {
    let path = |name: &str| files.join(name).display().to_string();
    let refresh = if number.is_multiple_of(2) {
        "500ms"
    } else {
        "400ms"
    };
    let wrong = if number % 3 == 2 { "wrong: key\n" } else { "" };
    let (cert, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let config = format!(
        "aws: {{refresh: {refresh}, maxStale: 2s, timeout: 500ms, callsPerSecond: 1000}}
policy: [{{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}}]
perShardMetrics: {}
tls: {{cert: {cert}, key: {key}, clientCa: {ca}, clientAllowedSans: [keda]}}
{wrong}",
        !number.is_multiple_of(2)
    );
    // As a ConfigMap is swapped: the signal of before may be heard late, in the middle of a write.
    fs::write(files.join("next.yaml"), config).unwrap();
    fs::rename(files.join("next.yaml"), files.join("config.yaml")).unwrap();
}
