//! Clients of agents in this process, with short limits.

pub mod liar;
pub mod tap;
pub mod withholder;

use kvgossip_agent::Agent;
use kvgossip_client::{Client, ClientBuilder, Endpoint, State, Subscription};
use kvgossip_grants::{Key, Signer};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Parses a valid key.
pub fn key(text: &str) -> Key {
    Key::parse(text).expect("a key")
}

/// Returns the endpoint of an address.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    format!("http://{address}").parse().expect("an endpoint")
}

/// Returns a builder of a client of these agents.
pub fn builder(agents: &[&Agent]) -> ClientBuilder {
    let addresses: Vec<_> = agents.iter().map(|agent| agent.http_address().expect("TCP")).collect();
    at(&addresses)
}

/// Returns a builder of a client of the agents at these addresses.
pub fn at(addresses: &[SocketAddr]) -> ClientBuilder {
    let builder = Client::builder()
        .root(crate::agents::root().public().clone())
        .silence(Duration::from_secs(3))
        .backoff(Duration::from_millis(20), Duration::from_millis(200));
    addresses.iter().fold(builder, |builder, address| builder.endpoint(endpoint(*address)))
}

/// Returns a client of these agents.
pub fn client(agents: &[&Agent]) -> Client {
    builder(agents).build().expect("a client")
}

/// Returns the value of a state as text, or a marker for a state without a value.
pub fn text(state: &State) -> String {
    state.value.entry().map_or("(none)".into(), |entry| String::from_utf8_lossy(&entry.value).into_owned())
}

/// Records every value of a subscription until its client is dropped.
pub struct Seen(Option<JoinHandle<Vec<String>>>);

/// Starts to record a subscription.
pub fn record(sub: &Subscription) -> Seen {
    let mut sub = sub.clone();
    Seen(Some(tokio::spawn(async move {
        let mut values = vec![text(&sub.state())];
        while let Ok(state) = sub.changed().await {
            values.push(text(&state));
        }
        values
    })))
}

impl Seen {
    /// Returns the recorded values, oldest first. Completes when the client is dropped.
    pub async fn finish(&mut self) -> Vec<String> {
        self.0.take().expect("once").await.expect("no panic")
    }
}
