//! The task that processes gossip events and carries out the survey.

use super::keyring::write_keyring;
use super::listing::{Listing, Looks};
use super::neighbours::neighbours;
use super::roots::{QUERY, Roots};
use super::tags_file::write_tags;
use super::{Gossip, tags};
use crate::bucket::Bucket;
use crate::clock::Monotonic;
use crate::peers::random;
use kvgossip_engine::survey::{Action, Survey};
use kvgossip_grants::ReplicaId;
use kvgossip_membership::driver::{Answer, Answers};
use kvgossip_membership::{Event, Membership, Query, QueryParams, Status, Tags, Text};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Time for which changes of the membership are collected before the members are examined.
const GATHER: Duration = Duration::from_millis(50);
/// Interval at which the members are examined even without events.
const REFRESH: Duration = Duration::from_secs(5);
/// Maximum number of bytes of names in a query to a sample of members; a whole query has at most 1,024 bytes.
const MAX_NAME_BYTES: usize = 600;
/// Number of log lines about members, and of those about events, allowed in a burst: anyone who can send gossip can
/// cause them.
const LOG_BURST: u32 = 64;
/// Interval at which one more log line about members, and one about events, is allowed after a burst.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Capacity of the channel by which sessions that the survey requested report their end.
const SYNCED_BUFFER: usize = 64;

/// The end of a session requested by the survey: the peer, and whether the session took place.
type Synced = (ReplicaId, bool);

pub(super) struct Task {
    gossip: Gossip,
    keyring_file: Option<PathBuf>,
    tags_file: Option<PathBuf>,
    survey: Survey,
    clock: Monotonic,
    looks: Looks,
    /// Answers to this replica's query for root digests; `None`: no query is in progress.
    answers: Option<Answers>,
    synced: (mpsc::Sender<Synced>, mpsc::Receiver<Synced>),
    member_lines: Bucket,
    event_lines: Bucket,
}

impl Task {
    pub(super) fn new(gossip: Gossip, keyring_file: Option<PathBuf>, tags_file: Option<PathBuf>) -> Self {
        let clock = Monotonic::start();
        Self {
            gossip,
            keyring_file,
            tags_file,
            survey: Survey::new(random(), clock.now_us()),
            clock,
            looks: Looks::new(),
            answers: None,
            synced: mpsc::channel(SYNCED_BUFFER),
            member_lines: Bucket::new(LOG_BURST, LOG_INTERVAL, Duration::ZERO),
            event_lines: Bucket::new(LOG_BURST, LOG_INTERVAL, Duration::ZERO),
        }
    }

