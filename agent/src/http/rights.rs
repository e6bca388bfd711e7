//! What a request may do, by the door it came through and what it shows.

use super::error::Refusal;
use super::{Door, Shared};
use crate::rights::Shown;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};

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
    Refusal::new(code, message)
}

/// The code and the message for a token that is none of the agent's.
const WRONG_TOKEN: (&str, &str) = (
    "http.wrong_token",
    "the token that was shown is not one of this agent's: compare the file of --token-file with the agent's own",
);

/// Routes whose `POST` needs no more than reading does: they ask, or bring facts whose own signatures say what they may
/// change. Every other request that is no `GET` or `HEAD` uses the agent's identity, changes the agent or makes it dial; a
/// route that is added counts so until it stands here.
const READ_BY_POST: [&str; 4] = ["/v1/facts", "/v1/explain", "/v1/plan", "/v1/watch"];

/// What a request needs over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Nothing.
    Open,
    /// To read.
    Read,
    /// To read, and to use the agent's identity, change it or make it dial.
    Write,
}

impl Right {
    /// What the request needs, by its method and the route that it was matched to. There is nothing to change where there
    /// is no route.
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

/// Refuses a request over TCP that lacks a right that it needs. The gate asks before anything of a body is read.
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

/// Proof that a request may use the agent's identity, change the agent or make it dial. [`check`] has looked before the
/// handler runs; this keeps a handler from being reached in another way.
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
