//! Codes of the HTTP API, on the agent's and the client's side.

use super::{Exit, Table};

/// Codes of the HTTP API.
pub(super) const HTTP: Table = &[
    (
        "http.token",
        Exit::NotAuthorised,
        "over TCP this needs the agent's token; give --token-file, or use the agent's Unix socket",
    ),
    (
        "http.read_right",
        Exit::NotAuthorised,
        "over TCP this agent is read with a right alone; give its read token with --token-file or a certificate with --client-cert, or use its Unix socket",
    ),
    (
        "http.wrong_token",
        Exit::NotAuthorised,
        "the token of --token-file is not one of the agent's; compare the file with the agent's own",
    ),
    ("http.tls", Exit::Unreachable, "the agent's port speaks HTTPS alone; write https:// in --agent"),
    (
        "http.host",
        Exit::NotAuthorised,
        "the Host header comes twice, or it or the host of an absolute target is neither an address, nor localhost, nor a name of the certificate; reach the agent by its address, or have it know the name with --http-host",
    ),
    ("http.no_route", Exit::Error, "the agent has no such route; compare the versions"),
    ("http.method", Exit::Error, "the route does not take that method"),
    (
        "http.query",
        Exit::Error,
        "a parameter of the query is unknown, repeated, malformed or beyond its limits",
    ),
    (
        "http.header",
        Exit::Error,
        "a header is malformed, a condition that means nothing here, or a coding of the body (Content-Encoding, Transfer-Encoding) that is not taken",
    ),
    ("http.body", Exit::Error, "the body is too large, or not the JSON that the route takes"),
    ("http.too_many_facts", Exit::Error, "too many facts in one request; send them in parts"),
    ("http.busy", Exit::TimedOut, "the agent has no room for the request now; try again in a moment"),
    (
        "http.slow",
        Exit::TimedOut,
        "the body of the request did not come in time (10 s, and 1 s for each 16 KiB); send it without pauses",
    ),
    (
        "http.timeout",
        Exit::TimedOut,
        "the agent gave the request up after its limit of time; what it was to change may still happen: look first",
    ),
    ("http.shutdown", Exit::Unreachable, "the agent is shutting down; ask another, or again later"),
    (
        "client.not_ready",
        Exit::TimedOut,
        "no agent gave a verified answer in time; is one running, and is the root key that of its cluster?",
    ),
    (
        "client.too_few",
        Exit::TimedOut,
        "fewer agents than were to be asked gave an answer that verifies; ask others, or fewer",
    ),
    (
        "agent.withheld",
        Exit::Integrity,
        "an agent says that it holds what another one told, and does not tell it; the client has left it: find out who runs it, and why",
    ),
    (
        "agent.behind",
        Exit::TimedOut,
        "an agent lacks what another one told, and does not take it or does not come to tell it; another is asked: see `status` at this one",
    ),
    (
        "entry.no_value",
        Exit::TimedOut,
        "an entry stands, and no agent that is known gives its value; name further agents, or write the key anew",
    ),
    ("client.closed", Exit::Error, "the client was dropped while it was asked"),
    (
        "entry.unreadable",
        Exit::Error,
        "an agent cannot read an entry from its store; ask another agent, and see `status` at this one for what to do",
    ),
    (
        "watch.limit",
        Exit::Error,
        "the agent has as many watchers as it serves, or no room for so many keys and filters; watch at another agent",
    ),
    (
        "watch.too_much",
        Exit::Error,
        "too many keys or filters for one watch, or more than 256 KiB of globs; use several",
    ),
    ("entity.malformed", Exit::Error, "the text is not an entity's id"),
    (
        "agent.no_identity",
        Exit::NotAuthorised,
        "the agent has no identity to sign with; start it with --identity, or sign in the command with --identity",
    ),
    (
        "clock.contradicted",
        Exit::Error,
        "most of three or more peers contradict the agent's clock by more than 2 minutes, so it signs nothing; set its clock, or write at another agent",
    ),
    (
        "clock.differs",
        Exit::Error,
        "the clock of the agent and those of peers differ by more than 30 s; set the one that is wrong",
    ),
    (
        "clock.store_ahead",
        Exit::Error,
        "entries of the agent's own store are ahead of its clock, and peers do not take them in until they are due; set the clock if it is wrong, or else start the agent with --forget-future",
    ),
    ("agent.signing", Exit::Error, "the agent could not sign; see its log"),
];
