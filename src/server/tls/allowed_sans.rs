//! Admits clients whose certificate the authority signed and whose name is allowed.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tracing::warn;
use webpki::EndEntityCert;

use crate::{config::pattern, error::shortened};

/// The authority's verifier, then a check of the certificate's subject alternative names (DNS names
/// and URIs).
#[derive(Debug)]
pub(super) struct AllowedSans {
    pub(super) authority: Arc<dyn ClientCertVerifier>,
    /// Patterns: at least one name of the certificate must match at least one of them.
    pub(super) patterns: Vec<String>,
}

impl AllowedSans {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let names = || {
            certificate
                .valid_dns_names()
                .chain(certificate.valid_uri_names())
        };
        let allowed = |name: &str| {
            // DNS names are compared without case.
            let name = name.to_ascii_lowercase();
            let mut patterns = self.patterns.iter();
            patterns.any(|pattern| pattern::matches(&pattern.to_ascii_lowercase(), &name))
        };
        if names().any(allowed) {
            return Ok(());
        }
        let names = names().collect::<Vec<_>>().join(", ");
        warn!(
            "a client was refused: none of its certificate's names ({}) is in tls.clientAllowedSans",
            shortened(&names)
        );
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }
}

impl ClientCertVerifier for AllowedSans {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .authority
            .verify_client_cert(end_entity, intermediates, now)?;
        self.check(end_entity)?;
        Ok(verified)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}
