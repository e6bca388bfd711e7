//! The task that listens to gossip and does what the survey wants.

use super::directory::Replica;
use super::keyring::write_keyring;
use super::roots::{QUERY, Roots};
use super::{Gossip, tags};
use crate::clock::Monotonic;
use crate::peers::random;
use kvgossip_engine::survey::{Action, Survey};
use kvgossip_membership::driver::{Answer, Answers};
use kvgossip_membership::{Event, Membership, Query, QueryParams, Status};
use kvgossip_transport::ReplicaId;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How many members a replica stays connected with by dialling them; others dial it.
pub(super) const NEIGHBOURS: usize = 8;
/// Changes of the membership that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// The list of members is looked at this often even if nothing was heard.
const REFRESH: Duration = Duration::from_secs(5);
/// Bytes of names that a question to a sample of members carries; a query has at most 1,024 bytes in all.
const MAX_NAME_BYTES: usize = 600;
/// How many sessions may report their end at a time.
const SYNCED_BUFFER: usize = 64;

/// What is remembered of each member from one look to the next.
type Seen = BTreeMap<String, (Status, ReplicaId)>;

/// With whom a session that the survey wanted has ended, and whether they have talked.
type Synced = (ReplicaId, bool);

pub(super) struct Task {
    gossip: Gossip,
    keyring_file: Option<PathBuf>,
    survey: Survey,
    clock: Monotonic,
    seen: Seen,
    /// The answers to the question that is under way.
    answers: Option<Answers>,
    synced: (mpsc::Sender<Synced>, mpsc::Receiver<Synced>),
    warned: bool,
}

impl Task {
    pub(super) fn new(gossip: Gossip, keyring_file: Option<PathBuf>) -> Self {
        let clock = Monotonic::start();
        Self {
            gossip,
            keyring_file,
            survey: Survey::new(random(), clock.now_us()),
            clock,
            seen: Seen::new(),
            answers: None,
            synced: mpsc::channel(SYNCED_BUFFER),
            warned: false,
        }
    }

