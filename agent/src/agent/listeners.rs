//! Listening sockets of the HTTP API.

use crate::config::Config;
use crate::error::StartError;
use crate::http::{Listener, bind_tcp, bind_unix};
use std::net::SocketAddr;

/// The bound sockets. They are bound before anything else starts, so that a port in use is noticed first.
pub(super) struct Listeners {
    pub(super) all: Vec<Listener>,
    pub(super) http: Option<SocketAddr>,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
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
