//! Gossip: which live members are replicas of this cluster, and which of them hold other facts.
//!
//! The membership layer carries names, addresses, tags and queries; all of it is treated as hints. A replica id that
//! a member announces is admitted; [`kvgossip_engine::survey`] decides whom to sync with.

mod company;
mod config;
mod contested;
mod discover;
mod double;
mod error;
mod foreign;
mod garbled;
mod handlers;
mod joining;
mod keyring;
mod listing;
mod manage;
mod messages;
mod neighbours;
mod roots;
mod rows;
mod rpc;
mod tags;
mod tags_file;
mod target;
mod task;

pub use config::{GossipConfig, default_name};
pub use discover::{Discover, ParseDiscoverError};
pub use error::GossipError;
pub use handlers::{EventHandler, MAX_HANDLERS, ParseHandlerError};
pub use joining::{Joined, Retry};
pub use keyring::{KeyringError, read_keyring};
pub use kvgossip_membership::driver::rpc::{Level, Logs, Options as RpcOptions};
pub use kvgossip_membership::rpc::{AuthKey, DEFAULT_PORT as DEFAULT_RPC_PORT};
pub use messages::MAX_ANSWERS;
pub use rpc::RpcConfig;
pub use tags_file::{TagsFileError, read_tags};
pub use target::{DEFAULT_GOSSIP_PORT, JoinTarget, ParseJoinError};

pub(crate) use company::LEFT_CODE;

use crate::address::Resolver;
use crate::metrics::{GossipSample, Metrics};
use crate::peers::{Directory, Peers};
use arc_swap::ArcSwapOption;
use company::Full;
use contested::Contested;
use double::Double;
use foreign::Foreign;
use garbled::Garbled;
use kvgossip_api::{GossipRow, MemberRow, MembersResponse};
use kvgossip_grants::ClusterId;
use kvgossip_membership::core::{QueueDepths, Stats};
use kvgossip_membership::{Member, Membership, Status, Text};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use task::Task;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Error texts of a join that ended with the connection closed and no answer.
const CLOSED: [&str; 2] = ["the connection was closed", "reset by peer"];

/// Maximum number of other members in one list of members.
const MAX_MEMBER_ROWS: usize = 2048;

/// Whether a recent join ended with the connection closed and no answer, as it does when keys or labels differ.
fn is_cut((why, at): &(String, Instant), now: Instant) -> bool {
    garbled::is_recent(*at, now) && CLOSED.iter().any(|words| why.contains(words))
}

/// The reason why this agent finds no other member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShutOut {
    /// Members cannot read the gossip that this agent sends, or this agent cannot read theirs.
    WrongKey,
    /// No member has answered: none of those to join, none that discovery looked for, and none remembered.
    NotJoined(Unjoined),
}

/// Failed attempts to join: why no member has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unjoined {
    pub(crate) why: String,
    /// Whether this agent was ever among other members.
    pub(crate) had_members: bool,
}

/// The agent's part in the gossip of its members. Clones share it.
#[derive(Clone)]
pub struct Gossip {
    inner: Arc<Inner>,
}

