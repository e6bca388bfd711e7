//! Peers that are not kvgossip: quinn and rustls with settings of their own, up to plain lies.

use super::{ANY_PORT, fixture, soon};
use kvgossip_transport::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureAlgorithm, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The private key of a fixture.
pub fn signing_key(pem: &str) -> Arc<dyn SigningKey> {
    any_supported_type(&PrivateKeyDer::from_pem_slice(&fixture(pem)).unwrap()).unwrap()
}

/// Shows a public key and "signs" with nothing.
#[derive(Debug)]
pub struct Liar;

impl SigningKey for Liar {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for Liar {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0x5a; 256])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}

/// A key that proves `spki`, or claims to.
pub fn certified(spki: Vec<u8>, key: Arc<dyn SigningKey>) -> Arc<CertifiedKey> {
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key))
}

/// The honest key pair of a fixture.
pub fn honest(pem: &str) -> Arc<CertifiedKey> {
    let key = signing_key(pem);
    let spki = key.public_key().unwrap().to_vec();
    certified(spki, key)
}

/// Takes any server and any client.
#[derive(Debug)]
struct AnyPeer {
    raw_keys: bool,
}

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw_keys
    }
}

impl ClientCertVerifier for AnyPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw_keys
    }
}

/// What a raw client does about its own key.
pub enum ClientAuth {
    /// Shows none.
    Nothing,
    /// Shows a raw public key.
    RawKey(Arc<CertifiedKey>),
    /// Wants X.509 on both sides, as any other TLS client does.
    X509(Arc<dyn ResolvesClientCert>),
}

pub fn client_config(auth: ClientAuth, alpn: &[&[u8]]) -> quinn::ClientConfig {
    let raw_keys = !matches!(auth, ClientAuth::X509(_));
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyPeer { raw_keys }));
    let mut tls = match auth {
        ClientAuth::Nothing => builder.with_no_client_auth(),
        ClientAuth::RawKey(key) => {
            builder.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)))
        }
        ClientAuth::X509(resolver) => builder.with_client_cert_resolver(resolver),
    };
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // It would take any shortcut that it is offered.
    tls.enable_early_data = true;
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A QUIC client that speaks the right protocol name.
pub fn client(auth: ClientAuth) -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client(ANY_PORT).unwrap();
    endpoint.set_default_client_config(client_config(auth, &[ALPN]));
    endpoint
}

/// Connects and waits until the server has done something about it: the welcome, or the end.
pub async fn dial(
    client: &quinn::Endpoint,
    to: SocketAddr,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    soon(async {
        let connection = client.connect(to, "x.invalid").unwrap().await?;
        let mut welcome = connection.accept_uni().await?;
        welcome.read_to_end(64).await.unwrap();
        Ok(connection)
    })
    .await
}

/// A QUIC server with a raw key, or with what stands for one, that takes any client and says nothing.
pub fn server(key: Arc<CertifiedKey>) -> quinn::Endpoint {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyPeer { raw_keys: true }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    quinn::Endpoint::server(config, ANY_PORT).unwrap()
}
