//! TLS of the gRPC port: ALPN, client certificates, renewed files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::PathBuf};

use keda_kinesis_scaler::{
    config::{Config, TlsConfig},
    proto::external_scaler_client::ExternalScalerClient,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Client, Stack, eventually};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key in PEM.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

struct Files(TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As a Secret is renewed: files change one after the other.
    fn renew(&self, authority: &Authority) {
        let (certificate, key) = issue(authority, "scaler");
        fs::write(self.path("tls.crt"), certificate).unwrap();
        fs::write(self.path("tls.key"), key).unwrap();
    }
}

async fn start(authority: &Authority, client_ca: Option<&Authority>) -> (Stack, Files) {
    let files = Files(TempDir::new().unwrap());
    files.renew(authority);
    if let Some(client_ca) = client_ca {
        fs::write(files.path("ca.crt"), client_ca.pem()).unwrap();
    }
    let tls = TlsConfig {
        cert: files.path("tls.crt"),
        key: files.path("tls.key"),
        client_ca: client_ca.map(|_| files.path("ca.crt")),
    };
    let stack = Stack::with(|config, _| config.tls = Some(tls)).await;
    stack.create_stream("orders", 2).await;
    (stack, files)
}

async fn connect(
    stack: &Stack,
    trusted: &Authority,
    identity: Option<(String, String)>,
) -> Result<Client, String> {
    let mut tls = ClientTlsConfig::new()
        .domain_name("scaler")
        .ca_certificate(Certificate::from_pem(trusted.pem()));
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", stack.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await;
    let mut client = ExternalScalerClient::new(channel.map_err(|error| format!("{error:?}"))?);
    // With TLS 1.3 a refused client certificate shows at the first call.
    let object = stack.object("orders", &[]);
    let asked = eventually("an answer", client.get_metric_spec(object)).await;
    asked.map_err(|status| format!("{status:?}"))?;
    Ok(client)
}

#[tokio::test]
async fn served_to_who_trusts_the_authority() {
    let (ours, other) = (authority(), authority());
    let (stack, _files) = start(&ours, None).await;
    let mut client = connect(&stack, &ours, None).await.unwrap();
    support::wait_for_value(&mut client, &stack.object("orders", &[]), 2.0).await;
    connect(&stack, &other, None).await.unwrap_err();
    // Plain text is not answered.
    let plain = Endpoint::from_shared(format!("http://{}", stack.address)).unwrap();
    if let Ok(channel) = plain.connect().await {
        let mut client = ExternalScalerClient::new(channel);
        client
            .get_metric_spec(stack.object("orders", &[]))
            .await
            .unwrap_err();
    }
    connect(&stack, &ours, None)
        .await
        .expect("others are still served");
}

#[tokio::test]
async fn a_client_authority_admits_its_own_only() {
    let (ours, clients, strangers) = (authority(), authority(), authority());
    let (stack, _files) = start(&ours, Some(&clients)).await;
    connect(&stack, &ours, Some(issue(&clients, "keda")))
        .await
        .unwrap();
    connect(&stack, &ours, None).await.unwrap_err();
    connect(&stack, &ours, Some(issue(&strangers, "keda")))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn renewed_files_need_no_restart() {
    let (old, new) = (authority(), authority());
    let (stack, files) = start(&old, None).await;
    let mut connected = connect(&stack, &old, None).await.unwrap();
    connect(&stack, &new, None).await.unwrap_err();

    // In the middle of a renewal the old certificate stays in force.
    let (certificate, key) = issue(&new, "scaler");
    fs::write(files.path("tls.crt"), &certificate).unwrap();
    connect(&stack, &old, None).await.unwrap();
    fs::write(files.path("tls.key"), "no key").unwrap();
    connect(&stack, &old, None).await.unwrap();

    fs::write(files.path("tls.key"), key).unwrap();
    connect(&stack, &new, None).await.unwrap();
    connect(&stack, &old, None).await.unwrap_err();
    let object = stack.object("orders", &[]);
    connected
        .get_metric_spec(object)
        .await
        .expect("connections stay");
}

#[tokio::test]
async fn files_that_make_no_sense_stop_the_start() {
    let files = Files(TempDir::new().unwrap());
    let ours = authority();
    files.renew(&ours);
    let tls = || TlsConfig {
        cert: files.path("tls.crt"),
        key: files.path("tls.key"),
        client_ca: None,
    };
    let start = async |tls: TlsConfig| {
        let config = Config {
            tls: Some(tls),
            ..Config::default()
        };
        let (listener, admin) = (support::listen().await, support::listen().await);
        let served =
            keda_kinesis_scaler::server::serve(config, listener, admin, std::future::pending());
        format!("{:#}", eventually("an error", served).await.unwrap_err())
    };
    let missing = TlsConfig {
        client_ca: Some(files.path("ca.crt")),
        ..tls()
    };
    let error = start(missing).await;
    assert!(
        error.contains("tls.clientCa") && error.contains("ca.crt"),
        "{error}"
    );
    fs::write(files.path("tls.key"), issue(&ours, "scaler").1).unwrap();
    let error = start(tls()).await;
    assert!(error.contains("its own key"), "{error}");
    fs::write(files.path("tls.crt"), "").unwrap();
    let error = start(tls()).await;
    assert!(
        error.contains("tls.cert: want certificates in PEM"),
        "{error}"
    );
}
