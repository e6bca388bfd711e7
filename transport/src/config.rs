//! TLS and QUIC settings: TLS 1.3, raw public keys on both sides, no resumption, no 0-RTT, our limits.

use crate::admission::{Admission, Direction};
use crate::error::TransportError;
use crate::key::ReplicaKey;
use crate::limits::{
    CONNECTION_WINDOW, CRYPTO_BUFFER, INCOMING_BUFFER, Limits, MAX_BIDI_STREAMS, MAX_UNI_STREAMS,
    SEND_WINDOW, STREAM_WINDOW,
};
use crate::verifier::{Outcome, PeerVerifier};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use std::sync::{Arc, OnceLock};

/// The application protocol; another version of it has another name.
pub const ALPN: &[u8] = b"kvgossip/1";
/// TLS wants a server name; it is not sent, and nothing depends on it.
pub(crate) const SERVER_NAME: &str = "replica.kvgossip.invalid";

/// What the handshakes of one endpoint have in common.
pub(crate) struct Configs {
    key: ReplicaKey,
    admission: Arc<dyn Admission>,
    provider: Arc<CryptoProvider>,
    transport: Arc<TransportConfig>,
    /// Holds the key of the address validation tokens: every server configuration is a copy of it.
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
        let (tls, _) = server_tls(&key, Arc::clone(&admission), &provider)?;
        let mut server = quinn::ServerConfig::with_crypto(tls);
        server.transport_config(Arc::clone(&transport));
        server.max_incoming(limits.max_pending_handshakes);
        server.incoming_buffer_size(INCOMING_BUFFER / 16).incoming_buffer_size_total(INCOMING_BUFFER);
        server.validation_token.sent(0);
        Ok(Self { key, admission, provider, transport, server })
    }

    /// For the endpoint itself, which needs it before it knows a peer.
    pub(crate) fn default_server(&self) -> quinn::ServerConfig {
        self.server.clone()
    }

    /// For one peer that dials in.
    pub(crate) fn server(
        &self,
    ) -> Result<(Arc<quinn::ServerConfig>, Arc<OnceLock<Outcome>>), TransportError> {
        let (tls, outcome) = server_tls(&self.key, Arc::clone(&self.admission), &self.provider)?;
        let mut config = self.server.clone();
        config.crypto = tls;
        Ok((Arc::new(config), outcome))
    }

    /// For one dial.
    pub(crate) fn client(
        &self,
        direction: Direction,
    ) -> Result<(quinn::ClientConfig, Arc<OnceLock<Outcome>>), TransportError> {
        let (tls, outcome) = client_tls(&self.key, direction, Arc::clone(&self.admission), &self.provider)?;
        let mut config = quinn::ClientConfig::new(tls);
        config.transport_config(Arc::clone(&self.transport));
        Ok((config, outcome))
    }

    pub(crate) fn key(&self) -> &ReplicaKey {
        &self.key
    }
}

/// The endpoint's own secrets come from the replica key, so that they outlive a restart: see
/// [`ReplicaKey::reset_key`].
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

type ServerTls = (Arc<QuicServerConfig>, Arc<OnceLock<Outcome>>);

fn server_tls(
    key: &ReplicaKey,
    admission: Arc<dyn Admission>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerTls, TransportError> {
    let algorithms = provider.signature_verification_algorithms;
    let (verifier, outcome) = PeerVerifier::new(key.id(), Direction::Inbound, admission, algorithms);
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.certified())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Ok((Arc::new(QuicServerConfig::try_from(tls).map_err(setup)?), outcome))
}

type ClientTls = (Arc<QuicClientConfig>, Arc<OnceLock<Outcome>>);

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
        .dangerous() // rustls' word for any verifier but X.509's
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.certified())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = false;
    Ok((Arc::new(QuicClientConfig::try_from(tls).map_err(setup)?), outcome))
}

fn setup(error: impl std::fmt::Display) -> TransportError {
    TransportError::Setup(error.to_string())
}
