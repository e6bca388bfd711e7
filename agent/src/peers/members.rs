//! Peers that gossip brings: whom to dial, and what their members say of themselves.

use super::roots::KnownRoot;
use super::{PATIENCE, Peers, random};
use crate::clock;
use crate::metrics::{Metrics, SessionCause};
use kvgossip_api::SyncReport;
use kvgossip_engine::scheduler::First;
use kvgossip_grants::{Digest, PathPrefix};
use kvgossip_transport::{Admission, Code, Connection, Direction, ReplicaId, Target, Verdict};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Of two replicas that would dial each other the one with the greater id leaves the other one this much time.
const YIELD: Duration = Duration::from_millis(700);
/// Whoever has just become known may not know this replica yet, and would refuse it.
const SETTLE: Duration = Duration::from_millis(200);
/// A member that was dialled for one session stays connected for this long.
const VISIT: Duration = Duration::from_secs(60);
/// How long a member that is wanted for a session may take to be connected.
const CONNECT: Duration = Duration::from_secs(6);

/// The members that this replica dials.
#[derive(Debug, Default)]
pub(super) struct Dials(Mutex<BTreeMap<ReplicaId, Dial>>);

#[derive(Debug)]
struct Dial {
    address: SocketAddr,
    cancel: CancellationToken,
    /// Ends the wait before the first dial.
    hurry: Arc<Notify>,
    /// Whether it is to stay connected; else until when.
    visit_until: Option<Instant>,
}

impl Drop for Dial {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Dials {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Dial>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Stays connected with these members, and with no others for longer than a visit.
    pub(crate) fn set_neighbours(&self, neighbours: &BTreeMap<ReplicaId, SocketAddr>) {
        let mut dials = self.inner.dials.lock();
        let now = Instant::now();
        let mut ended = Vec::new();
        dials.retain(|id, dial| match (neighbours.get(id), dial.visit_until) {
            (Some(address), _) => {
                dial.visit_until = None;
                *address == dial.address
            }
            (None, Some(until)) if now < until => true,
            (None, visit) => {
                ended.extend(visit.map(|_| *id));
                false
            }
        });
        for (id, address) in neighbours {
            if !dials.contains_key(id) {
                dials.insert(*id, self.dial(*id, *address, None));
            }
        }
        drop(dials);
        for id in ended {
            let ours = |connection: &Connection| connection.dialled_by() == self.id();
            if let Some(connection) = self.inner.table.get(&id).filter(ours) {
                connection.close(Code::Closed, "the visit is over");
            }
        }
    }

    /// Begins to dial a member.
    fn dial(&self, id: ReplicaId, address: SocketAddr, visit_until: Option<Instant>) -> Dial {
        let (cancel, hurry) = (CancellationToken::new(), Arc::new(Notify::new()));
        let wait = SETTLE + if self.id() < id { Duration::ZERO } else { YIELD };
        let wait = wait + wait.mul_f64((random() % 1000) as f64 / 1000.0) / 2;
        let (cancelled, hurried) = (cancel.clone(), hurry.clone());
        self.spawn(move |peers| async move {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = hurried.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let target = Target { address, expected: Some(id) };
            peers.stay_connected(target, First::Gossip, cancelled).await;
        });
        Dial { address, cancel, hurry, visit_until }
    }

    /// Runs a session with a member, connecting with it if need be. True if they have talked: false if it was not to
    /// be reached, has no time, or the session broke.
    pub(crate) async fn sync_member(&self, id: ReplicaId, address: SocketAddr) -> bool {
        let Some(connection) = self.visit(id, address).await else { return false };
        let deadline = Instant::now() + PATIENCE;
        let mut busy = 0;
        while Instant::now() < deadline {
            match self.initiate(&connection, PathPrefix::root(), SessionCause::Survey).await {
                // Both may have begun at the same moment; a member that is busy twice has no time.
                Ok(report) if is_busy(&report) => busy += 1,
                Ok(report) => return report.outcome != "failed",
                // A session with it is under way, whoever began it: when it ends, another finds out what is left.
                Err(error) if error.code() == Code::Busy => {}
                Err(_) => return false,
            }
            if busy > 1 {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The session under way goes on for long: so they do talk.
        true
    }

    /// The connection with a member; dials if there is none.
    async fn visit(&self, id: ReplicaId, address: SocketAddr) -> Option<Connection> {
        let mut changes = self.inner.table.changes();
        let deadline = tokio::time::Instant::now() + CONNECT;
        if let Some(connection) = self.inner.table.get(&id) {
            return Some(connection);
        }
        {
            let mut dials = self.inner.dials.lock();
            let until = Some(Instant::now() + VISIT);
            let dial = dials.entry(id).or_insert_with(|| self.dial(id, address, until));
            dial.hurry.notify_one();
        }
        loop {
            if let Some(connection) = self.inner.table.get(&id) {
                return Some(connection);
            }
            tokio::time::timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// Gossip says that a replica holds this root. It is a hint.
    pub(crate) fn heard_root(&self, id: ReplicaId, root: Digest) {
        self.inner.roots.heard(id, root, clock::now());
        self.scheduler().heard_root(id.as_bytes(), root);
        self.inner.wake.notify_one();
    }

    /// What is known of a replica's root.
    pub(crate) fn known_root(&self, id: &ReplicaId) -> Option<KnownRoot> {
        self.inner.roots.known(id, clock::now())
    }

    /// The last session with a replica.
    pub(crate) fn last_sync(&self, id: &ReplicaId) -> Option<SyncReport> {
        self.inner.book.last_sync(id)
    }

    /// The open connection with a replica.
    pub(crate) fn connection(&self, id: &ReplicaId) -> Option<Connection> {
        self.inner.table.get(id)
    }

    /// Closes the connections with replicas that have left, unless something else admits them.
    pub(crate) fn close_departed(&self, departed: &[ReplicaId]) {
        for connection in departed.iter().filter_map(|id| self.inner.table.get(id)) {
            let verdict = self.inner.policy.decide(&connection.peer(), connection.direction());
            // Who was dialled by its id was so because it was a member.
            let listed = self.inner.targets.iter().any(|target| target.id == Some(connection.peer()));
            let named = matches!(connection.direction(), Direction::Outbound { .. });
            if !listed && (named || matches!(verdict, Verdict::Refused(_))) {
                connection.close(Code::Closed, "it has left the cluster");
            }
        }
    }

    /// Where everything is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.inner.host.metrics()
    }

    /// This replica's root.
    pub(crate) fn root(&self) -> Digest {
        self.inner.host.store().view().root()
    }

    /// Closes the connections that nothing admits any more.
    pub(crate) fn enforce_admission(&self) {
        self.inner.table.enforce(self.inner.policy.as_ref());
    }
}

fn is_busy(report: &SyncReport) -> bool {
    report.outcome == "failed" && report.reasons.iter().any(|code| code == Code::Busy.name())
}
