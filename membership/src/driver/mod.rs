//! Member on real sockets: a thin tokio driver around the [`core`](crate::core).
//!
//! One task owns the core, the UDP socket and the TCP listener; each TCP connection has a small task of its
//! own. All queues are bounded:
//!
//! * Events wait in a channel of [`Options::event_capacity`]. If the application does not keep up, the newest events
//!   are dropped; once there is room again, [`Event::Lagged`] reports their number. The member list
//!   ([`Membership::members`]) is always current.
//! * Further subscribers ([`Membership::subscribe`]) have a queue of their own each, which works alike.
//! * Answers to a query wait in a channel of [`QUERY_CAPACITY`]; further ones are dropped.
//! * The driver waits until the system accepts a datagram. The core limits the number and duration of TCP
//!   connections.

mod actor;
mod failures;
mod feed;
pub mod rpc;
mod snapshot;
mod stream;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use rand::{TryRng, rngs::SysRng};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{mpsc, oneshot},
};

use crate::{
    core::{
        CommandError, Config, ConfigError, Coordinate, Core, Event, KeyChange, LamportTimes, Limits, Member,
        Query, QueryId, QueryParams, QueueDepths, Snapshot, Stats, Timing,
    },
    rpc::Coalesced,
    wire::{Framing, Text, serf::Tags},
};
pub use failures::some_of;

use actor::{Actor, Command};

/// Number of answers to one query that wait for its receiver; further ones are dropped.
pub const QUERY_CAPACITY: usize = 1024;
/// Maximum number of subscribers of a member besides the application, merged and unmerged together.
pub const MAX_SUBSCRIBERS: usize = 4096;
/// Capacity of the channel for commands to the driver; further callers wait.
const COMMAND_CAPACITY: usize = 256;
/// Maximum number of attempts to find a port that is free for both UDP and TCP, when the system chooses it.
const PORT_ATTEMPTS: usize = 16;

/// Link between this member and an address, for one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// UDP from and to this address.
    Udp(SocketAddr),
    /// TCP from or to this address; an accepted connection's address has an arbitrary port.
    Tcp(SocketAddr),
}

/// Filter for fault injection in tests: returns `true` if a link works.
pub type LinkFilter = Arc<dyn Fn(Link) -> bool + Send + Sync>;

/// Options of a member on sockets.
#[derive(Clone)]
pub struct Options {
    /// Name of the member, unique in the cluster.
    pub name: Text,
    /// Address to listen on, for UDP and TCP. Port 0 selects a free one.
    pub bind: SocketAddr,
    /// Address advertised to other members; `None` is the bound address. Port 0 is replaced by the bound port.
    pub advertise: Option<SocketAddr>,
    /// Tags of this member, visible to all members; at most 512 bytes when encoded.
    pub tags: Tags,
    /// Cluster label, encryption keys and compression of packets and streams.
    pub framing: Framing,
    /// Networks to which members' addresses, this one's included, must belong; empty allows any address.
    pub allowed: Vec<IpNet>,
    /// Intervals, timeouts and multipliers of probing, gossip and state exchanges.
    pub timing: Timing,
    /// Maximum sizes of events, queries and responses.
    pub limits: Limits,
    /// Path of the snapshot file, with which a restarted member rejoins and skips old events; `None` keeps none.
    pub snapshot: Option<PathBuf>,
    /// Whether the member rejoins the members in its snapshot although it had left the cluster before it ended.
    pub rejoin_after_leave: bool,
    /// Number of events that wait for the application; further ones are dropped: see [`Event::Lagged`].
    pub event_capacity: usize,
    /// Fault injection in tests; `None` lets all datagrams and connections pass.
    pub link_filter: Option<LinkFilter>,
}

