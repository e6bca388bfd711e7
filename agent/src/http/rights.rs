//! What a request may do, by the door it came through and what it shows.

use super::error::Refusal;
use super::{Door, Shared};
use crate::rights::Shown;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};

/// Routes that need no right: whoever asks whether the agent lives and is ready learns nothing else.
const OPEN_ROUTES: [&str; 2] = ["/healthz", "/readyz"];

/// Marks the requests of a connection that showed a certificate of the clients' authority.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certified;

fn shown<'a>(headers: &'a HeaderMap, extensions: &Extensions) -> Shown<'a> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    Shown { token, certificate: extensions.get::<Certified>().is_some() }
}

/// Refuses a request that lacks a right: by `missing`, unless what it shows is no token of this agent.
fn refuse(shared: &Shared, shown: Shown<'_>, missing: (&str, &str)) -> Refusal {
    let is_wrong = shown.token.is_some() && !shared.agent.rights().knows(shown);
    let (code, message) = if is_wrong { WRONG_TOKEN } else { missing };
    Refusal::new(StatusCode::UNAUTHORIZED, code, message)
}

/// The code and the message for a token that is none of the agent's.
const WRONG_TOKEN: (&str, &str) = (
    "http.wrong_token",
    "the token that was shown is not one of this agent's: compare the file of --token-file with the agent's own",
);

/// Refuses a request over TCP that may not read. Whatever changes something needs more, and asks for it itself.
pub(super) fn check_read(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    let shown = shown(request.headers(), request.extensions());
    let may_read = || shared.agent.rights().may_read(shown);
    if shared.door == Door::Socket || OPEN_ROUTES.contains(&request.uri().path()) || may_read() {
        return Ok(());
    }
    let message = "over TCP this agent is read with its read token (--token-file) or a client certificate (--client-cert); its Unix socket (--data-dir) needs neither";
    Err(refuse(shared, shown, ("http.read_right", message)))
}

/// Proof that a request may use the agent's identity, change the agent or make it dial.
pub(crate) struct Privileged;

impl FromRequestParts<Shared> for Privileged {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let shown = shown(&parts.headers, &parts.extensions);
        if shared.door == Door::Socket || shared.agent.rights().may_write(shown) {
            return Ok(Self);
        }
        let message = "over TCP this needs the agent's token (--token-file on both sides); its Unix socket (--data-dir) needs none";
        Err(refuse(shared, shown, ("http.token", message)))
    }
}