    /// Runs until the agent has left.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut refresh_at = Instant::now();
        while let Ok(member) = self.gossip.member() {
            if Instant::now() >= refresh_at {
                self.refresh(&member).await;
                refresh_at = Instant::now() + REFRESH;
            }
            self.act(&member).await;
            let due = self.clock.instant(self.survey.poll_timeout());
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) if self.changes_members(&event) => {
                        refresh_at = refresh_at.min(Instant::now() + GATHER);
                        self.on_event(event, &member).await;
                    }
                    Some(event) => self.on_event(event, &member).await,
                    None => return,
                },
                answer = next(&mut self.answers) => self.on_answer(answer, &member).await,
                Some((id, talked)) = self.synced.1.recv() => {
                    self.survey.synced(id.as_bytes(), talked, self.clock.now_us());
                }
                () = tokio::time::sleep_until(due.into()) => {}
                () = tokio::time::sleep_until(refresh_at) => {}
            }
        }
    }

    fn changes_members(&self, event: &Event) -> bool {
        matches!(
            event,
            Event::MemberJoined(_)
                | Event::MemberUpdated(_)
                | Event::MemberFailed(_)
                | Event::MemberLeft(_)
                | Event::MemberReaped(_)
                | Event::Lagged { .. }
                | Event::JoinFinished { .. }
        )
    }

    async fn on_event(&mut self, event: Event, member: &Arc<Membership>) {
        match event {
            Event::MemberJoined(other) => {
                tracing::info!(name = other.name, address = %other.addr, "a member is there")
            }
            Event::MemberFailed(other) => {
                tracing::warn!(name = other.name, address = %other.addr, "a member has failed")
            }
            Event::MemberLeft(other) => {
                tracing::info!(name = other.name, address = %other.addr, "a member has left")
            }
            Event::JoinFinished { error: None, .. } => self.survey.joined(self.clock.now_us()),
            Event::Query(query) if query.name == QUERY => self.on_question(&query, member).await,
            Event::UserEvent { name, payload, .. } => {
                tracing::info!(name, bytes = payload.len(), "a user event");
            }
            Event::NameConflict { name, other } => {
                tracing::warn!(name, %other, "another member uses a name that is taken");
            }
            Event::NameLost => self.name_lost(member).await,
            Event::KeyringChanged => self.store_keyring(member).await,
            Event::Lagged { dropped } => tracing::debug!(dropped, "events of the membership were lost"),
            _ => {}
        }
    }

    async fn name_lost(&self, member: &Arc<Membership>) {
        let name = member.local_member().await.map(|own| own.name).unwrap_or_default();
        tracing::error!(name, "another member has this name: this agent takes no part in gossip any more");
        // Others may ask why meanwhile, and what was counted.
        self.gossip.sample().await;
        let _ = self.gossip.inner.lost.set(name);
        self.gossip.end();
    }

    async fn store_keyring(&self, member: &Membership) {
        let Ok(Some(ring)) = member.framing().await.map(|framing| framing.keyring) else { return };
        let Some(path) = self.keyring_file.clone() else {
            tracing::warn!(
                "the gossip keys were changed; start this agent with the new ones next time, or use --keyring"
            );
            return;
        };
        let shown = path.clone();
        match tokio::task::spawn_blocking(move || write_keyring(&path, &ring)).await {
            Ok(Ok(())) => tracing::info!(path = %shown.display(), "the gossip keys were changed and stored"),
            Ok(Err(error)) => {
                tracing::error!(path = %shown.display(), %error, "the changed gossip keys cannot be stored")
            }
            Err(_) => {}
        }
    }

    /// Looks at all members, and tells the others what is new.
    async fn refresh(&mut self, member: &Membership) {
        let Ok(members) = member.members().await else { return };
        let (own, cluster) = (self.gossip.inner.peers.id(), self.gossip.inner.cluster);
        let (mut seen, mut live) = (Seen::new(), BTreeMap::new());
        for other in members {
            let Some((id, port)) = tags::read(&other.tags, cluster) else { continue };
            if id == own {
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(name = other.name, address = %other.addr, "a member announces the id of this replica: was its key copied?");
                }
                continue;
            }
            if other.status == Status::Alive {
                let address = std::net::SocketAddr::new(other.addr.ip(), port);
                live.insert(id, Replica { name: other.name.clone(), address, rtt: other.rtt });
            }
            seen.insert(other.name, (other.status, id));
        }
        let neighbours = neighbours(own, live.keys().copied());
        let neighbours = neighbours.into_iter().filter_map(|id| Some((id, live.get(&id)?.address))).collect();
        let before = std::mem::replace(&mut self.seen, seen);
        self.gossip.inner.directory.set(live);
        self.tell_survey(&before);
        if !self.gossip.inner.leaving.load(Ordering::Relaxed) {
            self.gossip.inner.peers.set_neighbours(&neighbours);
        }
        self.gossip.inner.peers.close_departed(&self.departed(&before));
    }

    /// Members that have left since the last look.
    fn departed(&self, before: &Seen) -> Vec<ReplicaId> {
        let gone = self.seen.iter().filter(|(name, (status, _))| {
            *status == Status::Left && before.get(*name).is_some_and(|(before, _)| *before != Status::Left)
        });
        gone.map(|(_, (_, id))| *id).collect()
    }

    fn tell_survey(&mut self, before: &Seen) {
        let now = self.clock.now_us();
        let live = self.gossip.inner.directory.replicas();
        for (name, (status, id)) in &self.seen {
            let earlier = before.get(name).filter(|(_, before)| before == id).map(|(status, _)| *status);
            match (earlier, status) {
                (Some(Status::Alive), Status::Alive) => {}
                (Some(Status::Failed | Status::Left), Status::Alive) => {
                    self.survey.member_returned(*id.as_bytes(), now);
                }
                (_, Status::Alive) => self.survey.member_up(*id.as_bytes(), now),
                _ => {}
            }
        }
        for (_, id) in before.values().filter(|(status, _)| *status == Status::Alive) {
            if !live.contains_key(id) {
                self.survey.member_down(id.as_bytes(), now);
            }
        }
    }

    /// Does what the survey wants.
    async fn act(&mut self, member: &Arc<Membership>) {
        if self.gossip.inner.leaving.load(Ordering::Relaxed) {
            return;
        }
        let peers = self.gossip.inner.peers.clone();
        let root = peers.root();
        let connected = |id: &[u8; 32]| peers.connection(&ReplicaId::from_bytes(*id)).is_some();
        while let Some(action) = self.survey.poll(&root, connected, self.clock.now_us()) {
            match action {
                Action::Ask(sample) => self.ask(sample, member).await,
                Action::Sync(id) => self.sync(ReplicaId::from_bytes(id)),
            }
        }
    }

    async fn ask(&mut self, sample: Option<Vec<[u8; 32]>>, member: &Membership) {
        let (peers, cluster) = (&self.gossip.inner.peers, self.gossip.inner.cluster);
        let question = Roots { replica: peers.id(), root: peers.root() }.encode(cluster);
        let mut params = QueryParams::default();
        match sample {
            Some(sample) => params.nodes = self.names(&sample),
            None => {
                params.tags = vec![(tags::CLUSTER.to_owned(), format!("^{}$", tags::cluster_text(cluster)))]
            }
        }
        match member.query(QUERY, &question, params).await {
            Ok(answers) => {
                peers.metrics().survey();
                self.answers = Some(answers);
            }
            Err(error) => {
                tracing::debug!("the others cannot be asked for their roots: {error}");
                self.survey.answers_ended(self.clock.now_us());
            }
        }
    }

    /// As many names of these replicas as fit a query.
    fn names(&self, sample: &[[u8; 32]]) -> Vec<String> {
        let live = self.gossip.inner.directory.replicas();
        let mut room = MAX_NAME_BYTES;
        let names =
            sample.iter().filter_map(|id| live.get(&ReplicaId::from_bytes(*id))).map(|replica| &replica.name);
        let fits = names.take_while(|name| {
            // Up to three bytes say how long it is.
            let fits = name.len() + 3 <= room;
            room = room.saturating_sub(name.len() + 3);
            fits
        });
        fits.cloned().collect()
    }

    fn sync(&self, id: ReplicaId) {
        let peers = self.gossip.inner.peers.clone();
        let address = self.gossip.inner.directory.replicas().get(&id).map(|replica| replica.address);
        let synced = self.synced.0.clone();
        self.gossip.spawn(async move {
            let talked = match address {
                Some(address) => peers.sync_member(id, address).await,
                None => false,
            };
            // The receiver goes when the agent leaves.
            let _ = synced.send((id, talked)).await;
        });
    }

    /// Somebody tells its root and wants to know who holds something else.
    async fn on_question(&mut self, query: &Query, member: &Membership) {
        let (peers, cluster) = (&self.gossip.inner.peers, self.gossip.inner.cluster);
        let Some(asked) = Roots::decode(&query.payload, cluster) else { return };
        if asked.replica == peers.id() {
            return;
        }
        let own = peers.root();
        peers.heard_root(asked.replica, asked.root);
        self.survey.heard_question(&asked.root, &own);
        if asked.root != own {
            let answer = Roots { replica: peers.id(), root: own }.encode(cluster);
            if let Err(error) = member.respond(query, &answer).await {
                tracing::debug!("a question for roots is not answered: {error}");
            }
        }
    }

    async fn on_answer(&mut self, answer: Option<Answer>, member: &Membership) {
        let now = self.clock.now_us();
        let Some(answer) = answer else {
            self.answers = None;
            return self.survey.answers_ended(now);
        };
        let (peers, cluster) = (&self.gossip.inner.peers, self.gossip.inner.cluster);
        let Answer::Response { from, payload } = answer else { return };
        let Some(told) = Roots::decode(&payload, cluster) else { return };
        let replicas = self.gossip.inner.directory.replicas();
        // A member speaks for the replica that it announces.
        let Some(replica) = replicas.get(&told.replica).filter(|replica| replica.name == from) else {
            return;
        };
        peers.heard_root(told.replica, told.root);
        peers.metrics().survey_answer();
        let connected = peers.connection(&told.replica).map(|connection| connection.rtt());
        let rtt = match connected.or(replica.rtt) {
            Some(rtt) => Some(rtt),
            None => member.estimated_rtt(&from).await.ok().flatten(),
        };
        let rtt_us = rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
        self.survey.answered(*told.replica.as_bytes(), told.root, rtt_us, &peers.root(), now);
    }
}

