//! The agents of the demonstration.

use super::cast::name;
use super::wire::Wire;
use anyhow::Context;
use kvgossip_agent::{Agent, now};
use kvgossip_grants::{Fact, Verdict};
use std::time::Duration;

/// Maximum duration of one step of the demonstration.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The first three agents of the demonstration. The connection of the third can be cut.
pub(super) struct Stage {
    pub(super) agents: Vec<Agent>,
    pub(super) wire: Wire,
}

impl Stage {
    pub(super) fn root(&self, agent: usize) -> kvgossip_grants::Digest {
        self.agents[agent].store().view().root()
    }

    pub(super) fn all_equal(&self) -> bool {
        self.root(0) == self.root(1) && self.root(1) == self.root(2)
    }

    /// Returns the number of keys with a value at each agent.
    pub(super) fn set_keys(&self) -> Vec<usize> {
        let count = |agent: &Agent| {
            let (view, now) = (agent.store().view(), now());
            view.keys("", None)
                .filter(|(_, found)| found.shown(now).is_some_and(|entry| !entry.meta.is_delete))
                .count()
        };
        self.agents.iter().map(count).collect()
    }

    pub(super) fn is_connected(&self, from: usize, to: usize) -> bool {
        let id = self.agents[to].peers().id().to_string();
        self.agents[from].peers().rows().iter().any(|row| row.connected && row.id.as_ref() == Some(&id))
    }

    /// Whether the gossip of the agent at index `from` lists the agents at the indexes `others` with this status.
    pub(super) async fn sees(&self, from: usize, others: &[usize], status: &str) -> bool {
        let Ok(gossip) = self.agents[from].gossip() else { return false };
        let Ok(answer) = gossip.members().await else { return false };
        others.iter().all(|other| {
            let name = name(*other);
            answer.members.iter().any(|row| row.name == name && row.status == status)
        })
    }
}

/// Offers a fact to an agent, like an operator's command.
pub(super) async fn put(stage: &Stage, agent: usize, fact: Fact) -> anyhow::Result<Verdict> {
    let verdicts = stage.agents[agent].put_facts(&[Ok(fact)]).await?;
    verdicts.first().copied().context("no verdict")
}
