//! Asks a scaler for its health, as KEDA would reach it: by name, over gRPC, with TLS and a client
//! certificate where there are some.

use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use tonic::{
    server::NamedService as _,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{proto::external_scaler_server::ExternalScalerServer, server::rpcs::Scaler};

/// The longest time for connection and answer together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to ask, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Health {
    /// The scaler to ask.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:6000")]
    address: String,

    /// With TLS: the authority of the scaler's certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The client certificate to show, in PEM.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    cert: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl Health {
    /// Prints SERVING, or fails with the reason.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let status = tokio::time::timeout(PATIENCE, self.ask())
            .await
            .with_context(|| format!("{}: no answer within {PATIENCE:?}", self.address))??;
        anyhow::ensure!(
            status == ServingStatus::Serving,
            "{}: {}",
            self.address,
            status.as_str_name()
        );
        writeln!(std::io::stdout(), "{}", status.as_str_name()).context("cannot print the health")
    }

    async fn ask(&self) -> anyhow::Result<ServingStatus> {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .with_context(|| format!("--address {}: want HOST:PORT", self.address))?;
        if let Some(tls) = self.tls()? {
            endpoint = endpoint.tls_config(tls)?;
        }
        let failed = || format!("{}: cannot be reached", self.address);
        let channel = endpoint.connect().await.with_context(failed)?;
        let request = HealthCheckRequest {
            service: ExternalScalerServer::<Scaler>::NAME.to_owned(),
        };
        let answer = HealthClient::new(channel).check(request).await;
        Ok(answer.with_context(failed)?.into_inner().status())
    }

    fn tls(&self) -> anyhow::Result<Option<ClientTlsConfig>> {
        let read = |flag, path: &PathBuf| {
            fs::read(path).with_context(|| format!("--{flag}: cannot read {}", path.display()))
        };
        let Some(ca) = &self.ca else { return Ok(None) };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca", ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read("cert", cert)?, read("key", key)?));
        }
        Ok(Some(tls))
    }
}
