//! The scaler as a process of its own.

use std::{fs, net::SocketAddr, ops::Deref, time::Duration};

use keda_kinesis_scaler::proto::{ScaledObjectRef, external_scaler_client::ExternalScalerClient};
use rcgen::generate_simple_self_signed;
use test_support::{Process, Program};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// The scaler as a process; killed when dropped.
pub(crate) struct Scaler {
    process: Process,
    pub(crate) channel: Channel,
    pub(crate) started_in: Duration,
    admin: SocketAddr,
    _files: tempfile::TempDir,
}

impl Scaler {
    /// Starts it with that refresh; returns when it answers.
    pub(crate) async fn start(binary: &str, refresh: Duration) -> Self {
        let refresh = refresh.as_millis();
        let aws = format!("{{refresh: {refresh}ms, callsPerSecond: 1000}}");
        Self::with(binary, &aws, false).await
    }

    /// The same with these settings of AWS, and over TLS or not.
    pub(crate) async fn with(binary: &str, aws: &str, tls: bool) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str| files.path().join(name);
        let own = generate_simple_self_signed(["scaler".to_owned()]).unwrap();
        fs::write(file("tls.crt"), own.cert.pem()).unwrap();
        fs::write(file("tls.key"), own.signing_key.serialize_pem()).unwrap();
        let mut yaml = format!(
            "aws: {aws}\n\
             policy: [{{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}}]\n"
        );
        if tls {
            let [cert, key] = ["tls.crt", "tls.key"].map(file);
            yaml += &format!(
                "tls: {{cert: {}, key: {}}}\n",
                cert.display(),
                key.display()
            );
        }
        fs::write(file("config.yaml"), yaml).unwrap();
        let [grpc, admin] = [free_address(), free_address()];
        let begin = Instant::now();
        let process = Program::new(binary)
            .args(["serve", "--listen", &grpc.to_string()])
            .args(["--admin", &admin.to_string(), "--config"])
            .args([file("config.yaml")])
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .start();
        let scheme = if tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{grpc}")).unwrap();
        if tls {
            let trusted = Certificate::from_pem(own.cert.pem());
            let settings = ClientTlsConfig::new().domain_name("scaler");
            endpoint = endpoint
                .tls_config(settings.ca_certificate(trusted))
                .unwrap();
        }
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
            admin,
            _files: files,
        }
    }

    /// A scrape.
    pub(crate) async fn metrics(&self) -> String {
        test_support::http::get(self.admin, "/metrics").await.1
    }
}

/// The values of a metric, whatever its labels.
pub(crate) fn values<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    let lines = metrics
        .lines()
        .filter_map(move |line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with([' ', '{']));
    values.map(|rest| rest.rsplit(' ').next().unwrap().parse().unwrap())
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
