//! An agent with its HTTP API: the listening sockets are bound first and served last.

use crate::agent::Agent;
use crate::config::Config;
use crate::error::StartError;
use crate::http::{Listener, bind_tcp, bind_unix};
use kvgossip_engine::{Replica, Storage};
use std::net::SocketAddr;

/// The bound listening sockets. They are bound before anything else starts, so that a port in use is noticed first.
struct Listeners {
    all: Vec<Listener>,
    http: Option<SocketAddr>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut listeners = Self { all: Vec::new(), http: None };
        if let Some(address) = config.http {
            let bound = bind_tcp(address).await;
            let (listener, address) = bound.map_err(|error| StartError::Http(address, error))?;
            listeners.all.push(listener);
            listeners.http = Some(address);
        }
        if let Some(path) = &config.socket {
            let bound = bind_unix(path).await;
            listeners.all.push(bound.map_err(|error| StartError::Socket { path: path.clone(), error })?);
        }
        Ok(listeners)
    }
}

impl Agent {
    /// Starts an agent on a store. It serves as soon as this returns.
    pub async fn start(config: Config, storage: Box<dyn Storage>) -> Result<Self, StartError> {
        let replica = Replica::load(config.root.clone(), storage.as_ref())?;
        Self::start_loaded(config, replica, storage).await
    }

    /// Starts an agent like [`Agent::start`], with a replica that is already [loaded](crate::open_store) from the
    /// store.
    pub async fn start_loaded(
        config: Config,
        replica: Replica,
        storage: Box<dyn Storage>,
    ) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config).await?;
        let socket = config.socket.clone();
        let started = Self::start_without_http(config, replica, storage, listeners.http).await;
        let agent = started.inspect_err(|_| {
            if let Some(socket) = socket {
                // Nobody would answer there.
                let _ = std::fs::remove_file(socket);
            }
        })?;
        for listener in listeners.all {
            agent.run(|agent, stop| listener.serve(agent, stop));
        }
        Ok(agent)
    }
}
