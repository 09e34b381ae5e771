//! Whose certificates are trusted.

use std::{fs, path::Path, sync::LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
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

const END: &str = "-----END CERTIFICATE-----";

/// `AWS_CA_BUNDLE`, else the profile's `ca_bundle`, in place of the system's authorities. Else
/// those, by `SSL_CERT_FILE`, `SSL_CERT_DIR` or at their usual place.
///
/// They are read here, once: the SDK would read the system's with the first call, at a moment when
/// there may be no file descriptor left, and then trust nobody until the process ends. A machine
/// without any trusts nobody.
pub(super) fn bundle(environment: &Environment) -> Vec<u8> {
    if let Some(path) = environment.setting("AWS_CA_BUNDLE", "ca_bundle") {
        // What is wrong with it was noted, and counts as unset.
        if let Ok(pem) = read(path) {
            return pem;
        }
    }
    // TLS would look for a file without a name.
    let is_blank = |name| environment.is_blank(name) || environment.is_wrong(name);
    if !is_blank("SSL_CERT_FILE") && !is_blank("SSL_CERT_DIR") {
        return SYSTEM.clone();
    }
    if let Some(path) = environment.get("SSL_CERT_FILE")
        && let Ok(pem) = read(path)
    {
        return pem;
    }
    let usual = OF_THE_SYSTEM.iter().find(|path| Path::new(path).exists());
    usual.and_then(|path| read(path).ok()).unwrap_or_default()
}

/// The system's authorities, as the process finds them at its start (PEM).
static SYSTEM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pem = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let text = BASE64_STANDARD.encode(&certificate);
            pem.extend(["-----BEGIN CERTIFICATE-----\n", &text, "\n", END, "\n"]);
        }
    }
    pem.into_bytes()
});

/// The certificates of a file that can be an authority's. Bundles of companies and distributions
/// have others, too, which TLS would stumble over.
pub(super) fn read(path: &str) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let usable: String = text
        .split_inclusive(END)
        .filter(|it| is_usable(it))
        .collect();
    match usable.is_empty() {
        true => Err("there is none in it that can be an authority's".to_owned()),
        false => Ok(usable.into_bytes()),
    }
}

fn is_usable(pem: &str) -> bool {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
    certificate.is_ok_and(|it| RootCertStore::empty().add(it).is_ok())
}
