//! TLS and QUIC configuration: TLS 1.3 with raw public keys on both sides, without resumption or 0-RTT, with
//! the limits of [`crate::limits`].

use crate::admission::{Admission, Direction};
use crate::error::TransportError;
use crate::instance::{Instance, Told};
use crate::key::ReplicaKey;
use crate::limits::{
    CONNECTION_WINDOW, CRYPTO_BUFFER, INCOMING_BUFFER, Limits, MAX_BIDI_STREAMS, MAX_UNI_STREAMS,
    SEND_WINDOW, STREAM_WINDOW,
};
use crate::verifier::{HandshakeResult, PeerVerifier};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Application protocol name (ALPN). Another version of the protocol has another name.
pub const ALPN: &[u8] = b"kvgossip/2";
/// Configuration shared by all handshakes of one endpoint.
pub(crate) struct Configs {
    key: ReplicaKey,
    own: Arc<Own>,
    admission: Arc<dyn Admission>,
    provider: Arc<CryptoProvider>,
    transport: Arc<TransportConfig>,
    /// Template for every server configuration; it holds the key of the address validation tokens.
    server: quinn::ServerConfig,
}

impl Configs {
    pub(crate) fn new(
        key: ReplicaKey,
        admission: Arc<dyn Admission>,
        limits: &Limits,
    ) -> Result<Self, TransportError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let transport = Arc::new(transport_config(limits)?);
        let own = Arc::new(Own { instance: draw(&provider)?, met: AtomicU64::new(0) });
        let (tls, ..) = server_tls(&key, &own, Arc::clone(&admission), &provider)?;
        let mut server = quinn::ServerConfig::with_crypto(tls);
        server.transport_config(Arc::clone(&transport));
        server.max_incoming(limits.max_pending_handshakes);
        server.incoming_buffer_size(INCOMING_BUFFER / 16).incoming_buffer_size_total(INCOMING_BUFFER);
        server.validation_token.sent(0);
        Ok(Self { key, own, admission, provider, transport, server })
    }

    /// Server configuration of the endpoint itself, used before an incoming handshake has one of its own.
    pub(crate) fn default_server(&self) -> quinn::ServerConfig {
        self.server.clone()
    }

    /// Creates the server configuration for one incoming handshake.
    pub(crate) fn server(&self) -> Result<(Arc<quinn::ServerConfig>, Handshake), TransportError> {
        let (tls, handshake) = server_tls(&self.key, &self.own, Arc::clone(&self.admission), &self.provider)?;
        let mut config = self.server.clone();
        config.crypto = tls;
        Ok((Arc::new(config), handshake))
    }

    /// Creates the client configuration for one dial of a peer.
    pub(crate) fn client(
        &self,
        direction: Direction,
    ) -> Result<(quinn::ClientConfig, Arc<OnceLock<HandshakeResult>>), TransportError> {
        let (tls, outcome) = client_tls(&self.key, direction, Arc::clone(&self.admission), &self.provider)?;
        let mut config = quinn::ClientConfig::new(tls);
        config.transport_config(Arc::clone(&self.transport));
        Ok((config, outcome))
    }

    pub(crate) fn key(&self) -> &ReplicaKey {
        &self.key
    }

    /// Instance number of this endpoint, drawn anew for each one.
    pub(crate) fn instance(&self) -> Instance {
        self.own.instance
    }

    /// Number of handshakes that this endpoint received from itself.
    pub(crate) fn met_itself(&self) -> u64 {
        self.own.met.load(Ordering::Relaxed)
    }
}

/// Creates the endpoint configuration. Its secrets derive from the replica key, so that they survive a restart;
/// see [`ReplicaKey::reset_key`].
pub(crate) fn endpoint_config(key: &ReplicaKey) -> quinn::EndpointConfig {
    let mut config = quinn::EndpointConfig::new(Arc::new(key.reset_key()));
    let connection_id_key = key.connection_id_key();
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id_key)));
    config
}

fn transport_config(limits: &Limits) -> Result<TransportConfig, TransportError> {
    let idle = IdleTimeout::try_from(limits.idle_timeout)
        .map_err(|_| TransportError::Setup("the idle timeout is too long".into()))?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_BIDI_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .crypto_buffer_size(CRYPTO_BUFFER)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(limits.keep_alive))
        .max_idle_timeout(Some(idle));
    Ok(config)
}

/// Draws an instance number, eight bytes, from the random source of the TLS provider.
fn draw(provider: &CryptoProvider) -> Result<Instance, TransportError> {
    let mut bytes = [0; 8];
    provider.secure_random.fill(&mut bytes).map_err(|_| setup("the system gives no random bytes"))?;
    Ok(Instance::new(u64::from_be_bytes(bytes)))
}

/// Instance number of this endpoint, and the number of handshakes that the endpoint received from itself.
#[derive(Debug)]
struct Own {
    instance: Instance,
    met: AtomicU64,
}

/// Results of one incoming handshake, filled in while it runs: the verifier's decision and the dialler's
/// instance.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) outcome: Arc<OnceLock<HandshakeResult>>,
    pub(crate) told: Arc<Told>,
}

/// Server-side certificate resolver: presents the replica's raw public key, and reads the dialler's instance
/// from the server name.
#[derive(Debug)]
struct Greeter {
    certified: Arc<CertifiedKey>,
    own: Arc<Own>,
    told: Arc<Told>,
}

impl ResolvesServerCert for Greeter {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(instance) = hello.server_name().and_then(Instance::of_server_name) {
            let _ = self.told.set(instance);
            if instance == self.own.instance {
                self.own.met.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(Arc::clone(&self.certified))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

fn server_tls(
    key: &ReplicaKey,
    own: &Arc<Own>,
    admission: Arc<dyn Admission>,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<QuicServerConfig>, Handshake), TransportError> {
    let algorithms = provider.signature_verification_algorithms;
    let told = Arc::<Told>::default();
    let (verifier, outcome) = PeerVerifier::new(key.id(), Direction::Inbound, admission, algorithms);
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Greeter {
            certified: key.certified(),
            own: Arc::clone(own),
            told: Arc::clone(&told),
        }));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Ok((Arc::new(QuicServerConfig::try_from(tls).map_err(setup)?), Handshake { outcome, told }))
}

type ClientTls = (Arc<QuicClientConfig>, Arc<OnceLock<HandshakeResult>>);

fn client_tls(
    key: &ReplicaKey,
    direction: Direction,
    admission: Arc<dyn Admission>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientTls, TransportError> {
    let algorithms = provider.signature_verification_algorithms;
    let (verifier, outcome) = PeerVerifier::new(key.id(), direction, admission, algorithms);
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .dangerous() // rustls' name for any verifier other than X.509's
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.certified())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    // The server name carries the instance number.
    tls.enable_sni = true;
    Ok((Arc::new(QuicClientConfig::try_from(tls).map_err(setup)?), outcome))
}

fn setup(error: impl std::fmt::Display) -> TransportError {
    TransportError::Setup(error.to_string())
}
