//! The rights that a request needs and has, by its door and its credentials.

use super::Shared;
use super::error::Refusal;
use crate::clients::Door;
use crate::rights::Shown;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};

/// Routes that need no right: they reveal only whether the agent is alive and ready.
const OPEN_ROUTES: [&str; 2] = ["/healthz", "/readyz"];

/// Marks requests of a connection whose client authenticated with a certificate of the configured authority.
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

/// Rejects a request that lacks a right: with `missing`, or with [`WRONG_TOKEN`] if its token is not one of the
/// agent's.
fn refuse(shared: &Shared, shown: Shown<'_>, missing: (&str, &str)) -> Refusal {
    let is_wrong = shown.token.is_some() && !shared.agent.rights().knows(shown);
    let (code, message) = if is_wrong { WRONG_TOKEN } else { missing };
    Refusal::new(code, message)
}

/// Code and message of the error for a token that is not one of the agent's.
const WRONG_TOKEN: (&str, &str) = (
    "http.wrong_token",
    "the token that was shown is not one of this agent's: compare the file of --token-file with the agent's own",
);

/// Routes whose `POST` needs only the right to read: they query, or bring facts whose signatures decide what they may
/// change. Every other request except `GET` and `HEAD` needs the right to write, and so does a new route until it is
/// listed here.
const READ_BY_POST: [&str; 4] = ["/v1/facts", "/v1/explain", "/v1/plan", "/v1/watch"];

/// The right that a request over TCP needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// No right: every request may use the route.
    Open,
    /// The right to read.
    Read,
    /// The right to read, and to use the agent's identity, change the agent or make it dial.
    Write,
}

impl Right {
    /// Returns the right that a request needs, by its method and matched route. Without a matching route it is the
    /// right to read.
    fn needed(request: &Request) -> Self {
        let Some(route) = request.extensions().get::<MatchedPath>() else { return Self::Read };
        let asks = matches!(*request.method(), Method::GET | Method::HEAD);
        match route.as_str() {
            route if OPEN_ROUTES.contains(&route) => Self::Open,
            _ if asks => Self::Read,
            route if READ_BY_POST.contains(&route) && request.method() == Method::POST => Self::Read,
            _ => Self::Write,
        }
    }
}

/// Rejects a request over TCP that lacks a right. The gate calls it before reading the body.
pub(super) fn check(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    let needed = Right::needed(request);
    if shared.door == Door::Socket || needed == Right::Open {
        return Ok(());
    }
    let shown = shown(request.headers(), request.extensions());
    if !shared.agent.rights().may_read(shown) {
        let message = "over TCP this agent is read with its read token (--token-file) or a client certificate (--client-cert); its Unix socket (--data-dir) needs neither";
        return Err(refuse(shared, shown, ("http.read_right", message)));
    }
    if needed == Right::Write && !shared.agent.rights().may_write(shown) {
        return Err(lacks_token(shared, shown));
    }
    Ok(())
}

fn lacks_token(shared: &Shared, shown: Shown<'_>) -> Refusal {
    let message = "over TCP this needs the agent's token (--token-file on both sides); its Unix socket (--data-dir) needs none";
    refuse(shared, shown, ("http.token", message))
}

/// Proof that a request may use the agent's identity, change the agent or make it dial. [`check`] has run before the
/// handler; this guards against reaching the handler in another way.
pub(crate) struct Privileged;

impl FromRequestParts<Shared> for Privileged {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let shown = shown(&parts.headers, &parts.extensions);
        if shared.door == Door::Socket || shared.agent.rights().may_write(shown) {
            return Ok(Self);
        }
        Err(lacks_token(shared, shown))
    }
}
