//! Gossip over HTTP. Members, and tags to delete, are given by their names as displayed; all other texts are taken
//! literally.

use super::error::{Refusal, body};
use super::query::Query;
use super::{Privileged, Shared};
use crate::gossip::{GossipError, JoinTarget, ParseJoinError};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{
    Done, EventRequest, ForceLeaveRequest, ForceLeaveResponse, GossipKeyRequest, GossipKeysResponse,
    JoinRequest, JoinResponse, KeyAction, MAX_JOINS, MAX_QUERY_MS, MembersResponse, QueryRequest,
    QueryResponse, TagsRequest,
};
use kvgossip_membership::core::KeyChange;
use kvgossip_membership::{Key, QueryParams, Text};
use std::time::Duration;

type Body<T> = Result<Json<T>, JsonRejection>;

fn payload(text: &str) -> Result<Vec<u8>, Refusal> {
    let malformed = |error| Refusal::new("http.body", format!("payload_b64: {error}"));
    BASE64_STANDARD.decode(text).map_err(malformed)
}

impl From<GossipError> for Refusal {
    fn from(error: GossipError) -> Self {
        Self::new(error.code(), error)
    }
}

/// Lists members. Without gossip the list is empty.
pub(super) async fn members(
    State(shared): State<Shared>,
    _: Query<()>,
) -> Result<Json<MembersResponse>, Refusal> {
    let Ok(gossip) = shared.agent.gossip() else { return Ok(Json(MembersResponse::default())) };
    match gossip.members().await {
        Err(GossipError::Left) => Ok(Json(MembersResponse { left: true, ..MembersResponse::default() })),
        done => Ok(Json(done?)),
    }
}

/// Contacts the members that the request names, to join their gossip.
pub(super) async fn join(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Body<JoinRequest>,
) -> Result<Json<JoinResponse>, Refusal> {
    let request = body(json)?;
    if request.addresses.is_empty() || request.addresses.len() > MAX_JOINS {
        let message = format!("addresses: 1 to {MAX_JOINS} members are named");
        return Err(Refusal::new("http.body", message));
    }
    let parsed = request.addresses.iter().map(|text| text.parse()).collect();
    let malformed = |error: ParseJoinError| Refusal::new("http.body", error);
    let targets: Vec<JoinTarget> = Result::map_err(parsed, malformed)?;
    let joined = shared.agent.gossip()?.join(&targets).await?;
    Ok(Json(JoinResponse { joined: joined.answered, failed: joined.failed }))
}

/// Makes this agent leave the gossip.
pub(super) async fn leave(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
) -> Result<Json<Done>, Refusal> {
    shared.agent.gossip()?.leave().await?;
    Ok(Json(Done {}))
}

/// Declares that a failed member has left.
pub(super) async fn force_leave(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Body<ForceLeaveRequest>,
) -> Result<Json<ForceLeaveResponse>, Refusal> {
    let request = body(json)?;
    let name = Text::from_shown(&request.name);
    let alive = shared.agent.gossip()?.force_leave(&name, request.prune).await?;
    Ok(Json(ForceLeaveResponse { alive }))
}

/// Changes this member's tags.
pub(super) async fn tags(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Body<TagsRequest>,
) -> Result<Json<Done>, Refusal> {
    let request = body(json)?;
    let set = request.set.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let delete = request.delete.iter().map(|name| Text::from_shown(name)).collect();
    shared.agent.gossip()?.update_tags(set, delete).await?;
    Ok(Json(Done {}))
}

/// Lists the gossip keys that the members have. The answer contains secrets: its reader can join the gossip.
pub(super) async fn list_keys(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
) -> Result<Json<GossipKeysResponse>, Refusal> {
    Ok(Json(shared.agent.gossip()?.keys(None).await?))
}

/// Changes the keyring of all members.
pub(super) async fn change_keys(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Body<GossipKeyRequest>,
) -> Result<Json<GossipKeysResponse>, Refusal> {
    let request = body(json)?;
    // The error message does not repeat the key.
    let malformed = |error| Refusal::new("http.body", format!("key: {error}"));
    let key = Key::from_base64(&request.key).map_err(malformed)?;
    let change = match request.action {
        KeyAction::Install => KeyChange::Install(key),
        KeyAction::Use => KeyChange::Use(key),
        KeyAction::Remove => KeyChange::Remove(key),
    };
    Ok(Json(shared.agent.gossip()?.keys(Some(change)).await?))
}

/// Sends a user event.
pub(super) async fn event(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Body<EventRequest>,
) -> Result<Json<Done>, Refusal> {
    let request = body(json)?;
    let payload = payload(&request.payload_b64)?;
    shared.agent.gossip()?.event(&request.name, &payload, request.coalesce).await?;
    Ok(Json(Done {}))
}

/// Sends a query to members; returns their answers when the query's time is over.
pub(super) async fn query(
    _: Privileged,
    State(shared): State<Shared>,
    _: Query<()>,
    json: Body<QueryRequest>,
) -> Result<Json<QueryResponse>, Refusal> {
    let request = body(json)?;
    let payload = payload(&request.payload_b64)?;
    if request.timeout_ms.is_some_and(|ms| ms > MAX_QUERY_MS) {
        return Err(Refusal::new("http.body", format!("timeout_ms: at most {MAX_QUERY_MS}")));
    }
    let params = QueryParams {
        nodes: request.nodes.iter().map(|name| Text::from_shown(name)).collect(),
        tags: request.tags.into_iter().map(|(tag, expr)| (tag.into(), expr.into())).collect(),
        request_ack: request.ack,
        relay_factor: request.relay_factor,
        timeout: request.timeout_ms.map(Duration::from_millis),
    };
    Ok(Json(shared.agent.gossip()?.query(&request.name, &payload, params).await?))
}
