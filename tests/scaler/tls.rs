//! TLS of the gRPC port: ALPN, client certificates, renewed files.

use std::{fs, path::PathBuf, sync::Arc};

use crate::support::{self, Client, Stack, eventually};
use keda_kinesis_scaler::{
    config::{Config, TlsConfig},
    proto::external_scaler_client::ExternalScalerClient,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key in PEM.
pub(crate) fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

pub(crate) struct Files(pub(crate) TempDir);

impl Files {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As a Secret is renewed: files change one after the other.
    fn renew(&self, authority: &Authority) {
        let (certificate, key) = issue(authority, "scaler");
        fs::write(self.path("tls.crt"), certificate).unwrap();
        fs::write(self.path("tls.key"), key).unwrap();
    }
}

pub(crate) async fn start(authority: &Authority, client_ca: Option<&Authority>) -> (Stack, Files) {
    start_for(authority, client_ca, client_ca.map(|_| &["keda"][..])).await
}

async fn start_for(
    authority: &Authority,
    client_ca: Option<&Authority>,
    sans: Option<&[&str]>,
) -> (Stack, Files) {
    let files = Files(TempDir::new().unwrap());
    files.renew(authority);
    if let Some(client_ca) = client_ca {
        fs::write(files.path("ca.crt"), client_ca.pem()).unwrap();
    }
    let tls = TlsConfig {
        cert: files.path("tls.crt"),
        key: files.path("tls.key"),
        client_ca: client_ca.map(|_| files.path("ca.crt")),
        client_allowed_sans: sans.map(|sans| sans.iter().map(|san| (*san).to_owned()).collect()),
    };
    let stack = Stack::with(|config, _| config.tls = Some(tls)).await;
    stack.create_stream("orders", 2).await;
    (stack, files)
}

pub(crate) async fn connect(
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
async fn of_an_authoritys_clients_only_those_with_an_allowed_name() {
    let (ours, clients, strangers) = (authority(), authority(), authority());
    let sans = ["keda-operator.keda.svc", "spiffe://cluster.local/ns/keda/*"];
    let (stack, _files) = start_for(&ours, Some(&clients), Some(&sans)).await;
    let named = async |authority: &Authority, names: &[SanType]| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let certificate = params.signed_by(&key, authority).unwrap();
        connect(
            &stack,
            &ours,
            Some((certificate.pem(), key.serialize_pem())),
        )
        .await
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    for allowed in [
        vec![dns("keda-operator.keda.svc")],
        vec![dns("KEDA-Operator.keda.svc")],
        vec![
            dns("other"),
            uri("spiffe://cluster.local/ns/keda/sa/keda-operator"),
        ],
    ] {
        let connected = named(&clients, &allowed).await;
        assert!(connected.is_ok(), "{allowed:?}: {connected:?}");
    }
    for refused in [
        vec![],
        vec![dns("other")],
        vec![dns("keda-operator.keda.svc.example.com")],
        vec![uri("spiffe://cluster.local/ns/team-a/sa/keda-operator")],
        // A name in another form is another name.
        vec![SanType::Rfc822Name(
            "keda-operator.keda.svc".try_into().unwrap(),
        )],
    ] {
        let connected = named(&clients, &refused).await;
        assert!(connected.is_err(), "{refused:?}");
    }
    // The right name, by the wrong authority.
    let forged = named(&strangers, &[dns("keda-operator.keda.svc")]).await;
    assert!(forged.is_err());
}

/// What a plain TLS client comes to with one protocol version and one ALPN protocol.
async fn handshake(
    stack: &Stack,
    trusted: &Authority,
    version: &'static SupportedProtocolVersion,
    alpn: &[u8],
) -> std::io::Result<(Option<ProtocolVersion>, Option<Vec<u8>>)> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(stack.address).await.unwrap();
    let name = "scaler".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = eventually("a handshake", connector.connect(name, stream)).await?;
    let (_, session) = stream.get_ref();
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    Ok((session.protocol_version(), alpn))
}

#[tokio::test]
async fn tls_1_2_and_1_3_and_nothing_but_http_2() {
    let ours = authority();
    let (stack, _files) = start(&ours, None).await;
    for (version, spoken) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let agreed = handshake(&stack, &ours, version, b"h2").await.unwrap();
        assert_eq!(agreed, (Some(spoken), Some(b"h2".to_vec())));
        handshake(&stack, &ours, version, b"http/1.1")
            .await
            .expect_err("another protocol");
    }
}

