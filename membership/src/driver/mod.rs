//! The member on real sockets: a thin tokio driver around the [`core`](crate::core).
//!
//! One task owns the core, the UDP socket and the TCP listener; each TCP connection has a small task of its
//! own. All queues are bounded:
//!
//! * Events wait in a channel of [`Options::event_capacity`]. When the application does not keep up, the
//!   newest events are thrown away; as soon as there is room again, [`Event::Lagged`] says how many. The
//!   list of members ([`Membership::members`]) is always current.
//! * Others may listen, too ([`Membership::subscribe`]), each with a queue of their own that works alike.
//! * Answers to a query wait in a channel of [`QUERY_CAPACITY`]; more are thrown away.
//! * Datagrams that the system does not take at once are waited for; TCP connections are bounded in number
//!   and time by the core.

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

/// Answers to one query that wait for the application.
pub const QUERY_CAPACITY: usize = 1024;
/// Most receivers of events beside the application.
pub const MAX_SUBSCRIBERS: usize = 4096;
/// Commands that wait for the driver.
const COMMAND_CAPACITY: usize = 256;
/// How often a port is looked for that is free for UDP and TCP.
const PORT_ATTEMPTS: usize = 16;

/// One way by which this member and an address exchange something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Datagrams, in either direction.
    Udp(SocketAddr),
    /// Connections, in either direction; the address of one that was accepted has any port.
    Tcp(SocketAddr),
}

/// Decides whether a link works: `true` for yes. For fault injection in tests.
pub type LinkFilter = Arc<dyn Fn(Link) -> bool + Send + Sync>;

/// What a member on sockets is told at its start.
#[derive(Clone)]
pub struct Options {
    /// The member's name, unique in the cluster.
    pub name: Text,
    /// Where to listen, UDP and TCP. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// The address that others are told, when it is not the one to listen at. Port 0 is the port that is listened at.
    pub advertise: Option<SocketAddr>,
    /// What others can see of this member.
    pub tags: Tags,
    /// Label, keys and compression.
    pub framing: Framing,
    /// Networks that members' addresses must belong to. Empty: any address is allowed.
    pub allowed: Vec<IpNet>,
    /// How fast everything goes.
    pub timing: Timing,
    /// How long events, queries and answers may be.
    pub limits: Limits,
    /// A file that lets the member rejoin after a restart, without hearing old events again.
    pub snapshot: Option<PathBuf>,
    /// Whether the member rejoins although it has left before it ended.
    pub rejoin_after_leave: bool,
    /// Events that wait for the application.
    pub event_capacity: usize,
    /// For fault injection in tests; everything passes without.
    pub link_filter: Option<LinkFilter>,
}

impl Options {
    /// The defaults of a Serf agent in a local network.
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

/// Why a member does not do what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sockets could not be opened.
    #[error("cannot listen at {addr}: {source}")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The snapshot file could not be read.
    #[error("cannot read the snapshot {path:?}: {source}")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The options make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The command was refused.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Nobody could be joined.
    #[error("cannot join: {}", some_of(.0.iter().map(|(addr, e)| format!("{addr}: {e}"))))]
    Join(Vec<(SocketAddr, String)>),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
    /// The member was stopped.
    #[error("the member has stopped")]
    Stopped,
}

/// A running member. Clones speak for the same member; it stops when the last is dropped, without leaving
/// the cluster: see [`Membership::leave`].
#[derive(Debug, Clone)]
pub struct Membership {
    commands: mpsc::Sender<Command>,
    addr: SocketAddr,
}

