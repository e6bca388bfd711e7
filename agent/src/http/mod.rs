//! The agent's HTTP API.

mod authority;
mod complete;
mod error;
mod facts;
mod gate;
mod gossip;
mod handshake;
mod inspect;
mod kv;
mod listen;
mod own_name;
mod pages;
mod patient;
mod query;
mod rights;
mod watch;

pub use listen::{Listener, bind_tcp, bind_unix};
pub use own_name::is_host_name;

pub use crate::clients::HttpLimits;
pub use crate::tls::{ServerTls, TlsError};

pub(crate) use rights::Privileged;

use crate::agent::Agent;
use crate::authority_order::AuthorityOrder;
use crate::clients::Door;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use complete::Complete;
use error::Refusal;
use gate::Gate;
use query::Query;
use std::sync::Arc;

/// The state that all request handlers of one door share.
#[derive(Clone)]
pub(crate) struct Shared {
    agent: Agent,
    door: Door,
    gate: Arc<Gate>,
    authority_order: Arc<AuthorityOrder>,
}

/// Builds the routes of one door.
fn router(agent: Agent, door: Door) -> Router {
    let gate = Arc::new(Gate::new(agent.http_limits().clone()));
    let shared = Shared { agent, door, gate, authority_order: Arc::default() };
    Router::new()
        .route("/v1/kv/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/keys", get(kv::list))
        .route("/v1/facts", get(facts::page).post(facts::offer))
        .route("/v1/grants", get(authority::grants))
        .route("/v1/explain", post(authority::explain))
        .route("/v1/plan", post(authority::plan))
        .route("/v1/watch", get(watch::get).post(watch::post))
        .route("/v1/refusals", get(inspect::refusals))
        .route("/v1/status", get(inspect::status))
        .route("/v1/digest", get(inspect::digest))
        .route("/v1/sync", post(inspect::sync))
        .route("/v1/members", get(gossip::members))
        .route("/v1/join", post(gossip::join))
        .route("/v1/leave", post(gossip::leave))
        .route("/v1/force-leave", post(gossip::force_leave))
        .route("/v1/tags", post(gossip::tags))
        .route("/v1/gossip-keys", post(gossip::change_keys))
        .route("/v1/gossip-keys/list", post(gossip::list_keys))
        .route("/v1/event", post(gossip::event))
        .route("/v1/query", post(gossip::query))
        .route("/v1/diff", post(inspect::diff))
        .route("/v1/openapi.json", get(inspect::openapi))
        .route("/healthz", get(|_: Query<()>| async { "ok\n" }))
        .route("/readyz", get(inspect::ready))
        .route("/metrics", get(inspect::metrics))
        .fallback(|| async { Refusal::new("http.no_route", "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Refusal::new("http.method", "this route does not take that method")
        })
        .layer(middleware::from_fn_with_state(shared.clone(), gate::pass))
        // The gate has read the body, within its own limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}