#[tokio::test]
async fn health_is_asked_with_tls() {
    let (ours, clients) = (authority(), authority());
    let (stack, files) = start(&ours, Some(&clients)).await;
    fs::write(files.path("scaler-ca.crt"), ours.pem()).unwrap();
    let (certificate, key) = issue(&clients, "keda");
    fs::write(files.path("client.crt"), certificate).unwrap();
    fs::write(files.path("client.key"), key).unwrap();
    let health = async |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keda-kinesis-scaler"));
        command.args(["health", "--address"]).args(flags);
        eventually("an exit", command.output()).await.unwrap()
    };
    let port = stack.address.port();
    let (by_name, by_address) = (format!("localhost:{port}"), stack.address.to_string());
    let path = |name: &str| files.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (
        path("scaler-ca.crt"),
        path("client.crt"),
        path("client.key"),
    );

    let (certificate, server_key) = issue(&ours, "localhost");
    fs::write(files.path("tls.crt"), certificate).unwrap();
    fs::write(files.path("tls.key"), server_key).unwrap();
    let told = health(&[&by_name, "--ca", &ca, "--cert", &cert, "--key", &key]).await;
    assert!(told.status.success(), "{told:?}");
    assert_eq!(told.stdout, b"SERVING\n");
    for refused in [
        vec![by_name.as_str()],
        vec![&by_name, "--ca", &ca],
        vec![&by_name, "--ca", &cert, "--cert", &cert, "--key", &key],
        vec![&by_address, "--ca", &ca, "--cert", &cert, "--key", &key],
    ] {
        let told = health(&refused).await;
        assert_eq!(told.status.code(), Some(1), "{refused:?}: {told:?}");
        let error = String::from_utf8(told.stderr).unwrap();
        assert!(error.contains("cannot be reached"), "{error}");
    }
}

#[tokio::test]
async fn renewed_files_need_no_restart() {
    let (old, new) = (authority(), authority());
    let (stack, files) = start(&old, None).await;
    let mut connected = connect(&stack, &old, None).await.unwrap();
    let object = stack.object("orders", &[]);
    let pushed = connected.stream_is_active(object.clone()).await.unwrap();
    let mut pushed = pushed.into_inner();
    assert!(
        eventually("a push", pushed.message())
            .await
            .unwrap()
            .unwrap()
            .result
    );
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
    connected
        .get_metric_spec(object)
        .await
        .expect("connections stay");
    // The stream that was open all the time tells of what happens after.
    stack.shutdown.cancel();
    let rest = async { while pushed.message().await.unwrap().is_some() {} };
    eventually("the push stream to end with OK", rest).await;
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
        client_allowed_sans: None,
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
    let missing = || TlsConfig {
        client_ca: Some(files.path("ca.crt")),
        client_allowed_sans: Some(vec!["keda".to_owned()]),
        ..tls()
    };
    let error = start(missing()).await;
    assert!(
        error.contains("tls.clientCa") && error.contains("ca.crt"),
        "{error}"
    );
    // An authority signs for others, too: it does not say who is KEDA.
    fs::write(files.path("ca.crt"), ours.pem()).unwrap();
    let whoever = TlsConfig {
        client_allowed_sans: None,
        ..missing()
    };
    let error = start(whoever).await;
    assert!(
        error.contains("tls.clientCa: want tls.clientAllowedSans with it")
            && error.contains("[keda-operator.keda.svc]"),
        "{error}"
    );
    let names_of_nobody = TlsConfig {
        client_allowed_sans: Some(vec!["keda".to_owned()]),
        ..tls()
    };
    let error = start(names_of_nobody).await;
    assert!(
        error.contains("tls.clientAllowedSans: want tls.clientCa"),
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