impl Options {
    /// Creates options with the defaults of a Serf agent in a local network.
    pub fn new(name: impl Into<Text>, bind: SocketAddr) -> Self {
        let Config { name, tags, framing, timing, limits, .. } = Config::new(name, bind);
        Self {
            name,
            bind,
            advertise: None,
            tags,
            framing,
            allowed: Vec::new(),
            timing,
            limits,
            snapshot: None,
            rejoin_after_leave: false,
            event_capacity: 4096,
            link_filter: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("name", &self.name).field("bind", &self.bind).finish_non_exhaustive()
    }
}

/// Error of a member on sockets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The UDP and TCP sockets could not be opened.
    #[error("cannot listen at {addr}: {source}")]
    Bind {
        /// Address to listen on.
        addr: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The snapshot file could not be read.
    #[error("cannot read the snapshot {path:?}: {source}")]
    Snapshot {
        /// Path of the snapshot file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The options of the member are invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The member's core rejected the command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// No member could be joined: each address that was tried, with its error.
    #[error("cannot join: {}", some_of(.0.iter().map(|(addr, e)| format!("{addr}: {e}"))))]
    Join(Vec<(SocketAddr, String)>),
    /// The system's random number generator failed, so the member has no secret seed.
    #[error("the system gives no randomness")]
    Randomness,
    /// The member's task has ended.
    #[error("the member has stopped")]
    Stopped,
}

/// Handle of a running member. Clones refer to the same member; it stops when the last one is dropped, without
/// leaving the cluster: see [`Membership::leave`].
#[derive(Debug, Clone)]
pub struct Membership {
    commands: mpsc::Sender<Command>,
    addr: SocketAddr,
}

impl Membership {
    /// Opens the sockets and starts the member, alone or rejoining the members of its snapshot. Events arrive
    /// on the receiver; the [module](self) describes what happens if it is not read.
    pub async fn start(options: Options) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let restore = match &options.snapshot {
            Some(path) => snapshot::read(path).await?,
            None => None,
        };
        let (udp, tcp, bound) = bind(options.bind).await?;
        let advertise = options.advertise.map_or(bound, |told| {
            // Without a port, the bound port is used.
            SocketAddr::new(told.ip(), if told.port() == 0 { bound.port() } else { told.port() })
        });
        if options.framing.keyring.is_none() && !advertise.ip().is_loopback() {
            tracing::warn!(%advertise, "gossip is not encrypted: whoever reaches this port can forge members");
        }
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).map_err(|_| Error::Randomness)?;
        let config = Config {
            tags: options.tags.clone(),
            framing: options.framing.clone(),
            allowed: options.allowed.clone(),
            timing: options.timing.clone(),
            limits: options.limits,
            restore,
            rejoin_after_leave: options.rejoin_after_leave,
            ..Config::new(options.name.clone(), advertise)
        };
        let core = Core::new(config, Duration::ZERO, seed)?;
        let (commands, command_receiver) = mpsc::channel(COMMAND_CAPACITY);
        let (events, event_receiver) = mpsc::channel(options.event_capacity.max(1));
        let actor = Actor::new(core, udp, events, &options);
        tokio::spawn(actor.run(tcp, command_receiver));
        Ok((Self { commands, addr: bound }, event_receiver))
    }

