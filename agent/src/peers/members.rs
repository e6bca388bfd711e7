//! Peers that gossip brings: whom to dial, and what their members say of themselves.

use super::roots::{KnownRoot, Source};
use super::whereabouts::Announced;
use super::{PATIENCE, Peers, holds, random};
use crate::clock;
use crate::metrics::{Metrics, SessionCause, ShutOutSample};
use kvgossip_api::{Holds, ShutOutRow, SyncOutcome, SyncReport};
use kvgossip_engine::scheduler::First;
use kvgossip_grants::{Digest, PathPrefix, ReplicaId};
use kvgossip_membership::Text;
use kvgossip_transport::{Admission, Code, Connection, Decision, Direction, ShutOut, Target};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Of two replicas that would dial each other the one with the greater id leaves the other one this much time.
const YIELD: Duration = Duration::from_millis(700);
/// Whoever has just become known may not know this replica yet, and would refuse it.
const SETTLE: Duration = Duration::from_millis(200);
/// A member that was dialled for one session stays connected for this long.
const VISIT: Duration = Duration::from_secs(60);
/// How many replicas whose member has failed are dialled on.
const MAX_FAILED_DIALS: usize = 8;
/// How many replicas that are shut out are named.
const MAX_SHUT_OUT_ROWS: usize = 64;
/// How long a member that is wanted for a session may take to be connected.
const CONNECT: Duration = Duration::from_secs(6);

/// The members that this replica dials.
#[derive(Debug, Default)]
pub(super) struct Dials(Mutex<BTreeMap<ReplicaId, Dial>>);

#[derive(Debug)]
struct Dial {
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

impl Peers {
    /// Stays connected with these members, and with no others for longer than a visit. Neighbours whose member has failed a
    /// short while ago are dialled on: they may be there, and gossip has not noticed yet.
    pub(crate) fn set_neighbours(&self, neighbours: &BTreeSet<ReplicaId>) {
        let mut dials = self.inner.dials.0.lock();
        let now = Instant::now();
        let mut ended = Vec::new();
        let mut room = MAX_FAILED_DIALS;
        let mut failed = |id: &ReplicaId| {
            let failed = self.inner.directory.vouches_for(id) && !self.inner.directory.is_live(id);
            let kept = failed && room > 0;
            room -= usize::from(kept);
            kept
        };
        dials.retain(|id, dial| match (neighbours.contains(id), dial.visit_until) {
            (true, _) => {
                dial.visit_until = None;
                true
            }
            (false, Some(until)) if now < until => true,
            (false, None) if failed(id) => true,
            (false, visit) => {
                ended.extend(visit.map(|_| *id));
                false
            }
        });
        for id in neighbours {
            dials.entry(*id).or_insert_with(|| self.dial(*id, None));
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
    fn dial(&self, id: ReplicaId, visit_until: Option<Instant>) -> Dial {
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
            let address = Announced::new(peers.inner.directory.clone(), id);
            let target = Target { address, expected: Some(id) };
            peers.stay_connected(target, First::Gossip, cancelled).await;
        });
        Dial { cancel, hurry, visit_until }
    }