impl Membership {
    /// Opens the sockets and starts the member, alone or back among those of its snapshot. Events come
    /// through the receiver; see the [module](self) for what happens when it is not read.
    pub async fn start(options: Options) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let restore = match &options.snapshot {
            Some(path) => snapshot::read(path).await?,
            None => None,
        };
        let (udp, tcp, bound) = bind(options.bind).await?;
        let advertise = options.advertise.map_or(bound, |told| {
            // Without a port it is the one that was bound.
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

    /// Where the member listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs `act` in the member's task.
    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Actor) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let command: Command = Box::new(move |actor| {
            // Whoever asked may have given up.
            let _ = sender.send(act(actor));
        });
        self.commands.send(command).await.map_err(|_| Error::Stopped)?;
        receiver.await.map_err(|_| Error::Stopped)
    }

    /// Contacts members, to learn of all others. Returns how many answered; an error when none did. With
    /// `ignore_old`, events from before the join are not reported, as [`Core::join`] has it.
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

    /// Leaves the cluster, so that the others know that it is no failure; returns when they had the time to
    /// hear of it. The member keeps answering until it is dropped.
    pub async fn leave(&self) -> Result<(), Error> {
        let receiver = self.with(Actor::leave).await?;
        receiver.await.map_err(|_| Error::Stopped)
    }

    /// Declares that a failed member has left; with `prune` it is forgotten at once.
    pub async fn force_leave(&self, name: impl AsRef<[u8]>, prune: bool) -> Result<(), Error> {
        let name = Text::from(name.as_ref());
        Ok(self.with(move |actor| actor.with_core(|core, now| core.force_leave(now, &name, prune))).await??)
    }

    /// Replaces this member's tags.
    pub async fn set_tags(&self, tags: Tags) -> Result<(), Error> {
        Ok(self.with(move |actor| actor.with_core(|core, _| core.set_tags(tags))).await??)
    }

    /// Changes some of this member's tags, and takes others away.
    pub async fn update_tags(&self, set: Tags, delete: Vec<Text>) -> Result<(), Error> {
        Ok(self.with(move |actor| actor.with_core(|core, _| core.update_tags(set, &delete))).await??)
    }

    /// The events that `wants` takes, from now on, for somebody else than the application. At most `capacity` wait; of
    /// those that are thrown away then [`Event::Lagged`] tells. It ends when the receiver is dropped.
    pub async fn subscribe(
        &self,
        capacity: usize,
        wants: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<Event>, Error> {
        Ok(self.with(move |actor| actor.subscribe(capacity, Box::new(wants))).await??)
    }

    /// Like [`Membership::subscribe`], with events merged as Serf's agents merge them: see [`Coalesced`].
    pub async fn subscribe_coalesced(
        &self,
        capacity: usize,
        wants: impl Fn(&Coalesced) -> bool + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<Coalesced>, Error> {
        Ok(self.with(move |actor| actor.subscribe_merged(capacity, Box::new(wants))).await??)
    }

    /// Sends an event to all members, this one included; name and payload together have at most as many bytes as
    /// [`Limits`] say, and so has the message that carries them.
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

    /// Asks all members that `params` name; answers come through what is returned.
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

    /// Asks all members to change their keyrings, this one included.
    pub async fn change_keys(&self, change: KeyChange) -> Result<Answers, Error> {
        Ok(self.with(move |actor| actor.query(|core, now| core.key_query(now, change))).await??)
    }

    /// Asks all members which keys they have, this one included; each answers with a
    /// [`KeyResponse`](crate::wire::serf::KeyResponse).
    pub async fn list_keys(&self) -> Result<Answers, Error> {
        Ok(self.with(|actor| actor.query(Core::list_keys_query)).await??)
    }

    /// Answers a query that came as [`Event::Query`].
    pub async fn respond(&self, query: &Query, payload: &[u8]) -> Result<(), Error> {
        let (query, payload) = (query.clone(), payload.to_vec());
        Ok(self.with(move |actor| actor.with_core(|core, now| core.respond(now, &query, &payload))).await??)
    }

    /// All other members that are known, in no particular order.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        self.with(|actor| actor.with_core(|core, _| core.members().collect())).await
    }

    /// What is known of another member.
    pub async fn member(&self, name: impl AsRef<[u8]>) -> Result<Option<Member>, Error> {
        let name = Text::from(name.as_ref());
        self.with(move |actor| actor.with_core(|core, _| core.member(&name))).await
    }

    /// The round trip to another member, estimated from both members' places in the network.
    pub async fn estimated_rtt(&self, name: impl AsRef<[u8]>) -> Result<Option<Duration>, Error> {
        let name = Text::from(name.as_ref());
        self.with(move |actor| actor.with_core(|core, _| core.estimated_rtt(&name))).await
    }

    /// The place of a member in the network, this one included, if it is known.
    pub async fn coordinate_of(&self, name: impl AsRef<[u8]>) -> Result<Option<Coordinate>, Error> {
        let name = Text::from(name.as_ref());
        self.with(move |actor| actor.with_core(|core, _| core.coordinate_of(&name))).await
    }

    /// The number of members that are alive or suspected, this one included.
    pub async fn alive_count(&self) -> Result<usize, Error> {
        self.with(|actor| actor.with_core(|core, _| core.alive_count())).await
    }

    /// This member, as others see it.
    pub async fn local_member(&self) -> Result<Member, Error> {
        self.with(|actor| actor.with_core(|core, _| core.local_member())).await
    }

    /// Counters since the start.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.with(|actor| actor.stats()).await
    }

