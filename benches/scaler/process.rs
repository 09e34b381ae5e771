//! The scaler as a process of its own.

use std::{fs, net::SocketAddr, ops::Deref, time::Duration};

use keda_kinesis_scaler::proto::{ScaledObjectRef, external_scaler_client::ExternalScalerClient};
use test_support::{Process, Program};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// The scaler as a process; killed when dropped.
pub(crate) struct Scaler {
    process: Process,
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
        let process = Program::new(binary)
            .args(["serve", "--listen", &grpc.to_string()])
            .args(["--admin", &admin.to_string(), "--config"])
            .args([config.path()])
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .start();
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
            process,
            channel,
            started_in: begin.elapsed(),
            _config: config,
        }
    }
}

impl Deref for Scaler {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