struct Inner {
    /// The gossip member; `None` once this agent has left.
    member: ArcSwapOption<Membership>,
    address: SocketAddr,
    encrypted: bool,
    cluster: ClusterId,
    directory: Arc<Directory>,
    peers: Peers,
    /// The state of a warning: another member announces this replica's id.
    double: Double,
    /// The state of a warning: two members share a name and a replica id.
    contested: Contested,
    /// The state of a warning: no more members are accepted.
    full: Full,
    /// The state of a warning: members of another cluster are present.
    foreign: Foreign,
    /// State of the detection of gossip that this agent cannot read.
    garbled: Garbled,
    /// Number of live members that are not replicas of this cluster.
    strangers: AtomicUsize,
    resolver: Resolver,
    /// Whether user events from before this member joined are delivered, too.
    replay: bool,
    /// Whether an earlier run left the gossip and this one is not configured to join anyone: then remembered members
    /// are not tried.
    left_before: bool,
    /// The member name that another member has, if gossip ended because of that; otherwise unset.
    lost: OnceLock<Text>,
    /// Whether this member is about to leave: then it dials no member, because a member that knows of the leave need
    /// not admit it.
    leaving: AtomicBool,
    /// Why no member has answered yet, and when that was found; `None`: a member has answered.
    unjoined: Mutex<Option<(String, Instant)>>,
    /// Whether this member was ever among other members.
    had_members: AtomicBool,
    /// The last sample of the counters, which stays visible after the agent has left.
    sample: Mutex<GossipSample>,
    /// Address of Serf's RPC; unset: RPC is not served.
    rpc: OnceLock<SocketAddr>,
    /// Number of failed rounds after which joining was given up, and the last failure.
    gave_up: OnceLock<(u32, String)>,
    /// Signals that the agent is to end: an RPC client made it leave, or joining was given up.
    told_to_end: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Gossip {
    /// Opens the gossip port and starts to join.
    pub(crate) async fn start(
        config: GossipConfig,
        cluster: ClusterId,
        peers: &Peers,
        (directory, resolver): (Arc<Directory>, Resolver),
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, GossipError> {
        config.check()?;
        let (encrypted, expects_others) = (config.keyring.is_some(), config.expects_others());
        if !encrypted && !config.is_loopback() {
            tracing::warn!(
                address = %config.bind, "gossip is not encrypted: whoever reaches this port can forge members"
            );
        }
        let advertise = config.advertised(&resolver).await?;
        let options = config.options(cluster, peers, advertise);
        let (member, events) = Membership::start(options).await.map_err(GossipError::Start)?;
        let left_before = !expects_others && member.has_left_before().await?;
        if left_before {
            tracing::warn!(code = company::LEFT_CODE, "{}", company::LEFT_BEFORE);
        }
        let inner = Inner {
            address: member.local_addr(),
            member: ArcSwapOption::from_pointee(member),
            encrypted,
            cluster,
            directory,
            peers: peers.clone(),
            double: Double::default(),
            contested: Contested::default(),
            full: Full::default(),
            foreign: Foreign::default(),
            garbled: Garbled::default(),
            strangers: AtomicUsize::new(0),
            resolver,
            replay: config.replay,
            left_before,
            lost: OnceLock::new(),
            leaving: AtomicBool::new(false),
            unjoined: Mutex::default(),
            had_members: AtomicBool::new(false),
            sample: Mutex::default(),
            rpc: OnceLock::new(),
            gave_up: OnceLock::new(),
            told_to_end: CancellationToken::new(),
            stop: stop.child_token(),
            tasks: tasks.clone(),
        };
        let gossip = Self { inner: Arc::new(inner) };
        if let Some(rpc) = config.rpc {
            let _ = gossip.inner.rpc.set(rpc::serve(&gossip, rpc, config.handlers.clone(), stop, tasks)?);
        }
        let task = Task::new(gossip.clone(), config.keyring_file, config.tags_file);
        gossip.spawn(task.run(events));
        for handler in config.handlers {
            // The handlers subscribe before this member meets any other.
            if let Some(listening) = handler.listen(&gossip).await {
                gossip.spawn(listening.serve(gossip.clone()));
            }
        }
        if !config.join.is_empty() {
            gossip.spawn(gossip.clone().keep_joining(config.join, config.retry));
        }
        if let Some(discover) = config.discover {
            discover.beside(config.bind).start(&gossip)?;
        }
        Ok(gossip)
    }

    /// Runs a task until the agent stops or leaves the gossip.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    fn metrics(&self) -> &Metrics {
        self.inner.peers.metrics()
    }

    fn member(&self) -> Result<Arc<Membership>, GossipError> {
        match (self.inner.member.load_full(), self.inner.lost.get()) {
            (Some(member), _) => Ok(member),
            (None, Some(name)) => Err(GossipError::NameLost(name.clone())),
            (None, None) => Err(GossipError::Left),
        }
    }

    /// Leaves the gossip, so that the other members do not take the agent's absence for a failure. The agent keeps
    /// serving; of the members, it stays connected with configured peers only.
    pub async fn leave(&self) -> Result<(), GossipError> {
        let member = self.member()?;
        self.inner.leaving.store(true, Ordering::Relaxed);
        self.inner.peers.set_neighbours(&BTreeSet::new());
        member.leave().await?;
        self.sample().await;
        drop(member);
        self.end();
        Ok(())
    }

    /// Ends this agent's part in gossip, after it has left or lost its name.
    fn end(&self) {
        self.inner.member.store(None);
        self.inner.stop.cancel();
        self.inner.directory.clear();
        self.inner.peers.set_neighbours(&BTreeSet::new());
        self.inner.peers.enforce_admission();
    }

    /// Returns the known members: this one first, then at most 2048 others by name. If there are more, those with a
    /// proved replica key, then live ones are preferred.
    pub async fn members(&self) -> Result<MembersResponse, GossipError> {
        let member = self.member()?;
        let own = member.local_member().await?;
        let mut others = member.members().await?;
        others.sort_by(|a, b| a.name.cmp(&b.name));
        let announcers = rows::announcers(&others, self.inner.cluster);
        let left_out = others.len().saturating_sub(MAX_MEMBER_ROWS);
        // If there are too many, members with a proved key come first, then live ones.
        let proved = |member: &Member| rows::is_connected(member, self.inner.cluster, &self.inner.peers);
        others.sort_by_cached_key(|member| (!proved(member), member.status != Status::Alive));
        others.truncate(MAX_MEMBER_ROWS);
        others.sort_by(|a, b| a.name.cmp(&b.name));
        let row =
            |member, local| rows::row(member, local, self.inner.cluster, &self.inner.peers, &announcers);
        let gossip = GossipRow {
            name: own.name.to_string(),
            address: self.inner.address.to_string(),
            encrypted: self.inner.encrypted,
        };
        let members: Vec<MemberRow> = std::iter::once(row(own, true))
            .chain(others.into_iter().map(|other| row(other, false)))
            .collect();
        Ok(MembersResponse { gossip: Some(gossip), members, left_out: left_out as u64, left: false })
    }

    /// Returns the address, UDP and TCP, at which the agent listens for gossip.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Returns the address of Serf's RPC; `None`: RPC is not served.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.inner.rpc.get().copied()
    }

