//! The scaler as a process of its own, and what it costs.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use keda_kinesis_scaler::proto::{ScaledObjectRef, external_scaler_client::ExternalScalerClient};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// The scaler as a process; killed when dropped.
pub(crate) struct Scaler {
    child: Child,
    pub(crate) channel: Channel,
    pub(crate) started_in: Duration,
    _config: tempfile::NamedTempFile,
}

impl Scaler {
    /// Starts it with that refresh; returns when it answers.
    pub(crate) async fn start(binary: &str, refresh: Duration) -> Self {
        let config = tempfile::NamedTempFile::new().unwrap();
        let refresh = refresh.as_millis();
        let yaml = format!(
            "aws: {{refresh: {refresh}ms, callsPerSecond: 1000}}\n\
             policy: [{{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}}]\n"
        );
        fs::write(config.path(), yaml).unwrap();
        let [grpc, admin] = [free_address(), free_address()];
        let begin = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--listen", &grpc.to_string()])
            .args(["--admin", &admin.to_string(), "--config"])
            .arg(config.path())
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
        let connected = async {
            loop {
                match endpoint.connect().await {
                    Ok(channel) => return channel,
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            }
        };
        let channel = timeout(Duration::from_secs(10), connected).await;
        let channel = channel.expect("the scaler to serve");
        // Serving is when an RPC is answered.
        let refused = ExternalScalerClient::new(channel.clone());
        let refused = { refused }
            .get_metric_spec(ScaledObjectRef::default())
            .await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);
        Self {
            child,
            channel,
            started_in: begin.elapsed(),
            _config: config,
        }
    }

    pub(crate) fn rss_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib / 1024.0
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn own_cpu_seconds() -> f64 {
    cpu_seconds("self")
}

/// User and system time, which Linux counts in hundredths of a second.
fn cpu_seconds(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let fields = after_name.split(' ').skip(11).take(2);
    fields
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