    /// Address that the member listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs `act` in the member's task, and returns its result; fails if the member has stopped.
    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Actor) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let command: Command = Box::new(move |actor| {
            // The caller may have given up.
            let _ = sender.send(act(actor));
        });
        self.commands.send(command).await.map_err(|_| Error::Stopped)?;
        receiver.await.map_err(|_| Error::Stopped)
    }

    /// Contacts members to learn about all others. Returns the number that answered; fails if none did. With
    /// `ignore_old`, events from before the join are not reported, as described for [`Core::join`].
    pub async fn join(&self, addrs: &[SocketAddr], ignore_old: bool) -> Result<usize, Error> {
        let mut waiting = Vec::new();
        for addr in addrs.iter().copied() {
            let receiver = self.with(move |actor| actor.join(addr, ignore_old)).await??;
            waiting.push((addr, receiver));
        }
        let mut errors = Vec::new();
        for (addr, receiver) in waiting {
            match receiver.await {
                Ok(None) => {}
                Ok(Some(error)) => errors.push((addr, error)),
                Err(_) => return Err(Error::Stopped),
            }
        }
        let joined = addrs.len() - errors.len();
        if joined == 0 { Err(Error::Join(errors)) } else { Ok(joined) }
    }

    /// Leaves the cluster, so that other members do not count this one as failed. Returns once they had time to
    /// receive the news. The member keeps answering until it is dropped.
    pub async fn leave(&self) -> Result<(), Error> {
        let receiver = self.with(Actor::leave).await?;
        receiver.await.map_err(|_| Error::Stopped)
    }

    /// Declares that a failed member has left; with `prune`, every member also forgets it at once.
    pub async fn force_leave(&self, name: impl AsRef<[u8]>, prune: bool) -> Result<(), Error> {
        let name = Text::from(name.as_ref());
        Ok(self.with(move |actor| actor.with_core(|core, now| core.force_leave(now, &name, prune))).await??)
    }

    /// Replaces all tags of this member. Fails if they exceed 512 bytes when encoded.
    pub async fn set_tags(&self, tags: Tags) -> Result<(), Error> {
        Ok(self.with(move |actor| actor.with_core(|core, _| core.set_tags(tags))).await??)
    }

    /// Sets some of this member's tags, deletes those named in `delete`, and keeps the remaining ones.
    pub async fn update_tags(&self, set: Tags, delete: Vec<Text>) -> Result<(), Error> {
        Ok(self.with(move |actor| actor.with_core(|core, _| core.update_tags(set, &delete))).await??)
    }

    /// Subscribes to the events that `wants` accepts, from now on, in addition to the application. At most
    /// `capacity` events wait; further ones are dropped and reported by [`Event::Lagged`]. Dropping the
    /// receiver unsubscribes.
    pub async fn subscribe(
        &self,
        capacity: usize,
        wants: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<Event>, Error> {
        Ok(self.with(move |actor| actor.subscribe(capacity, Box::new(wants))).await??)
    }

    /// Like [`Membership::subscribe`], but with events merged as Serf's agents do: see [`Coalesced`].
    pub async fn subscribe_coalesced(
        &self,
        capacity: usize,
        wants: impl Fn(&Coalesced) -> bool + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<Coalesced>, Error> {
        Ok(self.with(move |actor| actor.subscribe_merged(capacity, Box::new(wants))).await??)
    }

    /// Sends an event to all members, this one included. Both the name and payload together, and the encoded
    /// message, are limited by [`Limits`].
    pub async fn user_event(
        &self,
        name: impl AsRef<[u8]>,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<(), Error> {
        let (name, payload) = (Text::from(name.as_ref()), payload.to_vec());
        let act =
            move |actor: &mut Actor| actor.with_core(|core, _| core.user_event(&name, &payload, coalesce));
        Ok(self.with(act).await??)
    }

    /// Sends a query to the members selected by `params`, and returns a receiver of their answers.
    pub async fn query(
        &self,
        name: impl AsRef<[u8]>,
        payload: &[u8],
        params: QueryParams,
    ) -> Result<Answers, Error> {
        let (name, payload) = (Text::from(name.as_ref()), payload.to_vec());
        Ok(self
            .with(move |actor| actor.query(|core, now| core.query(now, &name, &payload, &params)))
            .await??)
    }

    /// Asks all members, this one included, to change their keyrings.
    pub async fn change_keys(&self, change: KeyChange) -> Result<Answers, Error> {
        Ok(self.with(move |actor| actor.query(|core, now| core.key_query(now, change))).await??)
    }

    /// Asks all members, this one included, for their keys; each answers with a
    /// [`KeyResponse`](crate::wire::serf::KeyResponse).
    pub async fn list_keys(&self) -> Result<Answers, Error> {
        Ok(self.with(|actor| actor.query(Core::list_keys_query)).await??)
    }

    /// Responds to a query received as [`Event::Query`], until the query's deadline.
    pub async fn respond(&self, query: &Query, payload: &[u8]) -> Result<(), Error> {
        let (query, payload) = (query.clone(), payload.to_vec());
        Ok(self.with(move |actor| actor.with_core(|core, now| core.respond(now, &query, &payload))).await??)
    }

    /// Returns all known members except this one, in no particular order, including failed and departed ones.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        self.with(|actor| actor.with_core(|core, _| core.members().collect())).await
    }

    /// Returns a member other than this one by its name; `None` if it is unknown.
    pub async fn member(&self, name: impl AsRef<[u8]>) -> Result<Option<Member>, Error> {
        let name = Text::from(name.as_ref());
        self.with(move |actor| actor.with_core(|core, _| core.member(&name))).await
    }

    /// Estimated round-trip time to another member; `None` until it has answered a probe of this one.
    pub async fn estimated_rtt(&self, name: impl AsRef<[u8]>) -> Result<Option<Duration>, Error> {
        let name = Text::from(name.as_ref());
        self.with(move |actor| actor.with_core(|core, _| core.estimated_rtt(&name))).await
    }

    /// Network coordinate of any member; `None` until the member has answered a probe of this one.
    pub async fn coordinate_of(&self, name: impl AsRef<[u8]>) -> Result<Option<Coordinate>, Error> {
        let name = Text::from(name.as_ref());
        self.with(move |actor| actor.with_core(|core, _| core.coordinate_of(&name))).await
    }

    /// Number of members that are alive or suspected, this one included.
    pub async fn alive_count(&self) -> Result<usize, Error> {
        self.with(|actor| actor.with_core(|core, _| core.alive_count())).await
    }

    /// Returns this member's properties as other members see them.
    pub async fn local_member(&self) -> Result<Member, Error> {
        self.with(|actor| actor.with_core(|core, _| core.local_member())).await
    }

    /// Counters of this member since its start.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.with(|actor| actor.stats()).await
    }

    /// Number of broadcasts and long messages that wait to be sent, by kind.
    pub async fn queue_depths(&self) -> Result<QueueDepths, Error> {
        self.with(|actor| actor.with_core(|core, _| core.queue_depths())).await
    }

    /// Lifeguard's local health score, from 0 (healthy) to 7.
    pub async fn health_score(&self) -> Result<u32, Error> {
        self.with(|actor| actor.with_core(|core, _| core.health_score())).await
    }

    /// Current framing: label, keys and compression, including changes by key queries.
    pub async fn framing(&self) -> Result<Framing, Error> {
        self.with(|actor| actor.with_core(|core, _| core.framing().clone())).await
    }

    /// Lamport times that the next join or leave, user event and query of this member will have.
    pub async fn lamport_times(&self) -> Result<LamportTimes, Error> {
        self.with(|actor| actor.with_core(|core, _| core.lamport_times())).await
    }

    /// Returns whether an earlier run was in a cluster with other members, and did not leave it for good.
    pub async fn came_back(&self) -> Result<bool, Error> {
        self.with(|actor| actor.with_core(|core, _| core.came_back())).await
    }

    /// Returns whether an earlier run left its cluster, and this run neither rejoins it nor has met any member.
    pub async fn has_left_before(&self) -> Result<bool, Error> {
        self.with(|actor| actor.with_core(|core, _| core.has_left_before())).await
    }

    /// Returns the state that a later run of this member needs.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.with(|actor| actor.with_core(|core, _| core.snapshot())).await
    }
}

