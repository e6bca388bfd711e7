//! Record of misbehaving and refused peers, shared by all connections of an endpoint.

use crate::code::Code;
use crate::error::TransportError;
use crate::limits::Limits;
use crate::offenders::{Offenders, ShutOut};
use crate::refused::{Refused, RefusedPeer};
use kvgossip_grants::ReplicaId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tables of [`Offenders`] and [`Refused`] peers, with the clock that their times refer to.
#[derive(Debug)]
pub(crate) struct Conduct {
    began: Instant,
    offenders: Mutex<Offenders>,
    refused: Mutex<Refused>,
}

impl Conduct {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let offenders = Mutex::new(Offenders::new(limits.first_shut_out));
        Arc::new(Self { began: Instant::now(), offenders, refused: Mutex::default() })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns [`TransportError::ShutOut`] if the replica is shut out now.
    pub(crate) fn check(&self, peer: &ReplicaId) -> Result<(), TransportError> {
        let shut_out = self.offenders.lock().shut_out(peer, self.now());
        shut_out.map_or(Ok(()), |shut_out| Err(TransportError::ShutOut(shut_out)))
    }

    /// Records the result of a handshake that a peer started: a refusal is listed, a success removes the peer
    /// from the list. Other failures, and those of peers that did not prove a key, are ignored.
    pub(crate) fn note_inbound(&self, result: Result<ReplicaId, &TransportError>) {
        match result {
            Ok(peer) => self.refused.lock().forget(&peer),
            Err(TransportError::Refused { peer: Some(peer), address, code, reason }) => {
                let (peer, address, code, reason) = (*peer, *address, *code, reason.clone());
                self.refused.lock().note(RefusedPeer { peer, address, code, reason }, self.now());
            }
            Err(_) => {}
        }
    }

    /// Records a successful dial of `peer`, which removes it from the list of refused replicas.
    pub(crate) fn note_outbound(&self, peer: &ReplicaId) {
        self.refused.lock().forget(peer);
    }

    pub(crate) fn list_refused(&self) -> Vec<RefusedPeer> {
        self.refused.lock().list(self.now())
    }

    pub(crate) fn list(&self) -> Vec<ShutOut> {
        self.offenders.lock().list(self.now())
    }

    pub(crate) fn counts(&self) -> BTreeMap<Code, u64> {
        self.offenders.lock().counts().clone()
    }

    fn offend(&self, peer: ReplicaId, code: Code) {
        let ShutOut { offences, left, .. } = self.offenders.lock().offend(peer, code, self.now());
        tracing::info!(%peer, %code, offences, left_s = left.as_secs_f32(), "shut out: it misbehaved");
    }
}

/// Peer of one connection, with the record to which its offences are added.
#[derive(Clone, Debug)]
pub(crate) struct Blame {
    pub(crate) conduct: Arc<Conduct>,
    pub(crate) peer: ReplicaId,
}

impl Blame {
    /// Records an offence of the peer under this code: the peer is shut out for a time.
    pub(crate) fn offend(&self, code: Code) {
        self.conduct.offend(self.peer, code);
    }
}