/// The next answer; waits for ever while no question is under way.
async fn next(answers: &mut Option<Answers>) -> Option<Answer> {
    match answers {
        Some(answers) => answers.next().await,
        None => std::future::pending().await,
    }
}

/// Whom of all to stay connected with: the next one by id, so that together they are a ring, and others, as good as
/// random, and the same at every look, so that few change when members come and go.
fn neighbours(own: ReplicaId, all: impl Iterator<Item = ReplicaId>) -> Vec<ReplicaId> {
    let score = |id: &ReplicaId| {
        let mut hasher = DefaultHasher::new();
        (own.as_bytes(), id.as_bytes()).hash(&mut hasher);
        hasher.finish()
    };
    let mut all: Vec<ReplicaId> = all.collect();
    let next = all.iter().filter(|id| **id > own).min().or(all.iter().min()).copied();
    all.sort_by_cached_key(|id| (Some(*id) != next, score(id)));
    all.truncate(NEIGHBOURS);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn id(number: u32) -> ReplicaId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ReplicaId::from_bytes(bytes)
    }

    #[test]
    fn neighbours_connect_a_large_cluster_and_hardly_change() {
        const ALL: u32 = 500;
        let chosen: Vec<Vec<ReplicaId>> =
            (0..ALL).map(|own| neighbours(id(own), (0..ALL).filter(|n| *n != own).map(id))).collect();
        let mut reached = BTreeSet::from([id(0)]);
        let mut hops = 0;
        while reached.len() < ALL as usize {
            let next: Vec<ReplicaId> = (0..ALL)
                .filter(|n| reached.contains(&id(*n)))
                .flat_map(|n| chosen[n as usize].clone())
                .collect();
            let before = reached.len();
            reached.extend(next);
            assert!(reached.len() > before, "{before} of {ALL} are an island");
            hops += 1;
        }
        assert!(hops <= 6, "{hops} hops");
        let without: Vec<ReplicaId> =
            neighbours(id(0), (1..ALL).map(id).filter(|other| *other != chosen[0][1]));
        let kept: Vec<ReplicaId> = chosen[0].iter().copied().filter(|other| *other != chosen[0][1]).collect();
        assert_eq!(without[..NEIGHBOURS - 1], kept, "one goes, one comes");
        let of = |own: u32| neighbours(id(own), (0..ALL).filter(|n| *n != own).map(id))[0];
        assert_eq!((of(7), of(ALL - 1)), (id(8), id(0)), "all together are a ring");
    }
}