    /// How many broadcasts wait to be sent.
    pub async fn queue_depths(&self) -> Result<QueueDepths, Error> {
        self.with(|actor| actor.with_core(|core, _| core.queue_depths())).await
    }

    /// How much this member doubts its own health, from 0 (not at all) to 7.
    pub async fn health_score(&self) -> Result<u32, Error> {
        self.with(|actor| actor.with_core(|core, _| core.health_score())).await
    }

    /// Label, keys and compression, with the changes that key queries made.
    pub async fn framing(&self) -> Result<Framing, Error> {
        self.with(|actor| actor.with_core(|core, _| core.framing().clone())).await
    }

    /// The times of the next messages.
    pub async fn lamport_times(&self) -> Result<LamportTimes, Error> {
        self.with(|actor| actor.with_core(|core, _| core.lamport_times())).await
    }

    /// Whether an earlier life was among others, and did not end by leaving them for good.
    pub async fn came_back(&self) -> Result<bool, Error> {
        self.with(|actor| actor.with_core(|core, _| core.came_back())).await
    }

    /// Whether an earlier life has left its members, and this one neither tries them nor has met anybody.
    pub async fn has_left_before(&self) -> Result<bool, Error> {
        self.with(|actor| actor.with_core(|core, _| core.has_left_before())).await
    }

    /// What a later life of this member should know.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.with(|actor| actor.with_core(|core, _| core.snapshot())).await
    }
}

/// One answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A member has heard the query.
    Ack(Text),
    /// A member answers.
    Response {
        /// The member.
        from: Text,
        /// Its answer.
        payload: Vec<u8>,
    },
}

/// The answers to a query, as they come.
#[derive(Debug)]
pub struct Answers {
    id: QueryId,
    receiver: mpsc::Receiver<Answer>,
}

impl Answers {
    /// The query.
    pub fn id(&self) -> QueryId {
        self.id
    }

    /// The next answer; `None` when the query's time is over.
    pub async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

/// Opens both sockets at one port.
async fn bind(addr: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { addr, source };
    let mut attempt = 0;
    loop {
        attempt += 1;
        let tcp = TcpListener::bind(addr).await.map_err(failed)?;
        let bound = tcp.local_addr().map_err(failed)?;
        match UdpSocket::bind(bound).await {
            Ok(udp) => return Ok((udp, tcp, bound)),
            // The port that was free for TCP need not be free for UDP.
            Err(_) if addr.port() == 0 && attempt < PORT_ATTEMPTS => {}
            Err(source) => return Err(failed(source)),
        }
    }
}
