//! TLS certificate verifier that checks a raw public key and asks the admission policy.
//!
//! The policy is asked only after the handshake signature has been verified, so that nobody without an admitted
//! key can find out who is admitted.

use crate::admission::{Access, Admission, Decision, Direction};
use crate::code::Code;
use crate::key::replica_id_of_spki;
use kvgossip_grants::ReplicaId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Result of one handshake.
#[derive(Debug)]
pub(crate) enum HandshakeResult {
    Admitted { peer: ReplicaId, access: Access },
    Refused { peer: Option<ReplicaId>, code: Code, reason: String },
}

/// Verifier of the peer's key in one handshake. quinn turns TLS errors into text, so the result is kept in a
/// cell beside it.
pub(crate) struct PeerVerifier {
    local: ReplicaId,
    direction: Direction,
    admission: Arc<dyn Admission>,
    algorithms: WebPkiSupportedAlgorithms,
    outcome: Arc<OnceLock<HandshakeResult>>,
}

impl PeerVerifier {
    pub(crate) fn new(
        local: ReplicaId,
        direction: Direction,
        admission: Arc<dyn Admission>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> (Arc<Self>, Arc<OnceLock<HandshakeResult>>) {
        let outcome = Arc::default();
        let verifier = Self { local, direction, admission, algorithms, outcome: Arc::clone(&outcome) };
        (Arc::new(verifier), outcome)
    }

    /// Records the reason of a refusal, if it is the first one, and returns the matching TLS alert.
    fn refuse(&self, peer: Option<ReplicaId>, code: Code, reason: String) -> Error {
        let alert = match code {
            Code::BadKey => CertificateError::BadEncoding,
            _ => CertificateError::ApplicationVerificationFailure,
        };
        let _ = self.outcome.set(HandshakeResult::Refused { peer, code, reason });
        Error::InvalidCertificate(alert)
    }

    /// Identifies the replica from a certificate message, which must hold one raw key and nothing else.
    fn identify(&self, key: &[u8], others: &[CertificateDer<'_>]) -> Result<ReplicaId, Error> {
        if !others.is_empty() {
            return Err(self.refuse(None, Code::BadKey, "it showed more than one key".into()));
        }
        replica_id_of_spki(key).map_err(|error| self.refuse(None, Code::BadKey, error.to_string()))
    }

    fn admit(&self, peer: ReplicaId) -> Result<(), Error> {
        if peer == self.local {
            return Err(self.refuse(Some(peer), Code::OwnKey, "it has this replica's own key".into()));
        }
        if let Direction::Outbound { expected: Some(expected) } = self.direction
            && peer != expected
        {
            let reason = format!("replica {expected} was expected there");
            return Err(self.refuse(Some(peer), Code::WrongId, reason));
        }
        match self.admission.decide(&peer, self.direction) {
            Decision::Admitted(access) => {
                let _ = self.outcome.set(HandshakeResult::Admitted { peer, access });
                Ok(())
            }
            Decision::Refused(reason) => Err(self.refuse(Some(peer), Code::NotAdmitted, reason)),
        }
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let peer = self.identify(key, &[])?;
        let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
        let valid = verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
            .map_err(|error| {
                self.refuse(None, Code::BadKey, format!("it did not prove that it has its key: {error}"))
            })?;
        self.admit(peer)?;
        Ok(valid)
    }

    /// RSA signature schemes of TLS 1.3 that this build verifies.
    fn schemes(&self) -> Vec<SignatureScheme> {
        let rsa_pss = [
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
        ];
        let supported = self.algorithms.supported_schemes();
        rsa_pss.into_iter().filter(|scheme| supported.contains(scheme)).collect()
    }
}

/// Error for TLS 1.2, which is not compiled in; the traits still require its methods.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken here".into()))
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.identify(end_entity, intermediates).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.identify(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("direction", &self.direction).finish_non_exhaustive()
    }
}
