//! Membership: the members of the cluster, and messages between them.

use crate::agent::AgentClient;
use crate::error::ClientError;
use kvgossip_api::{
    Done, EventRequest, ForceLeaveRequest, ForceLeaveResponse, GossipKeyRequest, GossipKeysResponse,
    JoinRequest, JoinResponse, MembersResponse, QueryRequest, QueryResponse, TagsRequest,
};
use std::time::Duration;

impl AgentClient {
    /// Lists all members that the agent knows.
    pub async fn members(&self) -> Result<MembersResponse, ClientError> {
        self.read("/v1/members").await
    }

    /// Makes the agent contact members (`HOST[:PORT]`) and learn of all others. Returns how many answered, and
    /// which did not.
    pub async fn join(&self, addresses: Vec<String>) -> Result<JoinResponse, ClientError> {
        self.post("/v1/join", &JoinRequest { addresses }, None).await
    }

    /// Makes the agent leave the gossip pool, so that other members do not count it as failed.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let Done {} = self.post("/v1/leave", &Done {}, None).await?;
        Ok(())
    }

    /// Makes the agent declare that a failed member has left. Returns whether that member is alive and refutes
    /// it.
    pub async fn force_leave(&self, request: &ForceLeaveRequest) -> Result<ForceLeaveResponse, ClientError> {
        self.post("/v1/force-leave", request, None).await
    }

    /// Changes the agent's own tags.
    pub async fn change_tags(&self, request: &TagsRequest) -> Result<(), ClientError> {
        let Done {} = self.post("/v1/tags", request, None).await?;
        Ok(())
    }

    /// Lists the gossip keys of all members; waits at most `limit` for their answers.
    pub async fn gossip_keys(&self, limit: Duration) -> Result<GossipKeysResponse, ClientError> {
        self.post("/v1/gossip-keys/list", &Done {}, Some(limit)).await
    }

    /// Makes the agent change the gossip keys of all members; waits at most `limit` for their answers.
    pub async fn change_gossip_keys(
        &self,
        request: &GossipKeyRequest,
        limit: Duration,
    ) -> Result<GossipKeysResponse, ClientError> {
        self.post("/v1/gossip-keys", request, Some(limit)).await
    }

    /// Makes the agent send an event to all members.
    pub async fn event(&self, event: &EventRequest) -> Result<(), ClientError> {
        let Done {} = self.post("/v1/event", event, None).await?;
        Ok(())
    }

    /// Makes the agent send a query to members; waits at most `limit` for their answers.
    pub async fn query(&self, query: &QueryRequest, limit: Duration) -> Result<QueryResponse, ClientError> {
        self.post("/v1/query", query, Some(limit)).await
    }
}
