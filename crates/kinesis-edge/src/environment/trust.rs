//! Whose certificates are trusted.

use std::{fs, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::Environment;

/// Where distributions keep the authorities of the system, in one file.
const OF_THE_SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `AWS_CA_BUNDLE`, else the profile's `ca_bundle`, in place of the system's authorities. `None`: those,
/// which TLS finds by `SSL_CERT_FILE`, `SSL_CERT_DIR` or at their usual place.
pub(super) fn bundle(environment: &Environment) -> Option<Vec<u8>> {
    if let Some(path) = environment.setting("AWS_CA_BUNDLE", "ca_bundle") {
        return read(path).ok();
    }
    // TLS would look for a file without a name.
    let is_blank = |name| environment.is_blank(name) || environment.is_wrong(name);
    if !is_blank("SSL_CERT_FILE") && !is_blank("SSL_CERT_DIR") {
        return None;
    }
    if let Some(path) = environment.get("SSL_CERT_FILE") {
        return read(path).ok();
    }
    let usual = OF_THE_SYSTEM.iter().find(|path| Path::new(path).exists())?;
    read(usual).ok()
}

/// A file of certificates, each of which can be an authority's.
pub(super) fn read(path: &str) -> Result<Vec<u8>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| format!("it cannot be read: {error}"))?;
    if certificates.is_empty() {
        return Err("there is none in it".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for (n, certificate) in certificates.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|error| format!("certificate {} cannot be used: {error}", n + 1))?;
    }
    Ok(pem)
}
