//! TLS to an agent: whom its certificate has to come from.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;

/// The certificates that an agent's own has to lead to: those that are given, and nothing else; or those of the system,
/// where none are given.
#[derive(Clone)]
pub struct Authorities(Arc<ClientConfig>);

/// Why bytes are no [`Authorities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate of an authority in PEM form is in it")]
pub struct AuthoritiesError;

/// Why the system's authorities cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the system has no authorities' certificates{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct SystemAuthoritiesError(Option<String>);

impl Authorities {
    /// Those that the system trusts: the files that OpenSSL would look at, or those that SSL_CERT_FILE and SSL_CERT_DIR
    /// name. Certificates among them that do not read are left out.
    ///
    /// # Errors
    /// When there are none, with the first reason.
    pub fn of_system() -> Result<Self, SystemAuthoritiesError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (count, _) = roots.add_parsable_certificates(found.certs);
        if count == 0 {
            return Err(SystemAuthoritiesError(found.errors.first().map(ToString::to_string)));
        }
        Self::of(roots).map_err(|error| SystemAuthoritiesError(Some(error.to_string())))
    }

    /// Reads one certificate or several, PEM.
    ///
    /// # Errors
    /// When there is none, or one that does not read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| AuthoritiesError)?).map_err(|_| AuthoritiesError)?;
        }
        if roots.is_empty() {
            return Err(AuthoritiesError);
        }
        Self::of(roots).map_err(|_| AuthoritiesError)
    }

    fn of(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorities")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Authorities::from_pem(text.as_bytes()).err(), Some(AuthoritiesError), "{text}");
        }
    }
}
