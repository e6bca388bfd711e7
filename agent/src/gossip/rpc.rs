//! Serf's RPC for the agent's member: the operations that Serf's own tools may perform.

use super::handlers::EventHandler;
use super::{Gossip, GossipError, tags};
use kvgossip_membership::driver::rpc::{Error, Host, Logs, Options, Server, section};
use kvgossip_membership::rpc::message::Stats;
use kvgossip_membership::{Membership, Text};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Settings of Serf's RPC.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// Address, authentication and limits of the RPC server.
    pub options: Options,
    /// The agent's log, for clients that monitor it; `None`: it cannot be monitored.
    pub logs: Option<Logs>,
}

impl RpcConfig {
    pub(super) fn check(&self) -> Result<(), GossipError> {
        self.options.check().map_err(GossipError::from)
    }
}

impl From<Error> for GossipError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLoopback(address) => Self::RpcNotLoopback(address),
            error => Self::Rpc(error),
        }
    }
}

struct RpcHost {
    gossip: Gossip,
    logs: Option<Logs>,
    handlers: Vec<EventHandler>,
}

impl Host for RpcHost {
    fn member(&self) -> Result<Membership, String> {
        let member = self.gossip.member().map_err(|error| error.to_string())?;
        Ok(Membership::clone(&member))
    }

    fn check_tag(&self, name: &Text) -> Result<(), String> {
        if tags::is_reserved(name) {
            return Err(GossipError::ReservedTag(name.clone()).to_string());
        }
        Ok(())
    }

    async fn leave(&self) -> Result<(), String> {
        self.gossip.leave().await.map_err(|error| error.to_string())
    }

    fn left(&self) {
        self.gossip.inner.told_to_end.cancel();
    }

    fn stats(&self) -> Stats {
        let inner = &self.gossip.inner;
        let own = section([
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("cluster", inner.cluster.to_string()),
            ("replica", inner.peers.id().to_string()),
            ("root", inner.peers.root().to_string()),
        ]);
        let handlers = self.handlers.iter().flat_map(EventHandler::listed).collect();
        [("kvgossip".into(), own), ("event_handlers".into(), handlers)].into()
    }

    fn logs(&self) -> Option<&Logs> {
        self.logs.as_ref()
    }
}

/// Serves RPC until the agent stops. After the member has left, requests get an error that says so.
pub(super) fn serve(
    gossip: &Gossip,
    config: RpcConfig,
    handlers: Vec<EventHandler>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<std::net::SocketAddr, GossipError> {
    let is_open = config.options.auth.is_none();
    let host = RpcHost { gossip: gossip.clone(), logs: config.logs, handlers };
    let server = Server::bind(config.options, host)?;
    let address = server.local_addr();
    if is_open && gossip.inner.encrypted {
        tracing::warn!(%address, "without a key every user of this machine can have the gossip keys listed here, and end this agent");
    }
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = server.run() => {}
        }
    });
    Ok(address)
}
