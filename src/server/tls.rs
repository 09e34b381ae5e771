//! TLS of the gRPC port. The files are read for each connection and every two seconds, so that a
//! renewed certificate needs no restart. Files that cannot be used, as in the middle of a renewal,
//! leave the last good ones in force, and a certificate that is not valid now never replaces one
//! that is. A connection whose client would no longer be admitted is told so.

mod allowed_sans;

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};
use webpki::{EndEntityCert, KeyUsage};

use self::allowed_sans::AllowedSans;
use super::descriptors::ran_out_for;
use crate::{config::TlsConfig, error::shortened, metrics::Metrics};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

/// Between two looks at whether an open connection's client is still valid.
const STILL_VALID: Duration = Duration::from_secs(60);

/// Turns connections into TLS connections.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
    files: Mutex<Files>,
    /// Told when other files are in force.
    changed: watch::Sender<()>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Files {
    good: Good,
    /// Why later ones are not in force.
    wrong: Option<String>,
}

/// Files that can be used.
#[derive(Debug)]
struct Good {
    pem: Pem,
    server: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Of the scaler's own certificate, in seconds since 1970.
    valid: (u64, u64),
}

/// The contents of the files.
#[derive(Eq, PartialEq)]
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// A client that showed a certificate.
#[derive(Debug)]
pub(crate) struct Client {
    /// The name that admitted it.
    pub(crate) name: String,
    chain: Vec<CertificateDer<'static>>,
}

/// Could the scaler start with these files?
///
/// # Errors
/// No; the error says which is wrong.
pub(crate) fn check(config: &TlsConfig) -> anyhow::Result<()> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    Good::new(Pem::read(config)?, config, &provider).map(|_| ())
}

impl Tls {
    /// Reads the files for the first time.
    pub(crate) fn load(config: TlsConfig, metrics: Arc<Metrics>) -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let good = Good::new(Pem::read(&config)?, &config, &provider)?;
        metrics.tls_expires.set(good.valid.1 as i64);
        Ok(Arc::new(Self {
            config,
            provider,
            files: Mutex::new(Files { good, wrong: None }),
            changed: watch::Sender::default(),
            metrics,
        }))
    }

    /// Looks at the files now and then, for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            drop(self.look());
        }
    }

    /// The connection and its client, where clients show certificates.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Client>)> {
        let server = Arc::clone(&self.look().good.server);
        let stream = TlsAcceptor::from(server).accept(stream).await?;
        let patterns = self.config.client_allowed_sans.as_deref();
        let chain = stream.get_ref().1.peer_certificates();
        let client = chain.zip(patterns).and_then(|(chain, patterns)| {
            let name = allowed_sans::allowed_name(chain.first()?, patterns).ok()?;
            Some(Client {
                name: shortened(&name).into_owned(),
                chain: chain.to_vec(),
            })
        });
        Ok((stream, client))
    }

    /// Waits until the files in force would refuse the client: another authority is in them, or its
    /// certificate has ended.
    pub(crate) async fn expels(&self, client: &Client) {
        let mut changed = self.changed.subscribe();
        while self.admits(client) {
            tokio::select! {
                // Never without a sender.
                _ = changed.changed() => {}
                () = sleep(STILL_VALID) => {}
            }
        }
    }

    fn admits(&self, client: &Client) -> bool {
        let clients = self.lock().good.clients.clone();
        let (Some(clients), [own, others @ ..]) = (clients, &*client.chain) else {
            return true;
        };
        let verified = clients.verify_client_cert(own, others, UnixTime::now());
        verified.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again.
    fn look(&self) -> MutexGuard<'_, Files> {
        let mut files = self.lock();
        match self.renewed(&files.good) {
            Ok(None) => self.judged(&mut files, None),
            Ok(Some(good)) => {
                files.good = good;
                self.metrics.tls_expires.set(files.good.valid.1 as i64);
                self.judged(&mut files, None);
                info!("the TLS files changed and are in force");
                self.changed.send_replace(());
            }
            // Nobody has seen them.
            Err(error) if ran_out_for(&error) => {}
            Err(error) => {
                let wrong = format!("{error:#}");
                if files.wrong.as_ref() != Some(&wrong) {
                    warn!("the TLS files stay as they were: {wrong}");
                }
                self.judged(&mut files, Some(wrong));
            }
        }
        files
    }

    fn judged(&self, files: &mut Files, wrong: Option<String>) {
        self.metrics.tls_good.set(wrong.is_none().into());
        files.wrong = wrong;
    }

    /// Files other than those in force, if they are better.
    fn renewed(&self, good: &Good) -> anyhow::Result<Option<Good>> {
        let pem = Pem::read(&self.config)?;
        if pem == good.pem {
            return Ok(None);
        }
        let new = Good::new(pem, &self.config, &self.provider)?;
        anyhow::ensure!(
            new.is_valid() || !good.is_valid(),
            "tls.cert: the certificate in {} has ended or is not valid yet, and the one in force is valid",
            self.config.cert.display()
        );
        Ok(Some(new))
    }
}

