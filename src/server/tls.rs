//! TLS of the gRPC port. The files are read for each connection, so that a renewed certificate
//! needs no restart; KEDA opens few connections. Files that cannot be used, as in the middle of a
//! renewal, leave the last good ones in force.

mod allowed_sans;

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use self::allowed_sans::AllowedSans;
use crate::{config::TlsConfig, error::shortened};

/// Turns connections into TLS connections.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
    good: Mutex<(Pem, Arc<ServerConfig>)>,
}

/// The contents of the files.
#[derive(Eq, PartialEq)]
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files for the first time.
    pub(crate) fn load(config: TlsConfig) -> anyhow::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pem = Pem::read(&config)?;
        let good = pem.server_config(&config, &provider)?;
        Ok(Self {
            config,
            provider,
            good: Mutex::new((pem, good)),
        })
    }

    /// The connection, and the name that admitted its client, where clients show certificates.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Arc<str>>)> {
        let acceptor = TlsAcceptor::from(self.current());
        let stream = acceptor.accept(stream).await?;
        let patterns = self.config.client_allowed_sans.as_deref();
        let certificate = stream.get_ref().1.peer_certificates();
        let certificate = certificate.and_then(<[_]>::first);
        let name = certificate
            .zip(patterns)
            .and_then(|(certificate, patterns)| {
                let name = allowed_sans::allowed_name(certificate, patterns).ok()?;
                Some(shortened(&name).into())
            });
        Ok((stream, name))
    }

    fn current(&self) -> Arc<ServerConfig> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = Pem::read(&self.config).and_then(|pem| {
            if pem == good.0 {
                return Ok(None);
            }
            let config = pem.server_config(&self.config, &self.provider)?;
            Ok(Some((pem, config)))
        });
        match renewed {
            Ok(None) => {}
            Ok(Some(renewed)) => {
                info!("the TLS files changed and are in force");
                *good = renewed;
            }
            Err(error) => warn!("the TLS files stay as they were: {error:#}"),
        }
        Arc::clone(&good.1)
    }
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

    fn server_config(
        &self,
        files: &TlsConfig,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?;
        anyhow::ensure!(
            files.client_ca.is_some() || files.client_allowed_sans.is_none(),
            "tls.clientAllowedSans: want tls.clientCa with it: without one no client shows a certificate"
        );
        anyhow::ensure!(
            files.client_ca.is_none() || files.client_allowed_sans.is_some(),
            "tls.clientCa: want tls.clientAllowedSans with it, the names (DNS, URI) of the clients to serve, such as \
             [keda-operator.keda.svc]: else whoever has a certificate of that authority is served; [\"*\"] serves \
             each that has a name"
        );
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("clientCa", pem, path)? {
                    roots.add(certificate)?;
                }
                let authority: Arc<dyn ClientCertVerifier> =
                    WebPkiClientVerifier::builder_with_provider(
                        Arc::new(roots),
                        Arc::clone(provider),
                    )
                    .build()?;
                builder.with_client_cert_verifier(match &files.client_allowed_sans {
                    None => authority,
                    Some(patterns) => Arc::new(AllowedSans {
                        authority,
                        patterns: patterns.clone(),
                    }),
                })
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = certificates("cert", &self.cert, &files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).with_context(|| {
            format!(
                "tls.key: want a private key in PEM in {}",
                files.key.display()
            )
        })?;
        let mut config = builder
            .with_single_cert(chain, key)
            .context("tls.cert and tls.key: want a certificate and its own key")?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
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
