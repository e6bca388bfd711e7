//! TLS for the HTTP API on TCP: certificate and key from files, optional client certificates; TLS 1.3 only.

use crate::files::read_regular;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// Maximum size of a PEM file, in bytes; a certificate chain has about 10 kB.
const MAX_PEM_BYTES: usize = 1 << 20;

/// The error of setting up TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate or key file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Path of the file that cannot be read.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file contains no valid certificate.
    #[error("{} holds no certificate: give a PEM file with the agent's own first, then those that lead to its authority", .0.display())]
    Certificate(PathBuf),
    /// The file contains no private key.
    #[error("{} holds no private key: give the PEM file of the certificate's key, not encrypted", .0.display())]
    Key(PathBuf),
    /// Certificate and key do not belong together.
    #[error("{} is not the key of the certificate in {}: give the files that were made together", key.display(), cert.display())]
    Mismatch {
        /// Path of the certificate file.
        cert: PathBuf,
        /// Path of the key file.
        key: PathBuf,
    },
    /// The file contains no valid certificate of an authority for the clients' certificates.
    #[error("{} holds no certificate of an authority: give the PEM file of the authority that signs the clients' certificates", .0.display())]
    ClientAuthority(PathBuf),
    /// rustls rejects the certificate or the key for another reason.
    #[error("{} cannot serve TLS: {reason}", path.display())]
    Unusable {
        /// Path of the certificate file.
        path: PathBuf,
        /// The error of rustls, as text.
        reason: String,
    },
}

impl TlsError {
    /// Returns the stable error code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "file.unreadable",
            Self::Certificate(_) | Self::Unusable { .. } => "tls.certificate",
            Self::Key(_) => "tls.key",
            Self::Mismatch { .. } => "tls.mismatch",
            Self::ClientAuthority(_) => "tls.client_authority",
        }
    }
}

/// A server certificate and its key. Clones share it, and see a reload.
#[derive(Clone)]
pub struct ServerTls(Arc<Files>);

struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<rustls::ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl ServerTls {
    /// Loads a certificate chain and its key, both PEM; and, if clients are to be asked for certificates, those of
    /// the accepted authorities.
    ///
    /// A client without a certificate is served as well, with the rights of its tokens. The handshake rejects one
    /// whose certificate is not from an accepted authority.
    ///
    /// # Errors
    /// The file that is wrong, and how.
    pub fn load(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let loaded = ArcSwap::from_pointee(load(cert, key, client_ca)?);
        let client_ca = client_ca.map(Path::to_path_buf);
        Ok(Self(Arc::new(Files { cert: cert.into(), key: key.into(), client_ca, loaded })))
    }

    /// Whether TLS clients are asked for certificates.
    pub fn asks_certificates(&self) -> bool {
        self.0.client_ca.is_some()
    }

    /// Reloads the files for future connections. On an error the previous ones stay in use.
    ///
    /// # Errors
    /// The file that is wrong, and how.
    pub fn reload(&self) -> Result<(), TlsError> {
        let Files { cert, key, client_ca, .. } = &*self.0;
        self.0.loaded.store(Arc::new(load(cert, key, client_ca.as_deref())?));
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<rustls::ServerConfig> {
        self.0.loaded.load().config.clone()
    }

    /// Whether the server certificate covers a host name.
    pub(crate) fn serves(&self, name: &str) -> bool {
        let loaded = self.0.loaded.load();
        let Ok(parsed) = ParsedCertificate::try_from(&loaded.certificate) else { return false };
        ServerName::try_from(name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("cert", &self.0.cert).field("key", &self.0.key).finish()
    }
}

/// Reads a regular PEM file. It is read again at a reload, so a pipe is rejected.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_regular(path, MAX_PEM_BYTES).map_err(|error| TlsError::Unreadable { path: path.into(), error })
}

fn load(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Loaded, TlsError> {
    let no_certificate = || TlsError::Certificate(cert.into());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|_| no_certificate())?;
    let certificate = chain.first().ok_or_else(no_certificate)?.clone();
    if ParsedCertificate::try_from(&certificate).is_err() {
        return Err(no_certificate());
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::Key(key.into()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = match client_ca {
        Some(path) => clients(path, &provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let unusable = |error: rustls::Error| TlsError::Unusable { path: cert.into(), reason: error.to_string() };
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(unusable)?;
    let config = builder.with_client_cert_verifier(clients).with_single_cert(chain, private);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: cert.into(), key: key.into() },
        error => unusable(error),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), certificate })
}

/// Builds a verifier that accepts certificates of the authorities in a file, and clients without a certificate.
fn clients(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let no_authority = || TlsError::ClientAuthority(path.into());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        added.ok_or_else(no_authority)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    // Fails without any authority.
    builder.allow_unauthenticated().build().map_err(|_| no_authority())
}