impl Good {
    fn new(pem: Pem, files: &TlsConfig, provider: &Arc<CryptoProvider>) -> anyhow::Result<Self> {
        files.check()?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?;
        let clients = match (&pem.client_ca, &files.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("clientCa", pem, path)? {
                    roots.add(certificate)?;
                }
                let authority = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(provider),
                );
                let patterns = files.client_allowed_sans.clone().unwrap_or_default();
                let clients: Arc<dyn ClientCertVerifier> =
                    Arc::new(AllowedSans::new(authority.build()?, patterns));
                Some(clients)
            }
            _ => None,
        };
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
            None => builder.with_no_client_auth(),
        };
        let chain = certificates("cert", &pem.cert, &files.cert)?;
        let valid = validity(&chain[0]).context("tls.cert")?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key).with_context(|| {
            format!(
                "tls.key: want a private key in PEM in {}",
                files.key.display()
            )
        })?;
        let mut server = builder
            .with_single_cert(chain, key)
            .context("tls.cert and tls.key: want a certificate and its own key")?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            pem,
            server: Arc::new(server),
            clients,
            valid,
        })
    }

    fn is_valid(&self) -> bool {
        let (from, until) = self.valid;
        (from..=until).contains(&UnixTime::now().as_secs())
    }
}

/// From when to when a certificate is valid, in seconds since 1970.
fn validity(certificate: &CertificateDer<'_>) -> anyhow::Result<(u64, u64)> {
    let certificate = EndEntityCert::try_from(certificate)?;
    // At these times it is not valid, and the error has the time at which it is.
    let refused_at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::server_auth();
        let verified = certificate.verify_for_usage(&[], &[], &[], time, usage, None, None);
        verified.err()
    };
    let from = match refused_at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        _ => 0,
    };
    let until = match refused_at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        _ => anyhow::bail!("want a certificate with an end"),
    };
    Ok((from, until))
}

impl Pem {
    fn read(config: &TlsConfig) -> anyhow::Result<Self> {
        let read = |key, path: &Path| {
            fs::read(path).with_context(|| format!("tls.{key}: cannot read {}", path.display()))
        };
        let client_ca = config.client_ca.as_deref();
        Ok(Self {
            cert: read("cert", &config.cert)?,
            key: read("key", &config.key)?,
            client_ca: client_ca.map(|path| read("clientCa", path)).transpose()?,
        })
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").finish_non_exhaustive()
    }
}

fn certificates(
    key: &str,
    pem: &[u8],
    path: &Path,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let wanted = || format!("tls.{key}: want certificates in PEM in {}", path.display());
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .with_context(wanted)?;
    anyhow::ensure!(!certificates.is_empty(), wanted());
    Ok(certificates)
}
