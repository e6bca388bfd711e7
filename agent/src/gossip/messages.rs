//! User events and queries of this agent.

use super::{Gossip, GossipError, rows};
use kvgossip_api::QueryResponse;
use kvgossip_membership::driver::Answer;
use kvgossip_membership::{QueryParams, Text};

/// Maximum number of members' answers returned per query.
pub const MAX_ANSWERS: usize = 4096;

impl Gossip {
    /// Sends a user event to all members.
    pub async fn event(&self, name: &str, payload: &[u8], coalesce: bool) -> Result<(), GossipError> {
        Ok(self.member()?.user_event(name, payload, coalesce).await?)
    }

    /// Sends a query, and gathers the members' answers until the query's time is over.
    pub async fn query(
        &self,
        name: &str,
        payload: &[u8],
        params: QueryParams,
    ) -> Result<QueryResponse, GossipError> {
        let member = self.member()?;
        if !params.nodes.is_empty() {
            let (own, others) = (member.local_member().await?, member.members().await?);
            let is_known = |name: &&Text| others.iter().chain([&own]).any(|known| known.name == **name);
            // No unknown member can answer, and the lack of answers would be misread as theirs.
            if let Some(unknown) = params.nodes.iter().find(|name| !is_known(name)) {
                return Err(GossipError::UnknownMember(unknown.clone()));
            }
        }
        let mut answers = member.query(name, payload, params).await?;
        let mut gathered = QueryResponse::default();
        while let Some(answer) = answers.next().await {
            if gathered.acks.len() + gathered.responses.len() >= MAX_ANSWERS {
                break;
            }
            match answer {
                Answer::Ack(from) => gathered.acks.push(from.to_string()),
                Answer::Response { from, payload } => gathered.responses.push(rows::response(&from, payload)),
            }
        }
        Ok(gathered)
    }
}
