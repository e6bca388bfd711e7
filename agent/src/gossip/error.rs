//! Why gossip does not do what it is told.

use super::MAX_HANDLERS;
use kvgossip_membership::Text;
use kvgossip_membership::core::CommandError;
use std::net::SocketAddr;

/// Why the agent does not take part in gossip, or does not do there what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// It was started without.
    #[error("this agent takes no part in gossip; start it with --bind")]
    Off,
    /// It has left.
    #[error("this agent has left the gossip; start it again with --join or --rejoin to come back")]
    Left,
    /// Another member has its name.
    #[error(
        "another member has the name {0:?}; restart this agent under another --name, or, if its data directory was copied, with one of its own"
    )]
    NameLost(Text),
    /// An address that is not loopback, without keys.
    #[error(
        "gossip on {0} would be open to whoever reaches that port; give the cluster's key with --keyring, or say --plaintext-gossip"
    )]
    Plaintext(SocketAddr),
    /// All addresses to listen at, and none that others could be told.
    #[error(
        "gossip on {0} listens at all addresses, and none is found that others could be told: name one with --advertise"
    )]
    NoAdvertise(SocketAddr),
    /// A tag that the agent sets itself.
    #[error("the tag {0} is set by the agent itself")]
    ReservedTag(Text),
    /// Nobody of that name is known.
    #[error("no member is named {0:?}")]
    UnknownMember(Text),
    /// It names this agent where another member is meant.
    #[error("{0:?} is this agent itself: it leaves by `leave`, and forces others out")]
    OwnName(Text),
    /// Nobody could be joined.
    #[error("{0}")]
    Join(String),
    /// Nobody could be joined for as long as it was to be tried.
    #[error("nobody was joined in {rounds} rounds: {why}")]
    GaveUp {
        /// How many rounds were tried.
        rounds: u32,
        /// What came of the last one.
        why: String,
    },
    /// Others cannot be looked for by multicast.
    #[error("members cannot be looked for with --discover: {0}")]
    Discover(std::io::Error),
    /// The request is malformed: a name or an answer that is too long, or a filter that does not parse.
    #[error("{0}")]
    Refused(String),
    /// Too much of the kind is under way, or waits to be sent. Nothing was done.
    #[error("{0}; try again in a moment")]
    Busy(String),
    /// RPC on an address that is not loopback, without a key.
    #[error(
        "RPC on {0} would be open to whoever reaches that port; give a file with a key with --rpc-auth-file, or a loopback address"
    )]
    RpcNotLoopback(SocketAddr),
    /// RPC cannot be served.
    #[error("{0}; if another agent runs there, stop it or give another --rpc address")]
    Rpc(kvgossip_membership::driver::rpc::Error),
    /// More event handlers than an agent has.
    #[error("an agent has at most {MAX_HANDLERS} event handlers")]
    Handlers,
    /// The sockets, the snapshot file or the settings.
    #[error("gossip cannot be started: {0}")]
    Start(kvgossip_membership::Error),
}

impl GossipError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Off => "gossip.off",
            Self::Left => "gossip.left",
            Self::NameLost(_) => "gossip.name_lost",
            Self::Plaintext(_) => "gossip.plaintext",
            Self::NoAdvertise(_) => "gossip.no_advertise",
            Self::ReservedTag(_) => "gossip.reserved_tag",
            Self::UnknownMember(_) => "gossip.unknown_member",
            Self::Join(_) => "gossip.join_failed",
            Self::GaveUp { .. } => "gossip.gave_up",
            Self::Discover(_) => "gossip.discover",
            Self::Refused(_) | Self::OwnName(_) => "gossip.refused",
            Self::Busy(_) => "gossip.busy",
            Self::RpcNotLoopback(_) => "gossip.rpc_not_loopback",
            Self::Rpc(_) => "agent.address",
            Self::Start(_) | Self::Handlers => "gossip.start",
        }
    }
}

impl From<kvgossip_membership::Error> for GossipError {
    fn from(error: kvgossip_membership::Error) -> Self {
        match error {
            kvgossip_membership::Error::Join(_) => {
                let text = error.to_string();
                Self::Join(text.strip_prefix("cannot join: ").map(str::to_owned).unwrap_or(text))
            }
            kvgossip_membership::Error::Stopped => Self::Left,
            kvgossip_membership::Error::Command(CommandError::UnknownMember(name)) => {
                Self::UnknownMember(name)
            }
            kvgossip_membership::Error::Command(CommandError::Busy(_)) => Self::Busy(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}
