//! Operators' changes to the gossip: forcing members out, changing keys and tags.

use super::{Gossip, GossipError, tags};
use kvgossip_api::{GossipKeysResponse, KeyCount};
use kvgossip_membership::core::KeyChange;
use kvgossip_membership::rpc::message::Keys;
use kvgossip_membership::{Status, Tags, Text};

impl Gossip {
    /// Declares that a failed member has left, so that no member tries to reach it; with `prune` it is forgotten at
    /// once. Returns whether this agent sees the member as alive: such a member refutes the declaration.
    pub async fn force_leave(&self, name: &Text, prune: bool) -> Result<bool, GossipError> {
        let member = self.member()?;
        if member.local_member().await?.name == *name {
            return Err(GossipError::OwnName(name.clone()));
        }
        let known = member.member(name).await?;
        member.force_leave(name, prune).await?;
        Ok(known
            .is_some_and(|known| matches!(known.status, Status::Alive | Status::Leaving) && !known.suspect))
    }

    /// Sets and deletes tags of this member.
    pub async fn update_tags(&self, set: Tags, delete: Vec<Text>) -> Result<(), GossipError> {
        if let Some(name) = set.keys().chain(&delete).find(|name| tags::is_reserved(name)) {
            return Err(GossipError::ReservedTag(name.clone()));
        }
        Ok(self.member()?.update_tags(set, delete).await?)
    }

    /// Changes the keyring of all members; `None`: only asks which keys they have.
    pub async fn keys(&self, change: Option<KeyChange>) -> Result<GossipKeysResponse, GossipError> {
        let member = self.member()?;
        Ok(response(match change {
            Some(change) => member.change_all_keys(change).await?,
            None => member.list_all_keys().await?,
        }))
    }
}

fn response(keys: Keys) -> GossipKeysResponse {
    let failure = keys.failure();
    let rows = keys.keys.into_iter().map(|(key, members)| KeyCount { key: key.to_string(), members });
    GossipKeysResponse {
        members: keys.nodes,
        answered: keys.responses,
        failed: keys.errors,
        keys: rows.collect(),
        messages: keys.messages.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
        failure,
    }
}
