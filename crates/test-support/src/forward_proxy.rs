//! A proxy as companies have it: programs are told of it by `HTTPS_PROXY` and `HTTP_PROXY`. It ends
//! TLS with certificates of its own authority, so that AWS's own host names can be asked.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where what is asked of a host goes.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    /// To a service on this machine.
    At(SocketAddr),
    /// The proxy refuses.
    Refused,
}

/// A forward proxy on loopback. It stops when dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    directory: tempfile::TempDir,
    _stop: DropGuard,
}

struct Shared {
    authority: CertifiedIssuer<'static, KeyPair>,
    route: Box<dyn Fn(&str) -> Host + Send + Sync>,
    /// The head of each request that opened a connection.
    heads: Mutex<Vec<String>>,
    changed: watch::Sender<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl ForwardProxy {
    /// `route` is given the host and port that are asked for.
    pub async fn start(route: impl Fn(&str) -> Host + Send + Sync + 'static) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let shared = Arc::new(Shared {
            authority: CertifiedIssuer::self_signed(authority, key).unwrap(),
            route: Box::new(route),
            heads: Mutex::default(),
            changed: watch::Sender::default(),
        });
        let directory = tempfile::tempdir().unwrap();
        // As real bundles are: there is one in it that nobody can read.
        let odd = "-----BEGIN CERTIFICATE-----\nMAAwAA==\n-----END CERTIFICATE-----\n";
        let bundle = format!("{odd}{}{odd}", shared.authority.pem());
        std::fs::write(directory.path().join("ca.pem"), bundle).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(serve(listener, Arc::clone(&shared))),
        );
        Self {
            address,
            shared,
            directory,
            _stop: stop.drop_guard(),
        }
    }

    /// What the variables are given. The password must be shown to the proxy alone.
    pub fn url(&self) -> String {
        format!("http://team:proxy-password@{}", self.address)
    }

    /// The file of its authority.
    pub fn authority(&self) -> String {
        let path = self.directory.path().join("ca.pem");
        path.to_str().unwrap().to_owned()
    }

    /// A directory for files of the test's own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The hosts that were asked for, without ports.
    pub fn hosts(&self) -> BTreeSet<String> {
        let heads = self.shared.heads.lock().unwrap();
        let hosts = heads.iter().map(|head| authority(head));
        hosts
            .map(|it| {
                it.rsplit_once(':')
                    .map_or(it.clone(), |(host, _)| host.to_owned())
            })
            .collect()
    }

    /// The heads of the requests that came.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// Waits until a host was asked for whose name starts so.
    pub async fn asked(&self, start: &str) {
        let mut changed = self.shared.changed.subscribe();
        let asked = async {
            while !self.hosts().iter().any(|host| host.starts_with(start)) {
                changed.changed().await.unwrap();
            }
        };
        crate::eventually(start, asked).await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(answer(connection, Arc::clone(&shared)));
    }
}

/// `host:port` of `CONNECT host:port` or of `POST http://host:port/`.
fn authority(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let target = target.strip_prefix("http://").unwrap_or(target);
    target.split('/').next().unwrap_or_default().to_owned()
}

async fn answer(mut connection: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head.clone()).ok()?;
    let asked = authority(&text);
    shared.heads.lock().unwrap().push(text.clone());
    shared.changed.send_replace(());
    let is_tunnel = text.starts_with("CONNECT ");
    match (shared.route)(&asked) {
        Host::Refused => {
            let refusal =
                b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(refusal).await.ok()?;
        }
        Host::At(service) if is_tunnel => {
            connection
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                .await
                .ok()?;
            let (host, _) = asked.rsplit_once(':')?;
            let tls = TlsAcceptor::from(Arc::new(shared.certificate(host)));
            relay(tls.accept(connection).await.ok()?, service, &[]).await?;
        }
        Host::At(service) => relay(connection, service, &head).await?,
    }
    Some(())
}

async fn relay(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    service: SocketAddr,
    first: &[u8],
) -> Option<()> {
    let mut service = TcpStream::connect(service).await.ok()?;
    service.write_all(first).await.ok()?;
    copy_bidirectional(&mut client, &mut service).await.ok()?;
    Some(())
}

impl Shared {
    fn certificate(&self, host: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}
