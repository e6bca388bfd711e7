//! TLS to an agent: trusted authorities and the client's certificate.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::fmt;
use std::sync::Arc;

/// Certificate authorities that agents' certificates must chain to: either exactly the given ones or the
/// system's.
#[derive(Clone)]
pub struct Authorities(Arc<RootCertStore>);

/// Error of parsing [`Authorities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate of an authority in PEM form is in it")]
pub struct AuthoritiesError;

/// Error of loading the system's authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the system has no authorities' certificates{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct SystemAuthoritiesError(Option<String>);

impl Authorities {
    /// Loads the system's authorities: the files that OpenSSL uses, or those named by SSL_CERT_FILE and
    /// SSL_CERT_DIR. Certificates that cannot be parsed are skipped.
    ///
    /// # Errors
    /// Fails if there are none, with the first reason.
    pub fn of_system() -> Result<Self, SystemAuthoritiesError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (count, _) = roots.add_parsable_certificates(found.certs);
        if count == 0 {
            return Err(SystemAuthoritiesError(found.errors.first().map(ToString::to_string)));
        }
        Ok(Self(Arc::new(roots)))
    }

    /// Parses one or more certificates in PEM.
    ///
    /// # Errors
    /// Fails if there is none, or one that cannot be parsed.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| AuthoritiesError)?).map_err(|_| AuthoritiesError)?;
        }
        if roots.is_empty() {
            return Err(AuthoritiesError);
        }
        Ok(Self(Arc::new(roots)))
    }

    /// Builds the TLS configuration for agents whose certificate chains to these authorities.
    pub(crate) fn config(
        &self,
        shown: Option<&ClientCertificate>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = builder.with_root_certificates(self.0.clone());
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.0.clone())))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Client certificate with its chain and private key, presented to agents that grant the right to read by
/// certificate. Its `Debug` does not show the key.
#[derive(Clone)]
pub struct ClientCertificate(Arc<CertifiedKey>);

/// Error of parsing a [`ClientCertificate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientCertificateError {
    /// The first argument of `from_pem` holds no certificate in PEM, or an invalid one.
    #[error("no certificate in PEM form is in it")]
    Certificate,
    /// The second argument of `from_pem` holds no usable private key in PEM (not encrypted).
    #[error("no private key in PEM form, not encrypted, is in it")]
    Key,
    /// The key does not belong to the certificate.
    #[error("the key is not that of the certificate")]
    Mismatch,
}

impl ClientCertificate {
    /// Parses a certificate and its private key, both in PEM; both arguments may be the same file.
    ///
    /// # Errors
    /// Fails if either is missing or invalid, or if the two do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, ClientCertificateError> {
        use ClientCertificateError as Error;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(Error::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch,
            rustls::Error::InvalidCertificate(_) => Error::Certificate,
            _ => Error::Key,
        })?;
        Ok(Self(Arc::new(certified)))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
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
