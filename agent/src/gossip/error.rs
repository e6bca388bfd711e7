//! Errors of gossip.

use super::MAX_HANDLERS;
use kvgossip_membership::Text;
use kvgossip_membership::core::CommandError;
use std::net::SocketAddr;

/// The error of starting gossip or of an operation on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The agent was started without gossip, which the operation needs.
    #[error("this agent takes no part in gossip; start it with --bind")]
    Off,
    /// The agent has left the gossip, which the operation needs.
    #[error("this agent has left the gossip; start it again with --join or --rejoin to come back")]
    Left,
    /// Another member has this agent's name.
    #[error(
        "another member has the name {0:?}; restart this agent under another --name, or, if its data directory was copied, with one of its own"
    )]
    NameLost(Text),
    /// Gossip without keys was configured on this address, which is not loopback, and plaintext was not allowed.
    #[error(
        "gossip on {0} would be open to whoever reaches that port; give the cluster's key with --keyring, or say --plaintext-gossip"
    )]
    Plaintext(SocketAddr),
    /// The listening address is unspecified, and no address to advertise was found.
    #[error(
        "gossip on {0} listens at all addresses, and none is found that others could be told: name one with --advertise"
    )]
    NoAdvertise(SocketAddr),
    /// The tag to set or delete is one of those that only the agent itself sets.
    #[error("the tag {0} is set by the agent itself")]
    ReservedTag(Text),
    /// No member of the requested name is known.
    #[error("no member is named {0:?}")]
    UnknownMember(Text),
    /// The requested name is that of this agent, where another member is required.
    #[error("{0:?} is this agent itself: it leaves by `leave`, and forces others out")]
    OwnName(Text),
    /// No member could be joined; the text says why.
    #[error("{0}")]
    Join(String),
    /// No member could be joined within the configured number of rounds.
    #[error("nobody was joined in {rounds} rounds: {why}")]
    GaveUp {
        /// Number of rounds of joining tried.
        rounds: u32,
        /// Failure of the last round of joining.
        why: String,
    },
    /// Discovery by multicast cannot be started.
    #[error("members cannot be looked for with --discover: {0}")]
    Discover(std::io::Error),
    /// The request is malformed: a name or an answer that is too long, or a filter that does not parse.
    #[error("{0}")]
    Refused(String),
    /// Too many operations of the kind that the text names are in progress or queued. Nothing was done.
    #[error("{0}; try again in a moment")]
    Busy(String),
    /// RPC without a key was configured on this address, which is not loopback.
    #[error(
        "RPC on {0} would be open to whoever reaches that port; give a file with a key with --rpc-auth-file, or a loopback address"
    )]
    RpcNotLoopback(SocketAddr),
    /// RPC cannot be served.
    #[error("{0}; if another agent runs there, stop it or give another --rpc address")]
    Rpc(kvgossip_membership::driver::rpc::Error),
    /// More than [`MAX_HANDLERS`](super::MAX_HANDLERS) event handlers.
    #[error("an agent has at most {MAX_HANDLERS} event handlers")]
    Handlers,
    /// Gossip cannot be started: the sockets, the snapshot file or the settings are unusable.
    #[error("gossip cannot be started: {0}")]
    Start(kvgossip_membership::Error),
}

impl GossipError {
    /// Returns the stable error code.
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
