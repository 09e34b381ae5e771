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

use crate::{config::pattern, error::shortened, telemetry::Seldom};

/// The authority's verifier, then a check of the certificate's subject alternative names (DNS names
/// and URIs).
#[derive(Debug)]
pub(super) struct AllowedSans {
    authority: Arc<dyn ClientCertVerifier>,
    /// At least one name of the certificate must match at least one of them.
    patterns: Vec<String>,
    told: Seldom,
}

/// The first name of the certificate that one of the patterns allows; else all its names.
pub(super) fn allowed_name(
    certificate: &CertificateDer<'_>,
    patterns: &[String],
) -> Result<String, Vec<String>> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Err(Vec::new());
    };
    let dns = certificate.valid_dns_names();
    let mut names = dns.chain(certificate.valid_uri_names());
    let allowed = |name: &&str| {
        // DNS names are compared without case.
        let name = name.to_ascii_lowercase();
        let mut patterns = patterns.iter();
        patterns.any(|pattern| pattern::matches(&pattern.to_ascii_lowercase(), &name))
    };
    let all = || {
        certificate
            .valid_dns_names()
            .chain(certificate.valid_uri_names())
    };
    match names.find(allowed) {
        Some(name) => Ok(name.to_owned()),
        None => Err(all().map(str::to_owned).collect()),
    }
}

impl AllowedSans {
    pub(super) fn new(authority: Arc<dyn ClientCertVerifier>, patterns: Vec<String>) -> Self {
        Self {
            authority,
            patterns,
            told: Seldom::default(),
        }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let Err(names) = allowed_name(certificate, &self.patterns) else {
            return Ok(());
        };
        if let Some(left_out) = self.told.now() {
            warn!(
                left_out,
                "a client was refused: none of its certificate's names ({}) is in tls.clientAllowedSans",
                shortened(&names.join(", "))
            );
        }
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