/// Answer of one member to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This member acknowledged the query; it may still respond.
    Ack(Text),
    /// A member responded to the query.
    Response {
        /// Name of the member that responded.
        from: Text,
        /// Payload of the response.
        payload: Vec<u8>,
    },
}

/// Receiver of the answers to a query.
#[derive(Debug)]
pub struct Answers {
    id: QueryId,
    receiver: mpsc::Receiver<Answer>,
}

impl Answers {
    /// Id of the query that is answered.
    pub fn id(&self) -> QueryId {
        self.id
    }

    /// Waits for the next answer; `None` when the query has ended and all answers have been taken.
    pub async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

/// Opens a UDP and a TCP socket on one port. Returns them with their address; port 0 selects a free port.
async fn bind(addr: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { addr, source };
    let mut attempt = 0;
    loop {
        attempt += 1;
        let tcp = TcpListener::bind(addr).await.map_err(failed)?;
        let bound = tcp.local_addr().map_err(failed)?;
        match UdpSocket::bind(bound).await {
            Ok(udp) => return Ok((udp, tcp, bound)),
            // A port that is free for TCP need not be free for UDP.
            Err(_) if addr.port() == 0 && attempt < PORT_ATTEMPTS => {}
            Err(source) => return Err(failed(source)),
        }
    }
}