    /// Handles the events of gossip until the agent has left.
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
                    self.survey.synced(&id, talked, self.clock.now_us());
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
                | Event::KeyringChanged
                | Event::Lagged { .. }
                | Event::JoinFinished { error: None, .. }
        )
    }

    async fn on_event(&mut self, event: Event, member: &Arc<Membership>) {
        match event {
            Event::MemberJoined(other) => {
                if let Some(suppressed) = self.member_lines.take(self.now()) {
                    tracing::info!(name = other.name.to_string(), address = %other.addr, suppressed, "a member is there");
                }
                self.gossip.note_members();
            }
            Event::MemberFailed(other) => {
                if let Some(suppressed) = self.member_lines.take(self.now()) {
                    tracing::warn!(name = other.name.to_string(), address = %other.addr, suppressed, "a member has failed");
                }
            }
            Event::MemberLeft(other) => {
                if let Some(suppressed) = self.member_lines.take(self.now()) {
                    tracing::info!(name = other.name.to_string(), address = %other.addr, suppressed, "a member has left");
                }
            }
            Event::JoinFinished { error: None, .. } => self.survey.joined(self.clock.now_us()),
            Event::RejoinFailed { tried, rounds } => self.rejoin_failed(tried, rounds),
            Event::Query(query) if query.name == QUERY => self.on_question(&query, member).await,
            Event::UserEvent { name, payload, .. } => {
                if let Some(suppressed) = self.event_lines.take(self.now()) {
                    tracing::info!(
                        name = name.to_string(),
                        bytes = payload.len(),
                        suppressed,
                        "a user event"
                    );
                }
            }
            Event::NameConflict { name, other, tags } => {
                if let Some(suppressed) = self.member_lines.take(self.now()) {
                    tracing::warn!(name = name.to_string(), %other, suppressed, "another member uses a name that is taken");
                }
                self.name_contested(&name, other, &tags, member).await;
            }
            Event::NameClaimed { other } => self.name_claimed(other, member).await,
            Event::NameLost => self.name_lost(member).await,
            Event::KeyringChanged => self.store_keyring(member).await,
            Event::TagsChanged => self.store_tags(member).await,
            Event::Lagged { dropped } => tracing::debug!(dropped, "events of the membership were lost"),
            _ => {}
        }
    }

    /// Logs that no remembered member has answered, at rounds that are powers of two.
    fn rejoin_failed(&self, tried: usize, rounds: u32) {
        if rounds.is_power_of_two() {
            tracing::warn!(tried, rounds, "none of the members that this agent remembers answers, trying on");
        }
        self.gossip.note_unremembered(tried);
    }

    /// Handles a name of another member that a second member uses.
    async fn name_contested(&self, name: &Text, other: SocketAddr, tags: &Tags, member: &Membership) {
        let Ok(Some(known)) = member.member(name).await else { return };
        let cluster = self.gossip.inner.cluster;
        let [first, second] = [&known.tags, tags].map(|tags| tags::read(tags, cluster).map(|(id, _)| id));
        if let Some(id) = first.filter(|id| Some(*id) == second) {
            self.gossip.inner.contested.claimed(id, name, known.addr, other, self.now());
        }
    }

    /// Handles the use of this member's name by another running member.
    async fn name_claimed(&self, other: SocketAddr, member: &Membership) {
        let Ok(own) = member.local_member().await else { return };
        self.gossip.inner.contested.claimed_own(self.gossip.inner.peers.id(), &own.name, other, self.now());
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.clock.now_us())
    }

    async fn name_lost(&self, member: &Arc<Membership>) {
        let name = member.local_member().await.map(|own| own.name).unwrap_or_default();
        tracing::error!(
            name = name.to_string(),
            "another member has this name: this agent takes no part in gossip any more"
        );
        // Sampled before the end, so that the counters stay visible.
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

    async fn store_tags(&self, member: &Membership) {
        let (Some(path), Ok(own)) = (self.tags_file.clone(), member.local_member().await) else { return };
        let shown = path.clone();
        match tokio::task::spawn_blocking(move || write_tags(&path, own.tags)).await {
            Ok(Ok(())) => tracing::info!(path = %shown.display(), "the tags were changed and stored"),
            Ok(Err(error)) => {
                tracing::error!(path = %shown.display(), %error, "the changed tags cannot be stored")
            }
            Err(_) => {}
        }
    }

    /// Examines all members, and passes the results to the warnings, the directory, the survey and the peers.
    async fn refresh(&mut self, member: &Membership) {
        let Ok(members) = member.members().await else { return };
        let (own, cluster) = (self.gossip.inner.peers.id(), self.gossip.inner.cluster);
        if let Ok(stats) = member.stats().await {
            self.gossip.inner.full.look(stats.full, Instant::now());
            self.gossip.inner.garbled.look(&stats, Instant::now());
        }
        let now = self.now();
        self.gossip.inner.contested.look(&members, now);
        let listing = Listing::of(members, own, cluster, &self.looks, now);
        let departed = listing.departed(&self.looks);
        self.gossip.inner.double.look(listing.double, now);
        self.gossip.inner.foreign.look(listing.foreign);
        self.gossip.inner.strangers.store(listing.strangers, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.looks, listing.looks);
        let live = listing.replicas.iter().filter(|(_, replica)| replica.live).map(|(id, _)| *id);
        let neighbours: BTreeSet<ReplicaId> = neighbours(own, live).into_iter().collect();
        self.gossip.inner.directory.set(listing.replicas);
        self.tell_survey(&before);
        if !self.gossip.inner.leaving.load(Ordering::Relaxed) {
            self.gossip.inner.peers.set_neighbours(&neighbours);
        }
        self.gossip.inner.peers.close_departed(&departed);
    }

    fn tell_survey(&mut self, before: &Looks) {
        let now = self.clock.now_us();
        for (name, look) in &self.looks {
            let earlier = before.get(name).filter(|before| before.id == look.id).map(|before| before.status);
            match (earlier, look.status) {
                (Some(Status::Alive), Status::Alive) => {}
                (Some(Status::Failed | Status::Left), Status::Alive) => {
                    self.survey.member_returned(look.id, now);
                }
                (_, Status::Alive) => self.survey.member_up(look.id, now),
                _ => {}
            }
        }
        for look in before.values().filter(|look| look.status == Status::Alive) {
            if !self.gossip.inner.directory.is_live(&look.id) {
                self.survey.member_down(&look.id, now);
            }
        }
    }

    /// Carries out the actions that the survey asks for: queries to members, and sessions with replicas.
    async fn act(&mut self, member: &Arc<Membership>) {
        if self.gossip.inner.leaving.load(Ordering::Relaxed) {
            return;
        }
        let peers = self.gossip.inner.peers.clone();
        let root = peers.root();
        let connected = |id: &ReplicaId| peers.connection(id).is_some();
        while let Some(action) = self.survey.poll(&root, connected, self.clock.now_us()) {
            match action {
                Action::Ask(sample) => self.ask(sample, member).await,
                Action::Sync(id) => self.sync(id),
            }
        }
    }

    async fn ask(&mut self, sample: Option<Vec<ReplicaId>>, member: &Membership) {
        let (peers, cluster) = (&self.gossip.inner.peers, self.gossip.inner.cluster);
        let question = Roots { replica: peers.id(), root: peers.root() }.encode(cluster);
        let mut params = QueryParams::default();
        match sample {
            Some(sample) => params.nodes = self.names(&sample),
            None => {
                let expr = format!("^{}$", tags::cluster_text(cluster));
                params.tags = vec![(tags::CLUSTER.into(), expr.into())];
            }
        }
        match member.query(QUERY, &question, params).await {
            Ok(answers) => {
                peers.metrics().survey();
                self.answers = Some(answers);
            }
            Err(error) => {
                tracing::debug!("the others cannot be asked for their roots, it is tried again: {error}");
                self.survey.not_asked(self.clock.now_us());
            }
        }
    }

    /// Returns the names of members that announce these replicas, as many as fit into a query.
    fn names(&self, sample: &[ReplicaId]) -> Vec<Text> {
        let replicas = self.gossip.inner.directory.replicas();
        let mut room = MAX_NAME_BYTES;
        // All members that announce one of them are asked, since it is not known which one is right.
        let sampled = sample.iter().filter_map(|id| replicas.get(id));
        let names = sampled.flat_map(|replica| &replica.announced).map(|announced| &announced.name);
        let fits = names.take_while(|name| {
            // The length prefix takes up to three bytes.
            let fits = name.len() + 3 <= room;
            room = room.saturating_sub(name.len() + 3);
            fits
        });
        fits.cloned().collect()
    }

    fn sync(&self, id: ReplicaId) {
        let peers = self.gossip.inner.peers.clone();
        let synced = self.synced.0.clone();
        self.gossip.spawn(async move {
            let talked = peers.sync_member(id).await;
            // The receiver is gone once the agent leaves.
            let _ = synced.send((id, talked)).await;
        });
    }

    /// Answers a query for root digests, if this replica's root digest differs from that of the asking replica.
    async fn on_question(&mut self, query: &Query, member: &Membership) {
        let (peers, cluster) = (&self.gossip.inner.peers, self.gossip.inner.cluster);
        let Some(asked) = Roots::decode(&query.payload, cluster) else { return };
        if asked.replica == peers.id() {
            return;
        }
        let own = peers.root();
        peers.heard_root(asked.replica, &query.source, asked.root);
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
        // A member answers only for the replica that it announces. This is still a hint: others may announce that
        // replica, too.
        let Some(announced) = self.gossip.inner.directory.announcement(&told.replica, &from) else {
            return;
        };
        peers.heard_root(told.replica, &from, told.root);
        peers.metrics().survey_answer();
        let connected = peers.connection(&told.replica).map(|connection| connection.rtt());
        let rtt = match connected.or(announced.rtt) {
            Some(rtt) => Some(rtt),
            None => member.estimated_rtt(&from).await.ok().flatten(),
        };
        let rtt_us = rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
        self.survey.answered(told.replica, told.root, rtt_us, &peers.root(), now);
    }
}

/// Returns the next answer to the query in progress; never completes while no query is in progress.
async fn next(answers: &mut Option<Answers>) -> Option<Answer> {
    match answers {
        Some(answers) => answers.next().await,
        None => std::future::pending().await,
    }
}
