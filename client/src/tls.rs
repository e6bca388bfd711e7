//! TLS to an agent: whom its certificate has to come from.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;

/// The certificates that an agent's own has to lead to. Nothing else is trusted, the system's authorities neither.
#[derive(Clone)]
pub struct Authorities(Arc<ClientConfig>);

/// Why bytes are no [`Authorities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate of an authority in PEM form is in it")]
pub struct AuthoritiesError;

impl Authorities {
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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder =
            builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|_| AuthoritiesError)?;
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
