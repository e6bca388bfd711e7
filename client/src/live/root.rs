//! Determines the root key, for clients that trust their agents.

use super::places::Places;
use super::publish::publish_disconnected;
use super::registry::Shared;
use super::state::Trouble;
use crate::agent::AgentClient;
use crate::error::ClientError;
use kvgossip_grants::PublicKey;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Time limit for an agent to report the root key.
const MAX_ROOT_TIME: Duration = Duration::from_secs(5);

/// Asks an agent for the root key.
pub(crate) async fn root_of(agent: &AgentClient) -> Result<PublicKey, ClientError> {
    let status = agent.status().await?;
    PublicKey::from_pem(&status.root_pem)
        .map_err(|_| agent.http().unexpected("it names no root key".to_owned()))
}

/// Asks all agents concurrently for the root key. The first answer counts, so an agent that hangs delays
/// nobody.
pub(crate) async fn first_root(
    agents: impl Iterator<Item = AgentClient>,
) -> Result<PublicKey, Option<(String, ClientError)>> {
    let mut asked = JoinSet::new();
    for agent in agents {
        let agent = agent.with_timeout(MAX_ROOT_TIME);
        asked.spawn(
            async move { root_of(&agent).await.map_err(|error| (agent.endpoint().to_string(), error)) },
        );
    }
    let mut last = None;
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(root)) => return Ok(root),
            Ok(Err(error)) => last = Some(error),
            // The runtime is shutting down.
            Err(_) => {}
        }
    }
    Err(last)
}

/// Asks the agents for the root key, once something is subscribed.
pub(super) async fn ask_root(shared: &Shared, places: &mut Places) -> Option<PublicKey> {
    loop {
        while shared.registry.lock().is_empty() {
            shared.wake.notified().await;
        }
        match first_root((0..places.count()).filter_map(|place| places.agent(place).cloned())).await {
            Ok(root) => return Some(root),
            Err(last) => {
                if let Some((name, error)) = last {
                    shared.trouble.send_replace(Some(Trouble::of(name, &error)));
                }
                publish_disconnected(shared);
                places.failed(places.at(), Instant::now());
                places.advance();
                tokio::time::sleep_until(places.next_at()?).await;
            }
        }
    }
}
