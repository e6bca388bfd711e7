//! What the scheduler must hear the end of, whatever becomes of the work: sessions, and connections that are served.

use super::Peers;
use kvgossip_engine::scheduler::{Due, SessionEnd};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{Code, Connection};

/// A session with a peer that the scheduler takes to be under way, until this is dropped.
#[must_use]
pub(super) struct UnderWay {
    peers: Peers,
    peer: ReplicaId,
    connection: u64,
    end: SessionEnd,
}

impl UnderWay {
    /// Ends it so; a session that is dropped otherwise has failed.
    pub(super) fn ended(mut self, end: SessionEnd) {
        self.end = end;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.peers.inner.clock.now_us();
        self.peers.inner.scheduler.lock().session_ended(&self.peer, self.connection, self.end, now);
        self.peers.inner.wake.notify_one();
    }
}

/// A connection whose sessions are served, until this is dropped.
pub(super) struct Serving {
    peers: Peers,
    connection: Connection,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let peer = self.connection.peer();
        self.peers.inner.scheduler.lock().peer_down(&peer, self.connection.number());
        if std::thread::panicking() {
            // Nobody would serve it any more: the peer dials anew.
            self.connection.close(Code::Internal, "a fault of the program");
        }
    }
}

impl Peers {
    /// A session on the connection is under way from now on.
    pub(super) fn under_way(&self, connection: &Connection) -> UnderWay {
        self.started(connection.peer(), connection.number())
    }

    /// The next session to begin, if one is due; from now on it is under way.
    pub(super) fn next_due(&self) -> Option<(Due, UnderWay)> {
        let due = self.inner.scheduler.lock().poll(self.inner.clock.now_us());
        due.map(|due| (due, self.started(due.peer, due.connection)))
    }

    fn started(&self, peer: ReplicaId, connection: u64) -> UnderWay {
        let now = self.inner.clock.now_us();
        self.inner.scheduler.lock().session_started(&peer, connection, now);
        UnderWay { peers: self.clone(), peer, connection, end: SessionEnd::Failed }
    }

    /// The connection is served from now on.
    pub(super) fn serving(&self, connection: Connection) -> Serving {
        Serving { peers: self.clone(), connection }
    }
}
