//! The agent's HTTP API.

mod error;
mod facts;
mod inspect;
mod kv;
mod listen;
mod watch;

pub use listen::{Listener, MAX_CONNECTIONS, bind_tcp, bind_unix};

use crate::agent::Agent;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use error::Refusal;
use std::net::IpAddr;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket, which only this user can open.
    Socket,
    /// TCP: what uses the agent's identity, changes the agent or makes it dial needs the token.
    Tcp,
}

/// What every handler has at hand.
#[derive(Clone)]
pub(crate) struct Shared {
    agent: Agent,
    door: Door,
}

/// The routes, for one door.
pub fn router(agent: Agent, door: Door) -> Router {
    let shared = Shared { agent, door };
    Router::new()
        .route("/v1/kv/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/keys", get(kv::list))
        .route("/v1/facts", get(facts::page).post(facts::offer))
        .route("/v1/grants", get(facts::grants))
        .route("/v1/explain", post(facts::explain))
        .route("/v1/plan", post(facts::plan))
        .route("/v1/watch", get(watch::get).post(watch::post))
        .route("/v1/refusals", get(inspect::refusals))
        .route("/v1/status", get(inspect::status))
        .route("/v1/digest", get(inspect::digest))
        .route("/v1/sync", post(inspect::sync))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(inspect::ready))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "http.no_route", "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "http.method",
                "this route does not take that method",
            )
        })
        .layer(middleware::from_fn_with_state(shared.clone(), check_host))
        .layer(DefaultBodyLimit::max(kvgossip_api::MAX_BODY_BYTES))
        .with_state(shared)
}

/// Refuses requests for other hosts: a web page that has its own name resolve to this address has the browser
/// send that name.
async fn check_host(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if shared.door == Door::Tcp && !is_own_name(host) {
        let message = format!("the Host header {host:?} is neither an address nor localhost");
        return Refusal::new(StatusCode::FORBIDDEN, "http.host", &message).into_response();
    }
    next.run(request).await
}

fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Proof that a request may use the agent's identity, change the agent or make it dial.
pub(crate) struct Privileged;

impl FromRequestParts<Shared> for Privileged {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.strip_prefix("Bearer "));
        if shared.door == Door::Socket || token.is_some_and(|token| shared.agent.accepts_token(token)) {
            return Ok(Self);
        }
        let message =
            "over TCP this needs the agent's token (--token-file on both sides); its Unix socket needs none";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "http.token", message))
    }
}

#[cfg(test)]
mod tests {
    use super::is_own_name;

    #[test]
    fn only_addresses_and_localhost_are_own_names() {
        for host in ["127.0.0.1:7948", "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:80", "[::1]"] {
            assert!(is_own_name(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7948", "127.0.0.1.evil.example:80"] {
            assert!(!is_own_name(host), "{host}");
        }
    }
}