    /// Waits until an RPC client makes the agent leave (`serf leave`, which ends Serf's agents, too), or joining is
    /// given up ([`Gossip::gave_up`]).
    pub async fn told_to_end(&self) {
        self.inner.told_to_end.cancelled().await;
    }

    /// Returns the counters of the membership layer since the start. They no longer change once the agent has left.
    pub async fn stats(&self) -> Stats {
        self.sample().await;
        self.last_sample().stats
    }

    /// Stores a sample of the counters and of the number of members per status.
    pub(crate) async fn sample(&self) {
        let sample = self.look().await;
        let mut last = self.inner.sample.lock();
        match sample {
            Some(sample) => {
                self.inner.garbled.look(&sample.stats, Instant::now());
                *last = sample;
            }
            None => (last.members, last.queues) = ([0; 5], QueueDepths::default()),
        }
    }

    pub(crate) fn last_sample(&self) -> GossipSample {
        self.inner.sample.lock().clone()
    }

    async fn look(&self) -> Option<GossipSample> {
        let member = self.member().ok()?;
        let (own, others) = (member.local_member().await.ok()?, member.members().await.ok()?);
        let mut members = [0; 5];
        for member in others.iter().chain([&own]) {
            let place = match member.status {
                Status::Alive if member.suspect => 1,
                Status::Alive => 0,
                Status::Leaving => 2,
                Status::Left => 3,
                Status::Failed => 4,
            };
            members[place] += 1;
        }
        let queues = member.queue_depths().await.ok()?;
        Some(GossipSample { stats: member.stats().await.ok()?, members, queues })
    }

    /// Returns why this agent finds no other member; `None`: the agent has left, or no failure is known. Call it when
    /// no other member is known.
    pub(crate) fn shut_out(&self) -> Option<ShutOut> {
        self.member().ok()?;
        let (unjoined, now) = (self.inner.unjoined.lock().clone(), Instant::now());
        if self.inner.garbled.is_now(now) || unjoined.as_ref().is_some_and(|found| is_cut(found, now)) {
            return Some(ShutOut::WrongKey);
        }
        let had_members = self.inner.had_members.load(Ordering::Relaxed);
        unjoined.map(|(why, _)| ShutOut::NotJoined(Unjoined { why, had_members }))
    }

    /// Returns why the last attempt to join failed, while this member is alone; otherwise `None`.
    pub(crate) fn unjoined(&self) -> Option<String> {
        self.inner.unjoined.lock().clone().map(|(why, _)| why)
    }

    /// Returns why gossip ended by itself: another member has this agent's name. `None`: it did not end by itself.
    pub fn failure(&self) -> Option<GossipError> {
        self.inner.lost.get().cloned().map(GossipError::NameLost)
    }

    /// Returns why joining was given up; `None`: it was not given up.
    pub fn gave_up(&self) -> Option<GossipError> {
        let (rounds, why) = self.inner.gave_up.get().cloned()?;
        Some(GossipError::GaveUp { rounds, why })
    }
}