    /// Runs a session with a member, connecting with it if need be. True if they have talked: false if it was not to
    /// be reached, has no time, or the session broke.
    pub(crate) async fn sync_member(&self, id: ReplicaId) -> bool {
        let Some(connection) = self.visit(id).await else { return false };
        let deadline = Instant::now() + PATIENCE;
        let mut busy = 0;
        while Instant::now() < deadline {
            match self.initiate(&connection, PathPrefix::root(), SessionCause::Survey).await {
                // Both may have begun at the same moment; a member that is busy twice has no time.
                Ok(report) if report.outcome == SyncOutcome::Busy => busy += 1,
                Ok(report) => return report.outcome != SyncOutcome::Failed,
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
    async fn visit(&self, id: ReplicaId) -> Option<Connection> {
        let mut changes = self.inner.table.changes();
        let deadline = tokio::time::Instant::now() + CONNECT;
        if let Some(connection) = self.inner.table.get(&id) {
            return Some(connection);
        }
        if !self.inner.directory.is_live(&id) {
            return None;
        }
        {
            let mut dials = self.inner.dials.0.lock();
            let until = Some(Instant::now() + VISIT);
            let dial = dials.entry(id).or_insert_with(|| self.dial(id, until));
            dial.hurry.notify_one();
        }
        loop {
            if let Some(connection) = self.inner.table.get(&id) {
                return Some(connection);
            }
            tokio::time::timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// A member says in gossip that a replica holds this root. Anybody who can send gossip can say so: it is shown to people
    /// as what is said, if the member announces the address at which the replica has proved its key, and nothing is decided
    /// by it.
    pub(crate) fn heard_root(&self, id: ReplicaId, member: &Text, root: Digest) {
        let announced = self.inner.directory.announcement(&id, member);
        let proven = self.connection(&id).map(|connection| connection.address());
        if announced.is_some_and(|announced| Some(announced.address) == proven) {
            self.inner.roots.heard(id, Source::Gossip, root, clock::now());
        }
    }

    /// What gossip has said of a replica since the last session with it, if that is something else.
    pub(crate) fn says(&self, id: &ReplicaId) -> Option<Holds> {
        let (proved, now) = (self.known_root(id), clock::now());
        let said = self.inner.roots.known(id, Source::Gossip, now)?;
        if proved.is_some_and(|proved| proved.at >= said.at) {
            return None;
        }
        let says = holds(Some(said)).0;
        (says != holds(proved).0).then_some(says)
    }

    /// Whether two running processes use this replica's own key, and which others' keys.
    pub(crate) fn clones(&self) -> (bool, Vec<ReplicaId>) {
        (self.inner.table.own_key_is_cloned(), self.inner.table.clones())
    }

    /// What is known of a replica's root by sessions with it.
    pub(crate) fn known_root(&self, id: &ReplicaId) -> Option<KnownRoot> {
        self.inner.roots.known(id, Source::Session, clock::now())
    }

    /// The last session with a replica.
    pub(crate) fn last_sync(&self, id: &ReplicaId) -> Option<SyncReport> {
        self.inner.book.last_sync(id)
    }

    /// The replicas that misbehaved and are not talked with for a time, the longest first, up to [`MAX_SHUT_OUT_ROWS`].
    pub(crate) fn shut_out(&self) -> Vec<ShutOutRow> {
        let mut shut_out = self.inner.endpoint.shut_out();
        shut_out.sort_by_key(|it| Reverse(it.left));
        shut_out.iter().take(MAX_SHUT_OUT_ROWS).map(shut_out_row).collect()
    }

    /// The same of one replica.
    pub(crate) fn shut_out_of(&self, id: &ReplicaId) -> Option<ShutOutRow> {
        self.inner.endpoint.shut_out().iter().find(|it| it.peer == *id).map(shut_out_row)
    }

    /// The same in numbers.
    pub(crate) fn shut_out_sample(&self) -> ShutOutSample {
        let endpoint = &self.inner.endpoint;
        ShutOutSample {
            now: endpoint.shut_out().len() as u64,
            offences: endpoint.offences().into_iter().map(|(code, n)| (code.name(), n)).collect(),
            turned_away: endpoint.stats().turned_away,
        }
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
            let listed = self.inner.listed.iter().any(|listed| listed.target.id == Some(connection.peer()));
            let named = matches!(connection.direction(), Direction::Outbound { .. });
            if !listed && (named || matches!(verdict, Decision::Refused(_))) {
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

fn shut_out_row(shut_out: &ShutOut) -> ShutOutRow {
    ShutOutRow {
        replica: shut_out.peer.to_string(),
        code: shut_out.code.name().to_owned(),
        offences: shut_out.offences.into(),
        left_us: u64::try_from(shut_out.left.as_micros()).unwrap_or(u64::MAX),
    }
}
