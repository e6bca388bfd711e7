//! Problems with the replicas and members around: cloned ids, and members of another cluster.

use super::Agent;
use kvgossip_transport::Code;

/// Maximum number of other replicas whose cloned key is reported, one reason each; further ones are left out.
const MAX_NAMED: usize = 3;

impl Agent {
    /// Returns the problems with replicas and members, each as a stable code and a text: replica keys that two
    /// processes use, and all problems that gossip reports. None of them makes the agent unready.
    pub fn discovery_reasons(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let (own, others) = self.inner.peers.clones();
        if own {
            let text = "another running process uses this replica's key: its data directory or key was copied; stop one of \
                        them, and give it a data directory of its own";
            found.push((Code::Cloned.name(), text.to_owned()));
        }
        for id in others.iter().take(MAX_NAMED) {
            let text =
                format!("two running processes use the key of replica {id}: its data directory was copied");
            found.push((Code::Cloned.name(), text));
        }
        if let Some(gossip) = &self.inner.gossip {
            found.extend(gossip.reasons());
        }
        found
    }

    /// Returns the number of replica keys that two processes use, this agent's own key included.
    pub(super) fn cloned_keys(&self) -> u64 {
        let (own, others) = self.inner.peers.clones();
        u64::from(own) + others.len() as u64
    }
}
