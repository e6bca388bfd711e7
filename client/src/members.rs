//! Membership: who is there, and what members tell each other.

use crate::agent::AgentClient;
use crate::error::ClientError;
use kvgossip_api::{
    Done, EventRequest, ForceLeaveRequest, ForceLeaveResponse, GossipKeyRequest, GossipKeysResponse,
    JoinRequest, JoinResponse, MembersResponse, QueryRequest, QueryResponse, TagsRequest,
};
use std::time::Duration;

impl AgentClient {
    /// All members that the agent knows.
    pub async fn members(&self) -> Result<MembersResponse, ClientError> {
        self.read("/v1/members").await
    }

    /// Has the agent contact members (`HOST[:PORT]`) and learn of all others; gives how many answered, and which did not.
    pub async fn join(&self, addresses: Vec<String>) -> Result<JoinResponse, ClientError> {
        self.post("/v1/join", &JoinRequest { addresses }, None).await
    }

    /// Has the agent leave the gossip, so that the others know that it is no failure.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let Done {} = self.post("/v1/leave", &Done {}, None).await?;
        Ok(())
    }

    /// Has the agent declare that a failed member has left; says whether it is alive, and refutes that.
    pub async fn force_leave(&self, request: &ForceLeaveRequest) -> Result<ForceLeaveResponse, ClientError> {
        self.post("/v1/force-leave", request, None).await
    }

    /// Changes the agent's own tags.
    pub async fn change_tags(&self, request: &TagsRequest) -> Result<(), ClientError> {
        let Done {} = self.post("/v1/tags", request, None).await?;
        Ok(())
    }

    /// Which gossip keys the members have; waits for their answers, at most `limit`.
    pub async fn gossip_keys(&self, limit: Duration) -> Result<GossipKeysResponse, ClientError> {
        self.post("/v1/gossip-keys/list", &Done {}, Some(limit)).await
    }

    /// Has the agent change the gossip keys of all members; waits for their answers, at most `limit`.
    pub async fn change_gossip_keys(
        &self,
        request: &GossipKeyRequest,
        limit: Duration,
    ) -> Result<GossipKeysResponse, ClientError> {
        self.post("/v1/gossip-keys", request, Some(limit)).await
    }

    /// Has the agent send an event to all members.
    pub async fn event(&self, event: &EventRequest) -> Result<(), ClientError> {
        let Done {} = self.post("/v1/event", event, None).await?;
        Ok(())
    }

    /// Has the agent ask members, and waits for the answers, at most `limit`.
    pub async fn query(&self, query: &QueryRequest, limit: Duration) -> Result<QueryResponse, ClientError> {
        self.post("/v1/query", query, Some(limit)).await
    }
}
